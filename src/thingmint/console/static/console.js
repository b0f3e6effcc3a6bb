// What the pages do beside htmx. Without JavaScript each of these has a button, or is not needed.
"use strict";

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  if (event.target.matches("[data-all]")) {
    for (const box of document.getElementsByName(event.target.dataset.all)) box.checked = event.target.checked;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  button.textContent = "Copied";
});

// A link to a place in a text: its address is the field, so without JavaScript it leads to the field's beginning.
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-line]");
  if (!link) return;
  const field = document.querySelector(link.hash);
  const before = field.value.split("\n").slice(0, link.dataset.line - 1);
  const place = before.reduce((sum, line) => sum + line.length + 1, link.dataset.column - 1);
  event.preventDefault();
  field.focus();
  field.setSelectionRange(place, place);
});

// On narrow pages the menu and the tabs scroll sideways: the current entry is shown.
for (const entry of document.querySelectorAll(".side [aria-current], .tabs [aria-current]")) {
  const bar = entry.closest(".side, .tabs");
  const [inner, outer] = [entry.getBoundingClientRect(), bar.getBoundingClientRect()];
  bar.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
}

function reveal(part) {
  for (const each of part.querySelectorAll("[data-show]")) each.hidden = false;
  for (const each of part.querySelectorAll("[data-hide]")) each.hidden = true;
}
reveal(document);
document.addEventListener("htmx:load", (event) => reveal(event.target));

// In a part that is replaced, what has `data-keep` stays open or closed.
let kept = null;
document.addEventListener("htmx:beforeSwap", () => {
  kept = Array.from(document.querySelectorAll("[data-keep][open]"), (each) => each.id);
});
document.addEventListener("htmx:load", () => {
  if (kept) for (const each of document.querySelectorAll("[data-keep]")) each.open = kept.includes(each.id);
  kept = null;
});

// In a part that updates itself, the link that has the focus keeps it. While a person fills a form there, or has ticked
// rows, the part stays as it is.
let focused = null;
function isInUse(part) {
  const chosen = document.activeElement.closest("input, select, textarea");
  return (chosen && part.contains(chosen)) || part.querySelector("td input:checked") !== null;
}
document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.detail.elt;
  if (!part.matches("[data-poll]")) return;
  delete part.dataset.late;  // also if the request fails: the next one is at the usual interval
  if (!isInUse(part)) return;
  part.dataset.late = "";
  event.preventDefault();
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const link = document.activeElement.closest("a[href]");
  focused = link && event.detail.target.contains(link) ? link.getAttribute("href") : null;
});
document.addEventListener("htmx:afterSettle", (event) => {
  if (focused) {
    const links = Array.from(event.target.querySelectorAll("a[href]"));
    links.find((each) => each.getAttribute("href") === focused)?.focus({ preventScroll: true });
  }
  focused = null;
});

// Parts that update themselves do so at the events of the page's stream. Without one they ask at intervals.
let streams = false;
if (!window.EventSource) {
  for (const each of document.querySelectorAll("[sse-connect]")) each.removeAttribute("sse-connect");
}
document.addEventListener("htmx:sseOpen", () => (streams = true));
document.addEventListener("htmx:sseError", () => (streams = false));
document.addEventListener("htmx:sseClose", (event) => {
  streams = false;
  if (event.detail.type === "message") sessionEnded();
});
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) sessionEnded();
});

let seconds = 0;
const polling = setInterval(() => {
  if (document.hidden) return;
  seconds += 1;
  for (const each of document.querySelectorAll("[data-poll]")) {
    // With a stream, only for times such as "2 min ago", and for what no event tells.
    const every = each.dataset.poll * (streams ? 2 : 1);
    if (seconds % every === 0 || (each.dataset.late === "" && !isInUse(each))) htmx.trigger(each, "poll");
  }
}, 1000);

function sessionEnded() {
  clearInterval(polling);
  const words = document.getElementById("ended");
  if (words) words.hidden = false;
}
