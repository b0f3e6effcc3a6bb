"""The editor of policies, which all pages with a policy share: its text, and what the linter says about it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from thingmint.access.administration.declaring import MAX_POLICY_SIZE
from thingmint.console.cookies import SESSION
from thingmint.domain.errors import Conflict
from thingmint.domain.linting import Report, lint_policy
from thingmint.domain.policies import Kind
from thingmint.services.device_policies import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from thingmint.console.fields import Fields
    from thingmint.console.page import Call

NEW_POLICY = """{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Effect": "Allow",
      "Action": ["iot:ListThings", "iot:DescribeEndpoint"],
      "Resource": "*"
    }
  ]
}"""
"""With what the editor begins, for a policy of a principal."""

_LIMITS = defaultdict(lambda: MAX_POLICY_SIZE, {Kind.DEVICE: MAX_SIZE})


@dataclass(frozen=True, slots=True)
class Draft:
    """A document as it was typed. ``check`` is the address that checks it, while a person types."""

    text: str
    report: Report
    check: str

    @property
    def may_be_saved(self) -> bool:
        return not self.report.errors


async def drafted(call: Call, kind: Kind, text: str, check: str = "") -> Draft:
    """The text and the report about it. Raises Throttled."""
    account, regions = call.scope, call.caller.regions

    def work() -> Report:
        return lint_policy(text, kind, call.parts.policy_vocabulary(kind, account, regions), _LIMITS[kind])

    return await checked(call, text, work, check)


async def checked(call: Call, text: str, lint: Callable[[], Report], check: str) -> Draft:
    """The text and the report that ``lint`` makes in a thread. Raises Throttled."""
    session = call.cookies.get(SESSION) or call.caller.name
    while_typing = call.context.api == "probe"  # of an action that leaves no record
    return Draft(text, await call.parts.document_checks.run(session, lint, while_typing=while_typing), check)


def sent_document(call: Call) -> str:
    """The document of the form, with line ends as they were typed: browsers send each as two characters.

    Other characters that Python's splitlines() takes for line ends are part of the document.
    """
    document = next(iter(call.form.all("document")), "")
    return document.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def check_base(form: Fields, noun: str, name: str, default_version: int) -> None:
    """Raises Conflict if the new default version would be made of one that is not the default any more."""
    base = form.number("of")
    if base is not None and base != default_version:
        reason = f"Version {default_version} of {name} is the default now. Open the {noun} again"
        raise Conflict(f"{noun} version", name, reason)


def pretty(document: str) -> str:
    """The document with a line for each element; as it is, if it cannot be read."""
    try:
        return orjson.dumps(orjson.loads(document), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        return document
