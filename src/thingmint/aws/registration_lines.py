"""The lines of a bulk registration's task: what each one does, and its record in a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from thingmint.access.audit import add_record
from thingmint.access.context import Outcome
from thingmint.aws.errors import AwsError, aws_error_of
from thingmint.domain.errors import Denied, DomainError, Invalid, Unavailable
from thingmint.services.template_execution import (
    Executed,
    discard_plan,
    execute_plan,
    prepare_plan,
    provisioning_failures,
)
from thingmint.store.engine import run_part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from thingmint.access.context import RequestContext
    from thingmint.domain.templates import Template
    from thingmint.services.bulk_lines import Line
    from thingmint.services.change import Change
    from thingmint.services.report_links import ReportKind
    from thingmint.services.template_execution import PreparedPlan
    from thingmint.store.engine import Transaction

LineOutcome = Executed | AwsError | None
"""None: there was nothing to do."""

_log = structlog.get_logger("thingmint.bulk")


@dataclass(frozen=True, slots=True)
class PreparedLine:
    """A line, and its plan or the error that it has. Both are None if there is nothing to do."""

    line: Line
    plan: PreparedPlan | None = None
    error: AwsError | None = None


async def prepare_line(change: Change, template: Template, line: Line, task: str) -> PreparedLine:
    """Return a line with its plan or its error. Raises Unavailable."""
    if line.given is None:
        return PreparedLine(line)
    if isinstance(line.given, Invalid):
        return PreparedLine(line, error=aws_error_of(line.given, change.scope))
    try:
        with provisioning_failures(Denied):
            return PreparedLine(line, await prepare_plan(change, template.resolve(line.given, {})))
    except Unavailable:
        raise
    except DomainError as error:
        return PreparedLine(line, error=aws_error_of(error, change.scope))
    except Exception:  # noqa: BLE001 - the other lines go on
        _log.exception("bulk_line_failed", task=task, line=line.number)
        return PreparedLine(line, error=AwsError("InternalFailureException", "The server failed at this line"))


async def execute_line(
    tx: Transaction, context: RequestContext, change: Change, prepared: PreparedLine, task: str
) -> LineOutcome:
    """Execute a line's plan and write its audit record, or return why the line has no effect. Raises Unavailable."""
    plan = prepared.plan
    if plan is None:
        return prepared.error

    async def part(tx: Transaction) -> Executed:
        before = len(tx.audit_resources)
        with provisioning_failures(Denied):
            executed = await execute_plan(tx, change, plan)
        resources = tx.audit_resources[before:]
        details = {"task": task, "line": prepared.line.number}
        outcome = Outcome(status=200, resource=next(iter(resources), None), details=details)
        await add_record(tx, context, outcome, change.now, resources)
        return executed

    try:
        return await run_part(tx, part)
    except Unavailable:
        raise
    except DomainError as error:
        return aws_error_of(error, change.scope)


def records_of(
    lines: Sequence[PreparedLine], outcomes: Sequence[LineOutcome], status: Mapping[str, int]
) -> Mapping[ReportKind, list[dict[str, Any]]]:
    """Return the records of the first lines, which have outcomes. ``status`` has the HTTP status of each code."""
    records: dict[ReportKind, list[dict[str, Any]]] = {"ERRORS": [], "RESULTS": []}
    for prepared, outcome in zip(lines, outcomes, strict=False):
        number = prepared.line.number
        if isinstance(outcome, AwsError):
            facts = {"ErrorCode": outcome.code, "ErrorMessage": outcome.message}
            error = {**facts, "HttpStatusCode": status[outcome.code]}
            records["ERRORS"].append({"offset": number, "error": error})
        elif outcome is not None:
            pem = {"CertificatePem": outcome.certificate.pem} if outcome.certificate is not None else {}
            response = {**pem, "ResourceArns": dict(outcome.arns)}
            records["RESULTS"].append({"offset": number, "response": response})
    return records


def discard_lines(change: Change, lines: Iterable[PreparedLine], error: BaseException) -> None:
    """Log and count the certificates of lines that were not executed."""
    for prepared in lines:
        if prepared.plan is not None:
            discard_plan(change, prepared.plan, error)
