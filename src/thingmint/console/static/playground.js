// Files for the fields of an operation, and test pairs. Without JavaScript, certificates are pasted.
"use strict";

// DER (X.690), as far as a certificate needs it.
const joined = (...parts) => {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
};

const length = (size) => {
  if (size < 128) return [size];
  const bytes = [];
  for (let rest = size; rest; rest >>= 8) bytes.unshift(rest & 255);
  return [128 | bytes.length, ...bytes];
};

const der = (tag, ...parts) => {
  const content = joined(...parts);
  return joined(Uint8Array.from([tag, ...length(content.length)]), content);
};

const sequence = (...parts) => der(0x30, ...parts);
const text = (tag, content) => der(tag, new TextEncoder().encode(content));
const bits = (content) => der(0x03, Uint8Array.of(0), content);

const integer = (bytes) => {
  let first = 0;
  while (first < bytes.length - 1 && bytes[first] === 0) first += 1;
  const shortest = bytes.slice(first);
  return der(0x02, shortest[0] & 128 ? Uint8Array.of(0) : Uint8Array.of(), shortest);
};

const oid = (dotted) => {
  const [first, second, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const arc of rest) {
    const groups = [arc & 127];
    for (let left = arc >> 7; left; left >>= 7) groups.unshift((left & 127) | 128);
    bytes.push(...groups);
  }
  return der(0x06, Uint8Array.from(bytes));
};

// RFC 5280, 4.1.2.5: UTCTime until 2049, GeneralizedTime after.
const time = (moment) => {
  const digits = moment.toISOString().replace(/[-:T]/g, "").slice(0, 14) + "Z";
  return moment.getUTCFullYear() < 2050 ? text(0x17, digits.slice(2)) : text(0x18, digits);
};

const ECDSA_WITH_SHA256 = sequence(oid("1.2.840.10045.4.3.2"));
const DAY = 24 * 60 * 60 * 1000;

const extension = (id, isCritical, value) =>
  sequence(oid(id), isCritical ? der(0x01, Uint8Array.of(255)) : new Uint8Array(), der(0x04, value));

// WebCrypto signs as r and s beside each other; X.509 has a sequence of both.
const signatureOf = (raw) => sequence(integer(raw.slice(0, raw.length / 2)), integer(raw.slice(raw.length / 2)));

const pem = (label, content) => {
  const encoded = btoa(String.fromCharCode(...content));
  return `-----BEGIN ${label}-----\n${encoded.match(/.{1,64}/g).join("\n")}\n-----END ${label}-----\n`;
};

// A key pair on P-256, and a certificate of it that is signed with it and valid for a year.
async function makePair() {
  const sign = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = await crypto.subtle.generateKey(sign, true, ["sign", "verify"]);
  const exported = async (format, key) => new Uint8Array(await crypto.subtle.exportKey(format, key));
  const serial = crypto.getRandomValues(new Uint8Array(16));
  serial[0] = (serial[0] & 63) | 64; // positive, and always 16 bytes
  const tail = Array.from(serial.slice(-4), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const name = sequence(der(0x31, sequence(oid("2.5.4.3"), text(0x0c, `test device ${tail}`))));
  const now = Date.now();
  const content = sequence(
    der(0xa0, integer(Uint8Array.of(2))), // version 3
    integer(serial),
    ECDSA_WITH_SHA256,
    name,
    sequence(time(new Date(now - DAY)), time(new Date(now + 365 * DAY))), // clocks may differ
    name,
    await exported("spki", keys.publicKey),
    der(
      0xa3,
      sequence(
        extension("2.5.29.19", true, sequence()), // basic constraints: no CA
        extension("2.5.29.15", true, der(0x03, Uint8Array.of(7, 128))), // key usage: digital signature
        extension("2.5.29.37", false, sequence(oid("1.3.6.1.5.5.7.3.2"))), // extended key usage: client
      ),
    ),
  );
  const signature = new Uint8Array(await crypto.subtle.sign(sign, keys.privateKey, content));
  const certificate = sequence(content, ECDSA_WITH_SHA256, bits(signatureOf(signature)));
  return { certificate: pem("CERTIFICATE", certificate), key: pem("PRIVATE KEY", await exported("pkcs8", keys.privateKey)) };
}

// The address of such a link is a random name: the content stays out of the browser's history.
function save(name, content) {
  const address = URL.createObjectURL(new Blob([content], { type: "application/x-pem-file" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// A sentence below a field; one that asks for something stands out.
function say(field, words, isUrgent = false) {
  const said = document.getElementById(`${field.id}-file`);
  said.textContent = words;
  said.classList.toggle("warn-text", isUrgent);
}

function preparePair(box) {
  const field = document.getElementById(box.dataset.pair);
  const part = (name) => box.querySelector(`[data-part="${name}"]`);
  let pair = null;
  let isSaved = true;
  part("make").addEventListener("click", async () => {
    if (!globalThis.crypto?.subtle) {
      say(field, "Browsers make keys on pages that were opened by HTTPS or on this machine only.", true);
      return;
    }
    pair = await makePair();
    isSaved = false;
    field.value = pair.certificate;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    part("key").hidden = part("certificate").hidden = false;
    say(field, "The certificate is in the field. Save the private key: only this page has it, and the server never gets it.");
    part("key").focus();
  });
  part("key").addEventListener("click", () => {
    save("device.key", pair.key);
    isSaved = true;
    say(field, "The private key is saved as device.key.");
  });
  part("certificate").addEventListener("click", () => save("device.pem", pair.certificate));
  field.form.addEventListener("submit", (event) => {
    if (isSaved || field.value !== pair.certificate) return;
    event.preventDefault();
    say(field, "Save the private key first: it is lost when you leave this page.", true);
    part("key").focus();
  });
}

function prepareFile(input) {
  const field = document.getElementById(input.dataset.read);
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    const content = file.size <= 65_536 ? await file.text() : null;
    if (content === null) say(field, "The file has more than 64 KB.", true);
    else if (content.includes("PRIVATE KEY")) say(field, "The file has a private key. Choose the one with the certificate.", true);
    else {
      field.value = content;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      say(field, `${file.name} is in the field.`);
    }
    input.value = "";
  });
}

for (const box of document.querySelectorAll("[data-pair]")) preparePair(box);
for (const input of document.querySelectorAll("[data-read]")) prepareFile(input);
