"""Texts and patterns of OpenAPI documents, and the making of documents once."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from thingmint.http.openapi import Documents, Responses, whole, words

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CreateThing", "Create thing"),
        ("RegisterCACertificate", "Register CA certificate"),
        ("CreateOTAUpdate", "Create OTA update"),
        ("ListThingPrincipalsV2", "List thing principals V2"),
        ("registry_id", "Registry id"),
        ("", ""),
    ],
)
def test_words(name: str, text: str) -> None:
    assert words(name) == text


def test_a_whole_pattern_does_not_match_before_a_last_line_feed() -> None:
    assert [bool(re.search(whole("a|b"), text)) for text in ("a", "b", "a\n", "xa", "ab")] == [True, True, *[False] * 3]


def test_equal_responses_are_written_once() -> None:
    responses = Responses()
    first = responses.refer("400", {"description": "wrong"})
    assert responses.refer("400", {"description": "wrong"}) == first
    assert responses.refer("400", {"description": "other"}) != first
    assert list(responses.written) == ["Error400.1", "Error400.2"]


async def test_a_document_is_made_once_although_its_first_reader_is_gone() -> None:
    made = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"openapi": "3.1.0"}

    documents = Documents({b"/a": make})
    first = asyncio.create_task(documents.read(b"/a"))
    await asyncio.sleep(0)
    first.cancel()
    answers = await asyncio.gather(*(documents.read(b"/a") for _ in range(5)))
    assert answers == [b'{"openapi":"3.1.0"}'] * 5
    assert made == [1]
    assert b"/a" in documents
    assert b"/b" not in documents


async def test_a_document_that_could_not_be_made_is_tried_again() -> None:
    results: Iterator[dict[str, Any] | Exception] = iter([MemoryError(), {"openapi": "3.1.0"}])

    def make() -> dict[str, Any]:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    documents = Documents({b"/a": make})
    with pytest.raises(MemoryError):
        await documents.read(b"/a")
    assert await documents.read(b"/a") == b'{"openapi":"3.1.0"}'
