"""The dry run of a provisioning template: a form with its parameters, and what a device would get."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from shlex import quote
from typing import TYPE_CHECKING, Any

from thingmint.console.page import action, page
from thingmint.console.pages.provisioning import KINDS, named, readable, role_of
from thingmint.console.rendering import shortened, status_words
from thingmint.console.sentences import sentence_of
from thingmint.domain.arns import arn
from thingmint.domain.certificates import parse_fingerprint
from thingmint.domain.errors import Invalid, NotFound
from thingmint.domain.status import Status
from thingmint.domain.templates import CERTIFICATE_ID, Kind
from thingmint.domain.templates.subjects import CERTIFICATE_PREFIX, PSEUDO_PREFIX
from thingmint.services.certificate_search import CertificateFilter, search_certificates
from thingmint.services.pages import Cursor
from thingmint.services.provisioning_changes import changes_of
from thingmint.services.provisioning_dry_run import dry_run
from thingmint.services.provisioning_samples import SampleDevice
from thingmint.services.templates import compile_template, get_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.console.page import Call
    from thingmint.domain.templates import Template
    from thingmint.http.messages import Answer
    from thingmint.services.provisioning_changes import ChangeLine
    from thingmint.services.provisioning_dry_run import DryRun
    from thingmint.services.templates import ProvisioningTemplate

_PREFIX = "parameter:"
_MAX_OFFERED = 25
_LONGEST_PEM = 65_536
_LONGEST_VALUE = 4096
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A field of the form. ``default`` is None for a parameter without one."""

    name: str
    default: str | None
    value: str

    @property
    def title(self) -> str:
        return self.name.removeprefix(CERTIFICATE_PREFIX)


@page("/provisioning/templates/{name}/dry-run", "TestProvisioning")
async def ask(call: Call) -> Answer:
    return await _shown(call, is_asked=False)


@action("/provisioning/templates/{name}/dry-run", "TestProvisioning")
async def answer(call: Call) -> Answer:
    """Changes nothing. It is no GET: certificates are too long for an address."""
    return await _shown(call, is_asked=True)


def _sample_of(call: Call) -> SampleDevice:
    """The device that the form describes. A parameter that is empty was not given. Raises Invalid."""
    form = call.form
    parameters = {
        name.removeprefix(_PREFIX): value for name, value in form.pairs if name.startswith(_PREFIX) and value.strip()
    }
    if any(len(name) > _LONGEST_NAME or len(value) > _LONGEST_VALUE for name, value in parameters.items()):
        raise Invalid("parameters", f"must have at most {_LONGEST_VALUE} characters")
    id = form.text("certificate")
    return SampleDevice(
        parameters=parameters,
        certificate=parse_fingerprint(id, "certificate") if id else None,
        pem=form.text("pem", _LONGEST_PEM) or None,
        client_id=form.text("client_id"),
        address=form.text("address", 64) or None,
    )


async def _shown(call: Call, *, is_asked: bool) -> Answer:
    name, resource = named(call)
    call.may("thingmint:TestProvisioning", resource)
    number = (call.form if is_asked else call.query).number("version")
    wanted = None if number is None else min(number, 10**9)
    template, version = await call.read(lambda tx: get_template(tx, call.scope, name, wanted))
    compiled = compile_template(version.body, template.kind)
    run, trouble, sample = None, None, SampleDevice()
    if is_asked:
        sample = _sample_of(call)
        try:
            run = await dry_run(call.store, call.change, template, version.body, sample, call.allows)
        except (Invalid, NotFound) as error:
            trouble = sentence_of(error)
    return call.render(
        "provisioning_dry_run.html",
        status=400 if trouble else 200,
        of=template,
        version=version.version,
        kinds=KINDS,
        is_jitp=template.kind is Kind.JITP,
        parameters=_fields_of(compiled, sample),
        given=sample,
        offered=await _offered(call),
        trouble=trouble,
        command=_command(template, version.version, sample),
        **await _result_of(call, run),
    )


def _fields_of(compiled: Template, sample: SampleDevice) -> list[_Parameter]:
    """The parameters that a device can give: for JITP, the fields of its certificate's subject."""
    found = []
    for name, default in compiled.parameters.items():
        is_pseudo = name.startswith(PSEUDO_PREFIX)
        if name != CERTIFICATE_ID and is_pseudo == (compiled.kind is Kind.JITP):
            found.append(_Parameter(name, default, sample.parameters.get(name, "")))
    return found


async def _result_of(call: Call, run: DryRun | None) -> dict[str, Any]:
    """What the template provisioning_result.html shows."""
    if run is None:
        return {"run": None}
    denied = [each for each in run.actions if not each.allowed]
    documents = [each for each in run.plan.policies if each.document is not None] if run.plan is not None else []
    prefix = arn(call.scope, "")

    def brief(text: str) -> str:
        return text.replace(prefix, "").replace(run.certificate, shortened(run.certificate))

    return {
        "run": run,
        "made": [
            _Made.of(subject, list(lines)) for subject, lines in groupby(changes_of(run), lambda each: each.subject)
        ],
        "role": await role_of(call, run.role),
        "actions": [*denied, *(each for each in run.actions if each.allowed)],
        "denied": len(denied),
        "documents": [(each.name, readable(each.document or "{}")) for each in documents],
        "brief": brief,
    }


@dataclass(frozen=True, slots=True)
class _Made:
    """A thing, certificate or policy, with a pill and sentences about what becomes of it."""

    title: str
    name: str
    pill: tuple[str, str]
    notes: Sequence[str]

    @classmethod
    def of(cls, subject: str, lines: Sequence[ChangeLine]) -> _Made:
        title, _, name = subject.partition(" ")
        kinds = {each.what: each.kind for each in lines}
        if kinds.get("exists") == "new":
            pill = ("ok", "New")
        else:
            pill = ("mute", "As it is") if set(kinds.values()) <= {"same"} else ("warn", "Changed")
        notes = [_sentence(each) for each in lines if each.what != "exists"]
        return cls(title, name, pill, [f"{note[:1].upper()}{note[1:]}" for note in notes])


def _sentence(line: ChangeLine) -> str:
    before, after = (_words(each) for each in (line.before, line.after))
    match line.kind:
        case "removed":
            return f"No longer: {line.what}" if before == "yes" else f"No longer: {line.what} {before}"
        case "same":
            return f"{line.what}, as now" if after == "yes" else f"{line.what}: {after}, as now"
        case "changed":
            return f"{line.what}: {after}, and {before} now"
    return line.what if after == "yes" else f"{line.what}: {after}"


def _words(value: str | None) -> str:
    if value is not None and value in Status.__members__.values():
        return status_words(Status(value))[1].lower()
    return "empty" if value == "" else value or ""


async def _offered(call: Call) -> Sequence[tuple[str, str]]:
    """The id and the common name of the newest certificates, if the caller may list them."""
    if not call.allows("iot:ListCertificates"):
        return []
    cursor = Cursor(_MAX_OFFERED, "", "page")
    found = await call.read(
        lambda tx: search_certificates(tx, call.change, cursor, CertificateFilter(), ascending=False)
    )
    return [(each.registration.fingerprint, each.common_name or "without a common name") for each in found.items]


def _command(template: ProvisioningTemplate, version: int, sample: SampleDevice) -> str:
    words = ["thingmint provisioning dry-run", template.name]
    if version != template.default_version:
        words.append(f"--version {version}")
    words += [f"--parameter {quote(f'{name}={value}')}" for name, value in sample.parameters.items()]
    if sample.certificate is not None:
        words.append(f"--certificate {sample.certificate}")
    elif sample.pem is not None:
        words.append("--pem device.pem")
    return " ".join(words)
