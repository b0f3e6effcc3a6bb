"""Any input as a certificate or a request raises only errors of the domain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit import vectors
from thingmint.domain.certificates import parse_certificate, parse_csr
from thingmint.domain.errors import Invalid, InvalidCertificate, InvalidSigningRequest
from thingmint.domain.keys import CSR_KEYS, OWN_KEYS
from thingmint.domain.pem import PemKind, one_block

if TYPE_CHECKING:
    from collections.abc import Callable

CERTIFICATE, CSR = vectors.certificate_pem(), vectors.csr_pem()


DERS = st.sampled_from(
    [vectors.to_der(CERTIFICATE), vectors.to_der(vectors.certificate_pem(vectors.rsa_key().public_key()))]
)
CSR_DERS = st.sampled_from([vectors.to_der(CSR), vectors.to_der(vectors.csr_pem(vectors.rsa_key()))])


@st.composite
def damaged(draw: Callable[[Any], Any], ders: st.SearchStrategy[bytes], label: str) -> str:
    """Return PEM of a DER in which bytes were changed, removed or inserted."""
    der = bytearray(draw(ders))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(der) - 1))
        match draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                der[start] = draw(st.integers(0, 255))
            case "cut":
                del der[start : start + draw(st.integers(1, 8))]
            case _:
                der[start:start] = draw(st.binary(min_size=1, max_size=4))
        if not der:
            der = bytearray(b"\x30")
    return vectors.to_pem(bytes(der), label)


PEM_LIKE = st.lists(
    st.one_of(
        st.text(),
        st.sampled_from(
            [
                "-----BEGIN CERTIFICATE-----",
                "-----END CERTIFICATE-----",
                "-----BEGIN CERTIFICATE REQUEST-----",
                "-----BEGIN X-Y-----",
                "-----BEGIN -----",
                "\n",
                "MIIB",
                "=",
                CERTIFICATE,
                CSR,
            ]
        ),
    ),
    max_size=6,
).map("".join)


def reason_of(parse: Callable[[], object], error: type[Invalid]) -> str:
    """Return the text of a refusal, empty without one. Any other error fails the test."""
    try:
        parse()
    except error as refused:
        return str(refused)
    return ""


def is_our_text(words: str) -> bool:
    """True unless the text is a parser's message, which would name ASN.1 types, positions or its errors."""
    ours = ("is not a well-formed PEM", "uses an algorithm", "has a", "has extensions", "holds a", "is signed with")
    return not words or (words.partition(" ")[2].startswith(ours) and not {"Error", "asn", "ASN"} & set(words.split()))


@given(st.one_of(st.text(), PEM_LIKE))
def test_any_text_is_refused_in_our_words(text: str) -> None:
    for words in (
        reason_of(lambda: parse_certificate(text, "pem", OWN_KEYS), InvalidCertificate),
        reason_of(lambda: parse_csr(text, "csr", CSR_KEYS), InvalidSigningRequest),
    ):
        assert len(text) < 12 or text not in words


@given(damaged(DERS, "CERTIFICATE"))
def test_damaged_certificates_are_refused_in_our_words(pem: str) -> None:
    assert is_our_text(reason_of(lambda: parse_certificate(pem, "pem", OWN_KEYS), InvalidCertificate))


@given(damaged(CSR_DERS, "CERTIFICATE REQUEST"))
def test_damaged_requests_are_refused_in_our_words(pem: str) -> None:
    assert is_our_text(reason_of(lambda: parse_csr(pem, "csr", CSR_KEYS), InvalidSigningRequest))


@given(*[st.text(alphabet=st.characters(min_codepoint=1, max_codepoint=127))] * 2)
def test_text_around_a_pem_block_is_ignored(before: str, after: str) -> None:
    kind = PemKind("certificate", ("CERTIFICATE",), InvalidCertificate)
    text = f"{before}\n{CERTIFICATE}\n{after}"
    assert one_block(text, "pem", kind) == vectors.to_der(CERTIFICATE)
