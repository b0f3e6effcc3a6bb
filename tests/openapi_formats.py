"""Values of the formats in the native API's OpenAPI document, which `st run` loads by SCHEMATHESIS_HOOKS.

MARKERS has a real marker of each list, as JSON.
"""

from __future__ import annotations

import json
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.e2e.material import csr_pem, self_signed_pem
from thingmint.services.certificate_search import SEARCHED

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RANGES = (("1s", "3650d"), ("1m", "36h"), ("1h", "12h"))


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _UNITS[duration[-1]]


def _durations(shortest: str, longest: str) -> st.SearchStrategy[str]:
    bounds = {unit: (-(-_seconds(shortest) // size), _seconds(longest) // size) for unit, size in _UNITS.items()}
    return st.sampled_from([(unit, *range_) for unit, range_ in bounds.items() if range_[0] <= range_[1]]).flatmap(
        lambda each: st.integers(each[1], each[2]).map(lambda number: f"{number}{each[0]}")
    )


def _documents(**principal: object) -> st.SearchStrategy[str]:
    statement = {"Effect": "Allow", "Action": "iot:Describe*", **principal}
    if not principal:
        statement["Resource"] = "*"
    return st.sampled_from(
        [
            json.dumps({"Version": "2012-10-17", "Statement": statement | {"Effect": effect}})
            for effect in ("Allow", "Deny")
        ]
    )


schemathesis.openapi.format("csr", st.builds(csr_pem))
schemathesis.openapi.format("certificate", st.builds(self_signed_pem))
for name in ("identity-policy", "session-policy"):
    schemathesis.openapi.format(name, _documents())
schemathesis.openapi.format(
    "trust-policy",
    st.just(
        json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"},
            }
        )
    ),
)
schemathesis.openapi.format(
    "provisioning-template",
    st.just(
        json.dumps(
            {
                "Resources": {
                    "certificate": {
                        "Type": "AWS::IoT::Certificate",
                        "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}},
                    }
                }
            }
        )
    ),
)
for shortest, longest in _RANGES:
    schemathesis.openapi.format(f"duration-{shortest}-{longest}", _durations(shortest, longest))
_MARKERS = json.loads(os.environ["MARKERS"])
for listing, marker in _MARKERS.items():
    schemathesis.openapi.format(f"marker-of-{listing}", st.just(marker))


@schemathesis.hook
def filter_case(_context: object, case: schemathesis.Case[Any]) -> bool:
    """Leave out what OpenAPI cannot forbid.

    A list accepts the markers of the same selection only, and a search for certificates one of several parameters.
    """
    given = set(case.query)
    if "marker" in given:
        return case.query["marker"] in _MARKERS.values() and given <= {"marker", "page_size"}
    return len(given & set(SEARCHED)) < 2


@schemathesis.hook
def before_add_examples(_context: object, examples: list[schemathesis.Case[Any]]) -> None:
    """Leave out the recorded examples of a next page: their marker is of another server."""
    examples[:] = [each for each in examples if "marker" not in each.query]
