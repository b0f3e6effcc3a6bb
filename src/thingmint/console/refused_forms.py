"""The answer to a form that was refused: the page that it was on, with the error and what was typed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from thingmint.console.answers import HTML
from thingmint.console.fields import Fields
from thingmint.console.forms import with_form
from thingmint.console.requests import PageAt, SentFields
from thingmint.domain.errors import DomainError, Invalid, Throttled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from thingmint.console.requests import PageRequest, Routes
    from thingmint.http.messages import Answer


async def answer_of_form(
    refusal: Answer,
    request: PageRequest,
    sent: SentFields,
    error: DomainError,
    routes: Routes,
    make: Callable[[PageRequest, SentFields], Awaitable[Answer]],
) -> Answer:
    """The page that ``make`` makes anew, with the form as it was sent; ``refusal`` if no page has the form."""
    if not _can_be_shown_again(request, sent, error):
        return refusal
    for page, fields in _pages_of_form(request, sent, routes):
        try:
            shown = await make(page, fields)
        except DomainError:
            continue
        if shown.status < 300 and dict(shown.headers).get(b"content-type") == HTML:
            body = with_form(shown.body.decode(), request.incoming.path, sent.form.pairs, error)
            if body is not None:
                later = [(name, value) for name, value in refusal.headers if name == b"retry-after"]
                headers = [*shown.headers, *later]
                return replace(shown, status=refusal.status, code=refusal.code, body=body.encode(), headers=headers)
    return refusal


def _can_be_shown_again(request: PageRequest, sent: SentFields, error: DomainError) -> bool:
    if request.page.method != "POST" or sent.flaw is not None:
        return False
    # To make the page of a check while typing would check a document once more, in place of the newer one.
    return request.page.is_recorded or not isinstance(error, Throttled)


def _pages_of_form(request: PageRequest, sent: SentFields, routes: Routes) -> Iterator[tuple[PageRequest, SentFields]]:
    """The pages that may have the form that was sent."""
    if request.page.form is not None:
        yield request._replace(page=replace(request.page, handler=request.page.form)), sent
    path, _, query = sent.form_page.partition("?")
    found = routes.find("GET", unquote(path))
    if isinstance(found, PageAt) and not (found.page.is_open or found.page.is_stream):
        with suppress(Invalid):
            fields = Fields.parse(query.encode())
            yield request._replace(page=found.page, parameters=found.parameters), SentFields(fields, sent.form)
