"""What a dry run of a provisioning template changes, line by line, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from thingmint.domain.templates import Plan
    from thingmint.services.provisioning_dry_run import DryRun
    from thingmint.services.provisioning_state import State, ThingState

Kind = Literal["new", "changed", "removed", "same"]


class ChangeLine(NamedTuple):
    """``what`` of a subject a template makes or changes, before and after. None: it does not exist then."""

    subject: str
    what: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> Kind:
        if self.before == self.after:
            return "same"
        if self.before is None:
            return "new"
        return "removed" if self.after is None else "changed"


def changes_of(run: DryRun) -> list[ChangeLine]:
    """The lines of a dry run, also those that stay as they are. Without an end (``after``) they are what is planned."""
    if run.plan is None:
        return []
    before, after = run.before, run.after
    return [*_certificate(run, run.plan, before, after), *_policies(run.plan, before, after), *_thing(run)]


def _certificate(run: DryRun, plan: Plan, before: State | None, after: State | None) -> Iterator[ChangeLine]:
    subject = f"certificate {run.certificate}"
    if plan.certificate is None:
        return
    then = after.status if after is not None else plan.certificate.status
    yield ChangeLine(subject, "status", before.status if before is not None and before.status else None, then)


def _policies(plan: Plan, before: State | None, after: State | None) -> Iterator[ChangeLine]:
    for policy in plan.policies:
        subject = f"policy {policy.name}"
        exists = before is not None and policy.name in before.policies
        will_exist = exists or policy.document is not None
        yield ChangeLine(subject, "exists", "yes" if exists else None, "yes" if will_exist else None)
        if plan.certificate is not None:
            is_attached = before is not None and policy.name in before.attached
            will_be = policy.name in after.attached if after is not None else True
            attached = "yes" if is_attached else None
            yield ChangeLine(subject, "attached to the certificate", attached, "yes" if will_be else None)


def _thing(run: DryRun) -> Iterator[ChangeLine]:
    plan, before = run.plan, run.before
    if plan is None or plan.thing is None:
        return
    wanted, subject = plan.thing, f"thing {plan.thing.name}"
    now = before.thing if before is not None else None
    yield ChangeLine(subject, "exists", "yes" if now is not None else None, "yes")
    if run.hides_thing:
        yield ChangeLine(subject, "type, attributes and groups", "not shown", "not compared")
        return
    then: Mapping[str, str]
    if run.after is not None and run.after.thing is not None:
        then = _properties(run.after.thing)
    else:
        planned = {"type": wanted.type, "billing group": wanted.billing_group}
        planned |= {f"attribute {name}": value for name, value in (wanted.attributes or {}).items()}
        planned |= {f"in the group {group}": "yes" for group in wanted.groups or ()}
        then = {**(_properties(now) if now is not None else {}), **{k: v for k, v in planned.items() if v is not None}}
    known = _properties(now) if now is not None else {}
    for name in dict.fromkeys([*then, *known]):
        yield ChangeLine(subject, name, known.get(name), then.get(name))
    if plan.certificate is not None:
        is_attached = before is not None and wanted.name in before.things
        exclusively = "yes, exclusively" if plan.certificate.exclusive else "yes"
        yield ChangeLine(subject, "has the certificate", exclusively if is_attached else None, exclusively)


def _properties(thing: ThingState) -> dict[str, str]:
    found = {"type": thing.type, "billing group": thing.billing_group}
    shown = {name: value for name, value in found.items() if value is not None}
    shown |= {f"attribute {name}": value for name, value in sorted(thing.attributes.items())}
    return shown | {f"in the group {group}": "yes" for group in thing.groups}
