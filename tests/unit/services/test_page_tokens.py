"""Page tokens are valid only for the list that returned them."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.domain.arns import Scope
from thingmint.domain.errors import Invalid
from thingmint.services.page_tokens import PageTokens

SCOPE = Scope("123456789012", "us-east-1")
POSITION = (1_795_262_400_250_000, "ab" * 32)
TOKENS = PageTokens(b"k" * 32)
MARKER = TOKENS.seal("certificates-ascending", SCOPE, POSITION)


@pytest.mark.parametrize("position", [POSITION, (0, "00" * 32), (-1, "ff" * 32), (2**63 - 1, "0f" * 32)])
def test_a_token_contains_the_position(position: tuple[int, str]) -> None:
    sealed = TOKENS.seal("certificates-ascending", SCOPE, position)
    assert TOKENS.open("certificates-ascending", SCOPE, sealed) == position
    assert re.fullmatch(r"[A-Za-z0-9+/]{1,1022}={0,2}", sealed)  # AWS's Marker shape


@pytest.mark.parametrize(
    ("tokens", "listing", "scope"),
    [
        (PageTokens(b"K" * 32), "certificates-ascending", SCOPE),
        (TOKENS, "certificates-descending", SCOPE),
        (TOKENS, "certificates", SCOPE),
        (TOKENS, "certificates-ascending", Scope("123456789013", "us-east-1")),
        (TOKENS, "certificates-ascending", Scope("123456789012", "eu-central-1")),
        # The same characters, split differently.
        (TOKENS, "certificates-ascending", Scope("12345678901", "2us-east-1")),
        (TOKENS, "certificates-ascending1", Scope("23456789012", "us-east-1")),
    ],
)
def test_other_lists_refuse_a_token(tokens: PageTokens, listing: str, scope: Scope) -> None:
    with pytest.raises(Invalid) as refused:
        tokens.open(listing, scope, MARKER)
    assert str(refused.value) == "marker is not one that this list returned"


@pytest.mark.parametrize("position", range(56))
def test_changed_tokens_are_refused(position: int) -> None:
    raw = bytearray(base64.b64decode(MARKER))
    raw[position] ^= 1
    with pytest.raises(Invalid):
        TOKENS.open("certificates-ascending", SCOPE, base64.b64encode(raw).decode())


@given(
    st.one_of(
        st.text(),
        st.binary(max_size=80).map(lambda raw: base64.b64encode(raw).decode()),
        st.integers(0, len(MARKER) - 1).map(MARKER.__getitem__),
        st.integers(0, len(MARKER) - 1).map(lambda end: MARKER[:end]),
        st.text(alphabet=st.characters(max_codepoint=127), min_size=1).map(MARKER.__add__),
    )
)
def test_other_texts_are_refused_with_the_same_error(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        TOKENS.open("certificates-ascending", SCOPE, text)
    assert str(refused.value) == "marker is not one that this list returned"
