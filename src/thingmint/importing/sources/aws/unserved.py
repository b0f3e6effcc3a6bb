"""Finds out what an account has that is not imported, with one call for each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from thingmint.importing.sources.aws.calls import CallError, NotThere
from thingmint.importing.sources.aws.reading import Made
from thingmint.services.event_configurations import DEFAULTS
from thingmint.services.imports import Result

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from thingmint.importing.sources.aws.reading import Region

_SHOWN = 10  # names in a result
_MAX_NAME = 200

DATA_NAMES = {"iot:Data-ATS": "devices connect to it", "iot:Data": "devices with an old root certificate connect to it"}


class _Unserved(NamedTuple):
    """``key`` has the list in the answer, ``name`` the name in an entry; without it, the entry is the name."""

    operation: str
    key: str
    name: str
    noun: str
    advice: str


_JOBS = "thingmint has no jobs: update devices by your own means"
_DEFENDER = "thingmint does not watch over devices as AWS IoT Device Defender does: use its metrics and audit log"
_RULES = "subscribe at the broker, or let an upstream broker forward the messages"
_LISTS = (
    _Unserved("ListRoleAliases", "roleAliases", "", "role alias", "create it here, with CreateRoleAlias"),
    _Unserved(
        "ListBillingGroups", "billingGroups", "groupName", "billing group", "create it here, with CreateBillingGroup"
    ),
    _Unserved("ListAuthorizers", "authorizers", "authorizerName", "custom authorizer", "devices need certificates"),
    _Unserved("ListTopicRules", "rules", "ruleName", "topic rule", _RULES),
    _Unserved("ListTopicRuleDestinations", "destinationSummaries", "arn", "topic rule destination", _RULES),
    _Unserved("ListJobs", "jobs", "jobId", "job", _JOBS),
    _Unserved("ListJobTemplates", "jobTemplates", "jobTemplateId", "job template", _JOBS),
    _Unserved("ListOTAUpdates", "otaUpdates", "otaUpdateId", "OTA update", _JOBS),
    _Unserved("ListStreams", "streams", "streamId", "stream", _JOBS),
    _Unserved("ListPackages", "packageSummaries", "packageName", "software package", _JOBS),
    _Unserved("ListCommands", "commands", "commandId", "command", _JOBS),
    _Unserved("ListFleetMetrics", "fleetMetrics", "metricName", "fleet metric", "use the metrics of thingmint"),
    _Unserved("ListSecurityProfiles", "securityProfileIdentifiers", "name", "security profile", _DEFENDER),
    _Unserved("ListScheduledAudits", "scheduledAudits", "scheduledAuditName", "scheduled audit", _DEFENDER),
    _Unserved("ListMitigationActions", "actionIdentifiers", "actionName", "mitigation action", _DEFENDER),
    _Unserved("ListCustomMetrics", "metricNames", "", "custom metric", _DEFENDER),
    _Unserved("ListDimensions", "dimensionNames", "", "dimension", _DEFENDER),
    _Unserved(
        "ListCertificateProviders",
        "certificateProviders",
        "certificateProviderName",
        "certificate provider",
        "set its function in the settings of thingmint (hooks), and create it with CreateCertificateProvider",
    ),
    _Unserved(
        "ListOutgoingCertificates",
        "outgoingCertificates",
        "certificateId",
        "certificate in transfer to another account",
        "it comes as INACTIVE: end the transfer at AWS, or import the other account",
    ),
    _Unserved(
        "ListThingRegistrationTasks", "taskIds", "", "bulk registration task", "what it has registered is imported"
    ),
    _Unserved("ListV2LoggingLevels", "logTargetConfigurations", "logLevel", "log level", "use the log of thingmint"),
)


def unserved(region: Region, pool: Executor) -> Made:
    """Return results about all kinds of resources that are there and not served here."""
    results: list[Result] = []
    unknown: dict[str, list[str]] = {}
    for found in pool.map(lambda each: _try(region, each), [*_LISTS, _default_authorizer, _events, _indexing]):
        if isinstance(found, CallError):
            unknown.setdefault(found.reason, []).append(found.operation)
        else:
            results += found
    for reason, operations in unknown.items():
        more = f" and {len(operations) - _SHOWN} more" if len(operations) > _SHOWN else ""
        subject = region.subject(f"{', '.join(operations[:_SHOWN])}{more}")
        results.append(Result("not_served", "noted", subject, f"not looked for: {reason}"))
    return Made((), results)


def _try(region: Region, what: _Unserved | Callable[[Region], list[Result]]) -> list[Result] | CallError:
    try:
        return _listed(region, what) if isinstance(what, _Unserved) else what(region)
    except NotThere:
        return []
    except CallError as error:
        return error


def _listed(region: Region, kind: _Unserved) -> list[Result]:
    entries, following = region.calls.page(kind.operation, kind.key)
    if not entries:
        return []
    names = [str(entry[kind.name] if kind.name else entry)[:_MAX_NAME] for entry in entries]
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN or following else "")
    count = f"{len(names)}{' or more' if following else ''}"
    return [_result(region, f"{kind.noun} ({count}): {shown}", kind.advice)]


def _result(region: Region, subject: str, advice: str) -> Result:
    return Result("not_served", "refused", region.subject(subject), f"this is not imported: {advice}")


def _default_authorizer(region: Region) -> list[Result]:
    found = region.calls.call("DescribeDefaultAuthorizer").get("authorizerDescription") or {}
    name = found.get("authorizerName")
    return [_result(region, f"default authorizer: {name}", "devices need certificates")] if name else []


def _events(region: Region) -> list[Result]:
    found = region.calls.call("DescribeEventConfigurations").get("eventConfigurations") or {}
    names = sorted(name for name, about in found.items() if about.get("Enabled") and name not in DEFAULTS)
    reason = "an import does not switch on events: do it with UpdateEventConfigurations"
    return [Result("not_served", "noted", region.subject(f"events: {', '.join(names)}"), reason)] if names else []


def _indexing(region: Region) -> list[Result]:
    found = region.calls.call("GetIndexingConfiguration").get("thingIndexingConfiguration") or {}
    modes = ("thingIndexingMode", "namedShadowIndexingMode", "deviceDefenderIndexingMode")
    if all(found.get(mode, "OFF") in ("OFF", "REGISTRY") for mode in modes):
        return []
    return [_result(region, "fleet indexing of shadows and violations", "searches find things by registry data")]


def endpoint(region: Region, account: str | None) -> Made:
    """Return the host names by which devices reach the account now: AWS's own, and those of domain configurations."""
    names: list[str] = []
    results: list[Result] = []
    for type in DATA_NAMES:
        try:
            names.append(region.calls.call("DescribeEndpoint", endpointType=type)["endpointAddress"])
        except CallError as error:
            results += region.once(error, "host names")
    try:
        configurations = [each for each in _domains(region) if not each["domainConfigurationName"].startswith("iot:")]
        for each in configurations:
            name = each["domainConfigurationName"]
            about = region.calls.call("DescribeDomainConfiguration", domainConfigurationName=name)
            if about.get("serviceType", "DATA") == "DATA" and about.get("domainName"):
                names.append(about["domainName"])
            advice = "give its host name to the account: thingmint access hostname add, with a server certificate"
            results.append(_result(region, f"domain configuration {name}", advice))
    except NotThere:
        pass
    except CallError as error:
        results.append(
            Result("not_served", "noted", region.subject(error.operation), f"not looked for: {error.reason}")
        )
    return Made([region.item("endpoint", account=account, names=list(dict.fromkeys(names)))], results)


def _domains(region: Region) -> list[dict[str, Any]]:
    entries, _ = region.calls.page("ListDomainConfigurations", "domainConfigurations")
    return entries
