"""Errors as pages: each says what happened, why, and what to do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from thingmint.console.answers import ROOT, page_answer
from thingmint.console.rendering import render
from thingmint.console.sentences import sentence_of
from thingmint.domain import errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from thingmint.console.page import Frame, ServerAddresses
    from thingmint.http.messages import Answer

_AGAIN = "Go back, correct it and try again."


_LISTS = {
    "certificate": ("/certificates", "All certificates"),
    "thing": ("/things", "All things"),
    "device": ("/devices", "All devices"),
    "registry": ("/devices", "All registries"),
    "CA certificate": ("/cas", "All CAs"),
    "policy": ("/access/policies", "All policies"),
    "provisioning template": ("/provisioning", "All templates"),
    "thing registration task": ("/provisioning/tasks", "All tasks"),
    "user": ("/access", "All users"),
    "role": ("/access/roles", "All roles"),
    "service account": ("/access/service-accounts", "All service accounts"),
    "session of client": ("/sessions", "All sessions"),
    "connection of the client": ("/sessions", "All sessions"),
    "group of refusals": ("/refusals", "All refusals"),
    "operation": ("/playground", "All operations"),
    "API": ("/playground", "All operations"),
}
"""The path and the title of the list of each kind of resource."""


class _Problem(NamedTuple):
    status: int
    code: str
    title: str
    advice: str


def answer_of(error: errors.DomainError, frame: Frame | None = None) -> Answer:
    """The page for an error of a call. ``frame`` is None for a browser that is not signed in."""
    listed = _LISTS.get(error.kind) if isinstance(error, errors.NotFound) else None
    answer = _page(_problem_of(error), [sentence_of(error)], frame, listed)
    if isinstance(error, errors.Throttled):
        answer = _with_header(answer, b"retry-after", b"%d" % math.ceil(error.retry_after))
    return answer


def no_page(allowed: Collection[str] = (), frame: Frame | None = None) -> Answer:
    """For an address without a page, or with one for other methods."""
    if not allowed:
        return _page(_Problem(404, "NotFound", "There is no such page", "Start from the overview."), [], frame)
    problem = _Problem(405, "MethodNotAllowed", "This page does not take that method", "Start from the overview.")
    return _with_header(_page(problem, [], frame), b"allow", ", ".join(sorted(allowed)).encode())


def foreign_host(found: ServerAddresses) -> Answer:
    """Names an address of the server. The name in the request may be of another site, so it is not repeated."""
    body = render(
        "plain.html",
        title="Another name is needed",
        sentences=[
            "The console does not answer under this host name.",
            "Open it by an address or a name of the server, or add the name to the setting console.host_names.",
        ],
        address=f"https://{found.host}:{found.api_port}{ROOT}/",
    )
    return page_answer(body, 421, code="ForeignHost")


def _with_header(answer: Answer, name: bytes, value: bytes) -> Answer:
    return replace(answer, headers=[*answer.headers, (name, value)])


def _problem_of(error: errors.DomainError) -> _Problem:
    match error:
        case errors.Invalid():
            return _Problem(400, "Invalid", "The request cannot be used", _AGAIN)
        case errors.Unauthenticated():
            return _Problem(401, "Unauthenticated", "Sign in first", "Sign in, and open the page again.")
        case errors.Denied():
            return _Problem(
                403, "Denied", "Your policies do not allow this", "Ask an administrator for a policy that allows it."
            )
        case errors.NotFound():
            return _Problem(404, "NotFound", "This does not exist here", "Look for it in the lists.")
        case errors.Failed():
            return _Problem(500, "Internal", "The server failed to make this page", "Try again.")
        case errors.Throttled():
            return _Problem(429, "Throttled", "Too many requests", "Wait for a moment, and try again.")
        case errors.Unsupported():
            return _Problem(501, "Unsupported", "This server is not set up for that", "See the documentation.")
        case errors.Unavailable():
            return _Problem(
                503, "Unavailable", "The server cannot do this now", "Try again. Connected devices stay connected."
            )
        case _:
            return _Problem(409, "Conflict", "This cannot be done now", "Change what prevents it, and try again.")


def _page(
    problem: _Problem, sentences: list[str], frame: Frame | None = None, listed: tuple[str, str] | None = None
) -> Answer:
    values = {"title": problem.title, "sentences": [*sentences, problem.advice]}
    body = render("error.html", frame=frame, listed=listed, **values) if frame else render("plain.html", **values)
    return page_answer(body, problem.status, code=problem.code)
