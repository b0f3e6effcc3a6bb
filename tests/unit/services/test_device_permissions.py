"""The permissions of a device, and the explanations of refusals for the operator."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from thingmint.domain.arns import Scope
from thingmint.domain.errors import MalformedPolicy
from thingmint.services import device_permissions as module
from thingmint.services.claims import claim_policy
from thingmint.services.compiled_policies import PolicySet
from thingmint.services.device_permissions import DevicePermissions

SCOPE = Scope("123456789012", "eu-west-1")
ARN = "arn:aws:iot:eu-west-1:123456789012:"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def document(*statements: dict[str, object]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def permissions(*statements: dict[str, object], **context: str) -> DevicePermissions:
    known = {f"iot:{key}": value for key, value in context.items()}
    return DevicePermissions(PolicySet(SCOPE, [("p", document(*statements))]), known, lambda: NOW)


def allow(action: str, resource: str, **further: object) -> dict[str, object]:
    return {"Effect": "Allow", "Action": f"iot:{action}", "Resource": f"{ARN}{resource}", **further}


@pytest.mark.parametrize(
    ("statement", "action", "name", "expected"),
    [
        (allow("Connect", "client/a"), "Connect", "a", True),
        (allow("Connect", "client/a"), "Connect", "b", False),
        (allow("Connect", "topic/a"), "Connect", "a", False),
        (allow("Publish", "topic/a/*"), "Publish", "a/b/c", True),
        (allow("Publish", "topic/a/*"), "Receive", "a/b", False),
        (allow("Publish", "topic/a"), "RetainPublish", "a", False),
        # MQTT's wildcards are ordinary characters in a policy.
        (allow("Subscribe", "topicfilter/a/#"), "Subscribe", "a/#", True),
        (allow("Subscribe", "topicfilter/a/#"), "Subscribe", "a/b", False),
        (allow("Subscribe", "topicfilter/a/+"), "Subscribe", "a/b", False),
        (allow("Subscribe", "topicfilter/a/*"), "Subscribe", "a/+/b", True),
        (allow("Subscribe", "topic/a"), "Subscribe", "a", False),
        (allow("Connect", "client/${iot:ClientId}"), "Connect", "dev", True),
        (allow("Connect", "client/${iot:ClientId}"), "Connect", "other", False),
        (allow("Publish", "topic/${iot:Connection.Thing.ThingName}"), "Publish", "dev", False),
    ],
)
def test_decisions_follow_the_policies(statement: dict[str, object], action: str, name: str, *, expected: bool) -> None:
    assert permissions(statement, ClientId="dev").allows(action, name) is expected  # type: ignore[arg-type]


def test_decisions_that_depend_on_the_time_are_not_cached() -> None:
    now = [NOW]
    until = allow("Publish", "topic/a", Condition={"DateLessThan": {"aws:CurrentTime": "2026-11-21T12:00:01Z"}})
    given = DevicePermissions(PolicySet(SCOPE, [("p", document(until))]), {}, lambda: now[0])
    assert given.allows("Publish", "a")
    now[0] += timedelta(seconds=1)
    assert not given.allows("Publish", "a")


def test_decisions_with_further_keys_are_not_cached() -> None:
    given = permissions(
        allow("Connect", "client/a", Condition={"ForAnyValue:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}})
    )
    assert given.allows("Connect", "a", {"iot:ConnectAttributes": ["LastWill"]})
    assert not given.allows("Connect", "a", {"iot:ConnectAttributes": []})
    assert not given.allows("Connect", "a")


@pytest.mark.parametrize("size", [1, 250, 5_000])
def test_the_cache_of_a_connection_is_bounded(size: int) -> None:
    before = DevicePermissions.remembered_by_all
    given = permissions(allow("Publish", "topic/*"))
    assert all(given.allows("Publish", f"{number}" * size) for number in range(2_000))
    assert sum(map(sys.getsizeof, (name for _, name in given._remembered))) <= 64 * 1024
    assert 0 < DevicePermissions.remembered_by_all - before <= 64 * 1024
    del given
    assert DevicePermissions.remembered_by_all == before


def test_the_caches_of_all_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED_BY_ALL", DevicePermissions.remembered_by_all + 1_000)
    several = [permissions(allow("Publish", "topic/*")) for _ in range(100)]
    assert all(given.allows("Publish", "t") for given in several)
    assert sum(len(given._remembered) for given in several) == 4


def test_explanations_name_statements_that_almost_allow() -> None:
    given = permissions(
        {**allow("Publish", "topic/a"), "Sid": "OnlyA"}, {**allow("Publish", "topic/no"), "Effect": "Deny"}
    )
    assert str(given.decide("Publish", "b")) == "no statement allows it"
    assert given.explanation("Publish", "b") == [
        "statement OnlyA of policy p: would allow it, but the resource does not match"
    ]
    assert str(given.decide("Publish", "no")) == "explicit deny in statement 2 of policy p"
    assert given.explanation("Publish", "no")[0] == "statement 2 of policy p: denies it"
    assert given.explanation("Connect", "c") == [
        f"none of the policies (p) names iot:Connect; allow it on {ARN}client/c"
    ]
    nothing = DevicePermissions(PolicySet(SCOPE, []), {}, lambda: NOW)
    assert nothing.explanation("Connect", "c") == [
        f"no policy is attached; one must allow iot:Connect on {ARN}client/c"
    ]


def test_a_malformed_policy_raises() -> None:
    with pytest.raises(MalformedPolicy):
        DevicePermissions(PolicySet(SCOPE, [("p", "{}")]), {}, lambda: NOW)


def test_a_claim_only_permits_provisioning_with_its_template() -> None:
    given = DevicePermissions(PolicySet(SCOPE, [claim_policy(SCOPE, "fleet")]), {}, lambda: NOW)
    assert given.allows("Connect", "anything")
    for topic in (
        "$aws/certificates/create/json",
        "$aws/certificates/create-from-csr/cbor",
        "$aws/provisioning-templates/fleet/provision/json",
    ):
        assert given.allows("Publish", topic)
        assert given.allows("Receive", f"{topic}/accepted")
        assert given.allows("Subscribe", f"{topic}/rejected")
    assert not given.allows("Publish", "$aws/provisioning-templates/other/provision/json")
    assert not given.allows("Publish", "t")
    assert not given.allows("Subscribe", "#")
    assert not given.allows("RetainPublish", "$aws/certificates/create/json")


@pytest.mark.parametrize(
    ("text", "mentioned"),
    [
        ("topic/${iot:ClientId}", set()),
        ("topic/${iot:Connection.Thing.ThingName}", set()),
        ("topic/${aws:SOURCEIP}", {"address"}),
        ("topic/${iot:Connection.Thing.Attributes[room]}", {"attributes"}),
        ("topic/${aws:CURRENTTIME}", {"time"}),
        ("topic/${iot:Certificate.Subject.CommonName}", {"certificate"}),
        ("topic/${iot:\\u0043ertificate.Subject.CommonName}", {"address", "attributes", "certificate", "time"}),
    ],
)
def test_documents_mention_costly_keys(text: str, mentioned: set[str]) -> None:
    statement: dict[str, object] = {"Effect": "Allow", "Action": "iot:Publish", "Resource": f"{ARN}@"}
    assert PolicySet(SCOPE, [("p", document(statement).replace("@", text))]).mentions == mentioned
