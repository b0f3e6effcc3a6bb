"""The Authorization header of the native API."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thingmint.access.directory import bearer_token
from thingmint.domain.errors import Unauthenticated


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        ([(b"host", b"localhost"), (b"x-authorization", b"Bearer a")], None),
        ([(b"authorization", b"Bearer tma_a_b")], "tma_a_b"),
        ([(b"host", b"localhost"), (b"authorization", b"bearer tma_a_b")], "tma_a_b"),
        ([(b"authorization", b"BEARER   tma_a_b ")], "tma_a_b"),
    ],
)
def test_bearer_tokens_are_found(headers: list[tuple[bytes, bytes]], token: str | None) -> None:
    assert bearer_token(headers) == token


@pytest.mark.parametrize(
    "values",
    [
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [b"Bearer\ta"],
        [b"Basic YTpi"],
        [b"tma_a_b"],
        [b"Bearer a", b"Bearer a"],
        [b"Bearer a", b"Basic YTpi"],
    ],
)
def test_other_headers_are_malformed(values: list[bytes]) -> None:
    with pytest.raises(Unauthenticated) as refused:
        bearer_token([(b"authorization", value) for value in values])
    assert refused.value.flaw == "malformed"
    assert refused.value.message == "The Authorization header must be sent once, as: Bearer <token>"


@given(st.lists(st.binary(), min_size=1, max_size=2))
def test_arbitrary_headers_have_a_token_or_are_unauthenticated(values: list[bytes]) -> None:
    try:
        token = bearer_token([(b"authorization", value) for value in values])
    except Unauthenticated:
        return
    assert token
    assert token.encode("latin-1") in values[0]
