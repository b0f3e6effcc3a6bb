"""The operator's table of functions: what an account can name by the ARN of a Lambda function, and what is called.

An entry names its accounts. For all others it does not exist. Calls are counted by function, use and outcome.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, TypeVar

import orjson
import structlog

from thingmint.domain import strict_json
from thingmint.domain.errors import Invalid
from thingmint.services.function_calls import ENTRY_POINTS, CallFailed, Function, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from thingmint.store.engine import Transaction

T = TypeVar("T")

Use = Literal["pre_provisioning", "certificate_provider"]
"""What a function is called for."""

TIMEOUT = 5.0  # seconds, AWS's for a pre-provisioning hook

_FUNCTION = re.compile(
    r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:([A-Za-z0-9_-]{1,64})(?::(?:\$LATEST|[A-Za-z0-9_-]{1,128}))?",
    re.ASCII,
)
_IS_ACCOUNT = "SELECT 1 FROM accounts WHERE id = $1"

_log = structlog.get_logger("thingmint.provisioning")


@dataclass(frozen=True, slots=True)
class Functions:
    """The table: functions by the name in a Lambda function's ARN, and by a whole ARN.

    The latter are entries of pre-provisioning hooks alone, from before functions had names.
    """

    by_name: Mapping[str, Function] = field(default_factory=dict)
    by_arn: Mapping[str, Function] = field(default_factory=dict)


def check_function_arn(arn: str, member: str) -> None:
    """Raises Invalid unless it is the ARN of a Lambda function."""
    if not _FUNCTION.fullmatch(arn):
        raise Invalid(member, "must be the ARN of a Lambda function")


async def is_another_accounts(tx: Transaction, account: str, arn: str) -> bool:
    """True if the function's ARN is in another account of this instance. Those moved from AWS have accounts of AWS."""
    named = arn.split(":", 5)[4]
    return named != account and await tx.fetch_one(_IS_ACCOUNT, named) is not None


class FunctionTable:
    """Calls the functions of the operator's table."""

    def __init__(self, functions: Functions, *, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._functions = functions
        self._pools: dict[Function, Pool] = {}
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._installed: Mapping[str, Function] = {}
        self.replace(functions)

    def replace(self, functions: Functions) -> None:
        """Puts a changed table in force. Functions that did not change keep their pools."""
        self._functions = functions
        # Without named functions, installed entry points are found by the name in the ARN, as before there were any.
        names = () if functions.by_name else entry_points(group=ENTRY_POINTS).names
        self._installed = {name: Function(name, entry_point=name) for name in names}
        known = {*functions.by_name.values(), *functions.by_arn.values(), *self._installed.values()}
        self._pools = {each: self._pools.get(each) or Pool(each, self._timeout) for each in known}

    async def call(
        self, account: str, arn: str, use: Use, event: Mapping[str, object], read: Callable[[object], T]
    ) -> T:
        """Returns what ``read`` makes of the answer, which may raise CallFailed. Raises CallFailed."""
        name = ""
        try:
            function = self._find(account, arn, use)
            name = function.name
            body = json.dumps(event, separators=(",", ":")).encode()
            answer = read(_parsed(await self._pools[function].call(account, body)))
        except CallFailed as failed:
            self._note(account, arn, use, name, failed)
            raise
        self._counts[name, use, "ok"] += 1
        return answer

    def refuse(self, account: str, arn: str, use: Use) -> CallFailed:
        """Counts and logs a call that names another account's function. Returns the error of an unknown function."""
        failed = _unknown()
        self._note(account, arn, use, "", failed)
        return failed

    def _note(self, account: str, arn: str, use: Use, function: str, failed: CallFailed) -> None:
        outcome, why = failed.outcome, failed.why
        self._counts[function, use, outcome] += 1
        if outcome == "denied":
            _log.warning("hook_refused_device", hook=arn, function=function, account=account, why=why)
        else:
            _log.warning("hook_failed", hook=arn, function=function, account=account, outcome=outcome, why=why)

    def _find(self, account: str, arn: str, use: Use) -> Function:
        """Raises CallFailed. An unknown function, and one of other accounts, have the same error."""
        match = _FUNCTION.fullmatch(arn)
        found = self._functions.by_name.get(match[1]) if match is not None else None
        if use == "pre_provisioning":
            found = self._functions.by_arn.get(arn) or found
            if found is None and match is not None:
                found = self._installed.get(match[1])
        if found is None or (found.accounts is not None and account not in found.accounts):
            raise _unknown()
        return found

    def counts(self) -> Iterator[tuple[Sequence[str], float]]:
        """The number of calls by function, use and outcome."""
        yield from self._counts.items()

    def running(self) -> Iterator[tuple[Sequence[str], float]]:
        """The number of calls that run now, by function."""
        running: Counter[str] = Counter()
        for pool in self._pools.values():
            running[pool.function.name] += pool.running
        yield from (((name,), number) for name, number in running.items())


def _unknown() -> CallFailed:
    return CallFailed("not_found", "the settings have no such function for this account")


def _parsed(answer: bytes) -> object:
    """The parsed answer; None if it is empty. Raises CallFailed."""
    if not answer.strip():
        return None
    try:
        orjson.loads(answer)  # refuses half of a surrogate pair, which no store takes
        found: object = strict_json.load(answer.decode())
    except ValueError as error:
        raise CallFailed("invalid", f"its answer is not JSON: {type(error).__name__}") from None
    return found
