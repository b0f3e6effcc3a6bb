"""The tables of docs/aws.md: each operation of AWS that is served, with its deviations, and why others are not served.

The deviations are in the ``DEVIATIONS`` of the modules that declare the operations.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

from thingmint.aws import sts
from thingmint.aws.contract import load_contract, load_data_contract
from thingmint.aws.operations import DATA_OPERATIONS, OPERATIONS
from thingmint.aws.query_protocol import load_contract as load_sts_contract

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

    from thingmint.access.operations import Operation

Row = tuple[str, ...]

_NONE = "as AWS documents it"
_MODULE_NAMES = {"ca_certificates": "CA certificates", "templates": "provisioning templates"}

# The first pattern found in an operation's name counts. A name without one is an error, so that each has a reason.
_NOT_SERVED = (
    ("shadows", "Shadow", "They are state that applications keep of devices. Thingmint keeps identities"),
    ("jobs", "Job|^AssociateTargets", "They tell devices what to do. Thingmint keeps identities"),
    ("commands", "Command|^SendDirectMessage", "They tell devices what to do. Thingmint keeps identities"),
    ("streams and updates", "Stream|OTAUpdate", "They bring files to devices. Thingmint keeps identities"),
    ("software packages", "Package|Sbom", "They belong to jobs"),
    ("rules", "TopicRule", "They process messages. Subscribe to the topics, with [a broker of yours](brokers.md) too"),
    (
        "Device Defender",
        "Audit|SecurityProfile|Mitigation|Violation|CustomMetric|Dimension|BehaviorModel|ListMetricValues",
        "It watches devices and accounts. The [audit log](audit.md) and [metrics](metrics.md) are for that here",
    ),
    ("dynamic thing groups", "DynamicThingGroup", "Not yet. [SearchIndex](search.md) finds the things of a query"),
    (
        "statistics of the index",
        "Statistics|Percentiles|Cardinality|Aggregation|FleetMetric",
        "They count over all things at once, which no index of the registry does. [SearchIndex](search.md) is served",
    ),
    ("custom authorizers", "Authorizer", "Not yet"),
    ("domain configurations", "DomainConfiguration", "Not yet: the [endpoints](settings.md#endpoints) are settings"),
    ("logging", "Logging", "The [log](log-events.md) is a setting of the server, not of an account"),
    ("encryption", "EncryptionConfiguration", "The store's encryption is the operator's"),
)


def aws_by_noun() -> dict[str, list[str]]:
    """The served operations of the control plane, by the noun of the module that declares them."""
    by_noun = defaultdict(list)
    for name, operation in OPERATIONS.items():
        module = _module_of(operation).__name__.rpartition(".")[2]
        by_noun[_MODULE_NAMES.get(module, module.replace("_", " "))].append(name)
    return {noun: by_noun[noun] for noun in sorted(by_noun, key=str.lower)}


def not_served() -> dict[str, tuple[list[str], str]]:
    """The operations of both planes that are not served, and why, by what they are about. Raises ValueError."""
    known = {*load_contract().operations, *load_data_contract().operations}
    found: dict[str, tuple[list[str], str]] = {title: ([], why) for title, _, why in _NOT_SERVED}
    for name in sorted(known - OPERATIONS.keys() - DATA_OPERATIONS.keys()):
        title = next((title for title, pattern, _ in _NOT_SERVED if re.search(pattern, name)), None)
        if title is None:
            raise ValueError(f"{name} is not served: say why in {__file__}")
        found[title][0].append(name)
    if served := [title for title, (names, _) in found.items() if not names]:
        raise ValueError(f"these are served: delete them in {__file__}: {', '.join(served)}")
    return found


def sections() -> list[tuple[str, str, Row, list[Row]]]:
    """The page: heading, a sentence, and a table each."""
    head = ("operation", "how it differs from AWS, and why")
    of_iot, of_data, of_sts = load_contract().operations, load_data_contract().operations, load_sts_contract()
    parts = [
        (f"### {noun[0].upper()}{noun[1:]}", "", head, _rows(names, OPERATIONS))
        for noun, names in aws_by_noun().items()
    ]
    return [
        ("## Control plane", f"{len(OPERATIONS)} of the {len(of_iot)} operations of `iot` are served.", (), []),
        *parts,
        (
            "## Data plane",
            (
                f"{len(DATA_OPERATIONS)} of the {len(of_data)} operations of `iot-data` are served. "
                "[data-plane.md](data-plane.md) describes them."
            ),
            head,
            _rows(DATA_OPERATIONS, DATA_OPERATIONS),
        ),
        (
            "## STS",
            (
                f"{len(sts.SERVED)} of the {len(of_sts)} operations of `sts` are served. The others answer "
                "NotImplemented (501): they are about people and other services. [access.md](access.md#sts) describes "
                "them."
            ),
            head,
            [(name, sts.DEVIATIONS.get(name, _NONE)) for name in sts.SERVED],
        ),
        (
            "## Not served",
            (
                "These check the caller's credentials and the request's form, then answer NotImplementedException "
                "(501). So does each operation of `iot-jobs-data`."
            ),
            ("what", "operations", "why"),
            [(title, ", ".join(names), why) for title, (names, why) in not_served().items()],
        ),
    ]


def _rows(names: Iterable[str], operations: Mapping[str, Operation]) -> list[Row]:
    modules = {_module_of(operations[name]) for name in names}
    unknown = {name for module in modules for name in getattr(module, "DEVIATIONS", ())}
    if unknown := unknown - OPERATIONS.keys() - DATA_OPERATIONS.keys():
        raise ValueError(f"these operations have deviations, but are not served: {', '.join(sorted(unknown))}")
    return [(name, getattr(_module_of(operations[name]), "DEVIATIONS", {}).get(name, _NONE)) for name in names]


def _module_of(operation: Operation) -> ModuleType:
    """The module that declares the operation."""
    declared = operation.prepare if operation.apply.__module__.endswith(".declaring") else operation.apply
    assert declared is not None, "an operation of the data plane has its answer in prepare"
    return sys.modules[declared.__module__]
