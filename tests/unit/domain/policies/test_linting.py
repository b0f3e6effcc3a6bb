"""The linter of policies: errors with their places, and warnings of what a policy hardly means."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest

from thingmint.domain.arns import Scope
from thingmint.domain.linting import Report, lint_policy, policies
from thingmint.domain.linting.positions import Positions
from thingmint.domain.linting.reading import MAX_FLAWS
from thingmint.domain.policies import Kind
from thingmint.server.policy_actions import vocabulary_of

OURS = Scope("123456789012", "us-east-1")
ARN = "arn:aws:iot:us-east-1:123456789012"


def report(document: Any, kind: Kind = Kind.IDENTITY) -> Report:
    text = document if isinstance(document, str) else json.dumps(document, indent=1)
    return lint_policy(text, kind, vocabulary_of(kind, OURS, ["us-east-1", "eu-west-1"]), 6144)


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def flaws(document: Any, kind: Kind = Kind.IDENTITY) -> list[str]:
    return [f"{flaw.kind}: {flaw.message}" for flaw in report(document, kind).flaws]


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, "is empty"),
        ('{"Version": "2012-10-17",\n "Statement": [{"Effect": "Allow" "Action": "x"}]}', 2, 35, "comma"),
        ('{\n"Version": "2012-10-17",\n}', 3, 1, "comma before }"),
        ('{"Version": "2012-10-17\n"}', 1, 24, "quote"),
        ('{"Version": "2012-10-17"} x', 1, 27, "ends before"),
        ('{"Statement": NaN}', 1, 15, "not a number"),
        ('{"Version": "2012-10-17",\n"Version": "2012-10-17", "Statement": []}', 2, 1, "twice"),
        ("[]", 1, 1, "JSON object"),
        ("[" * 50_000, 1, 1, "not JSON"),
        ("x" * 70_000, 1, 1, "at most"),
    ],
)
def test_errors_of_the_text_have_their_place(text: str, line: int, column: int, words: str) -> None:
    first = next(flaw for flaw in report(text).flaws if words in flaw.message)
    assert (first.kind, first.line, first.column) == ("error", line, column)


def test_all_unknown_elements_and_malformed_actions_are_named() -> None:
    text = """{
  "Version": "2012-10-17",
  "Statements": [],
  "Statement": [
    {"Effects": "Allow", "Action": "iot:Connect", "Resource": "*"},
    {"Effect": "Allow", "Action": ["iot:ListThings", "createThing"], "Resource": "*"},
    {"Effect": "Allow", "Action": "iot:ListThings", "Resource": "*", "Condition": {"StringEqual": {}}},
    {"Effect": "Permit", "Action": "iot:ListThings", "Resource": "*"}
  ]
}"""
    found = {(flaw.line, flaw.column): flaw.message for flaw in report(text).flaws if flaw.kind == "error"}
    assert found == {
        (3, 3): "A policy has no element Statements: did you mean Statement?",
        (5, 6): "A statement has no element Effects: did you mean Effect?",
        (6, 54): "createThing is no action: write service:Operation, such as iot:Connect, or *.",
        (7, 83): "Condition has an unknown operator.",
        (8, 16): "Effect must be Allow or Deny.",
    }
    assert not report(text).sentences


def test_an_invalid_document_is_never_without_an_error() -> None:
    for document in (
        policy(allow("iot:ListThings", Sid="a"), allow("iot:ListThings", Sid="a")),
        policy(allow("iot:ListThings", Principal="*")),
        {"Version": "2020", "Statement": [allow("*")]},
        policy({"Effect": "Allow", "Action": "*"}),
        policy(allow("iot:ListThings", "*" * 7000)),
        policy(1),  # type: ignore[arg-type]
        policy(allow([])),
        policy(allow(["iot:ListThings", 7])),
    ):
        assert report(document).errors, document


UNKNOWN = [
    (allow("iot:CreateThng"), "There is no action iot:CreateThng: did you mean iot:CreateThing"),
    (allow("iot:Lost*"), "There is no action iot:Lost*"),
    (allow("s3:GetObject"), "s3:GetObject is of a service that this server does not have"),
    (allow("iot:CreateJob"), "This server does not ask the policies of users, roles and service accounts"),
    (allow("thingmint:AttachUserPolicies"), "did you mean thingmint:AttachUserPolicy"),
]


@pytest.mark.parametrize(("statement", "words"), UNKNOWN)
def test_unknown_actions(statement: dict[str, Any], words: str) -> None:
    found = flaws(policy(statement))
    assert any(words in each for each in found), found
    assert any("This statement never applies" in each for each in found)


USELESS = [
    allow("iot:DescribeThing", "arn:aws:iot:us-east-1:999999999999:thing/x"),
    allow("iot:DescribeThing", "arn:aws:iot:us-east-2:123456789012:thing/x"),
    allow("iot:DescribeThing", f"{ARN}:things/*"),
    allow("iot:DescribeThing", "arn:aws:iot:*:*:cert/*"),
    allow("iot:ListThings", f"{ARN}:thing/*"),
    allow("thingmint:ListUsers", "arn:aws:iam::123456789012:user/*"),
    allow("yandex:DeviceService.Get", "yandex:devices/x"),
    allow("iot:DescribeThing", f"{ARN}:thing/*", Condition={"StringEquals": {"aws:SorceIp": "x"}}),
    allow("iot:DescribeThing", f"{ARN}:thing/*", Condition={"StringEquals": {"aws:username": []}}),
]


@pytest.mark.parametrize("statement", USELESS)
def test_statements_that_never_apply(statement: dict[str, Any]) -> None:
    assert any("this statement never applies" in each.lower() for each in flaws(policy(statement)))


@pytest.mark.parametrize("kind", [Kind.IDENTITY, Kind.DEVICE])
@pytest.mark.parametrize("resource", ["*", "a:b", f"{ARN}:thing/*"])
@pytest.mark.parametrize("excluded", ["*", ["*"], ["*", "iot:Lost"], ["*:*"]])
def test_a_statement_that_leaves_no_action_never_applies(excluded: Any, resource: str, kind: Kind) -> None:
    statement = {"Effect": "Allow", "NotAction": excluded, "Resource": resource}
    assert any("never applies: it leaves no action" in each for each in flaws(policy(statement), kind))


MEANT = [
    allow("iot:DescribeThing", f"{ARN}:thing/${{aws:username}}-*"),
    allow("iot:Describe*", ["arn:aws:iot:*:123456789012:thing/*", f"{ARN}:cert/*"]),
    allow("iot:DescribeThing", "arn:aws:iot:eu-west-1:*:thing/a?c"),
    allow("iot:DescribeThing", "arn:*:thing/*"),
    allow("iot:ListThings"),
    allow("yandex:DeviceService.*", "yandex:folder/b1g"),
    allow("sts:AssumeRole", "arn:aws:iam::123456789012:role/operators"),
    allow("iot:DescribeThing", f"{ARN}:thing/*", Condition={"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}),
]


@pytest.mark.parametrize("statement", MEANT)
def test_what_is_meant_has_no_warning(statement: dict[str, Any]) -> None:
    assert flaws(policy(statement)) == []


def test_an_action_whose_resource_is_missing() -> None:
    (found,) = flaws(policy(allow(["iot:ListCertificates", "iot:DescribeCertificate"], f"{ARN}:cert/*")))
    assert found.endswith("iot:ListCertificates has no effect here: it is asked for with the resource *.")


def test_statements_are_compared_with_each_other() -> None:
    deny = {"Effect": "Deny", "Action": "iot:List*", "Resource": "*"}
    assert any("another one denies" in each for each in flaws(policy(deny, allow("iot:ListThings"))))
    assert not any("another one denies" in each for each in flaws(policy(deny, allow("iot:DescribeThing"))))
    limited = {**deny, "Condition": {"Bool": {"aws:x": "true"}}}
    assert not any("another one denies" in each for each in flaws(policy(limited, allow("iot:ListThings"))))
    assert any("says the same" in each for each in flaws(policy(allow("iot:ListThings"), allow("iot:ListThings"))))


BROAD = [
    (allow("*"), "every action on every resource"),
    (allow("iot:*", f"{ARN}:thing/*"), "all actions of iot"),
    (allow("iot:DescribeThing"), "every resource"),
    ({"Effect": "Allow", "NotAction": "iot:Delete*", "Resource": "*"}, "NotAction"),
    ({"Effect": "Allow", "Action": "iot:DescribeThing", "NotResource": f"{ARN}:thing/x"}, "NotResource"),
    (allow("thingmint:AttachUserPolicy"), "can get every other permission"),
    (allow("thingmint:Create*"), "can get every other permission"),
    (allow("thingmint:Get*"), "With thingmint:GetSessionToken a principal can get every other permission"),
]


@pytest.mark.parametrize(("statement", "words"), BROAD)
def test_broad_grants(statement: dict[str, Any], words: str) -> None:
    assert any(each.startswith("warning") and words in each for each in flaws(policy(statement)))
    assert not any(words in each for each in flaws(policy(statement | {"Effect": "Deny"})))


OF_DEVICES = [
    (allow("iot:Subscribe", f"{ARN}:topic/a"), "topicfilter/"),
    (allow("iot:Publish", f"{ARN}:topic/a/#"), "plain characters"),
    (allow("iot:Connect", f"{ARN}:client/*"), "each client id"),
    (allow("iot:CreateThing"), "does not ask the policies of devices"),
    (allow("iot:GetThingShadow"), "does not ask the policies of devices"),
    (allow("iot:Connect", "arn:aws:iot:eu-west-1:123456789012:client/a"), "region eu-west-1"),
    (allow("iot:Connect", f"{ARN}:client/${{iot:Connection.Thing.Name}}"), "iot:Connection.Thing.Name"),
]


@pytest.mark.parametrize(("statement", "words"), OF_DEVICES)
def test_policies_of_devices(statement: dict[str, Any], words: str) -> None:
    assert any(words in each for each in flaws(policy(statement), Kind.DEVICE)), flaws(policy(statement), Kind.DEVICE)


def test_a_device_policy_that_is_meant() -> None:
    own = "${iot:Connection.Thing.ThingName}"
    document = policy(
        allow("iot:Connect", f"{ARN}:client/{own}"),
        allow(["iot:Publish", "iot:Receive"], f"{ARN}:topic/devices/{own}/*"),
        allow("iot:Subscribe", f"{ARN}:topicfilter/devices/{own}/+/#"),
    )
    assert flaws(document, Kind.DEVICE) == []


def test_who_may_assume_a_role() -> None:
    all_callers = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": "*"}
    assert any("may assume the role" in each for each in flaws(policy(all_callers), Kind.TRUST))
    service = all_callers | {"Principal": {"Service": "iot.amazonaws.com"}}
    assert flaws(policy(service), Kind.TRUST) == []
    assert any("never applies" in each for each in flaws(policy(service | {"Action": "iot:Connect"}), Kind.TRUST))


def test_what_a_policy_does_in_sentences() -> None:
    conditions = {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.0/8"]}, "Null": {"aws:username": "false"}}
    document = policy(
        allow(["iot:DescribeThing", "iot:ListTagsForR*"], f"{ARN}:thing/*", Sid="Look", Condition=conditions),
        {"Effect": "Deny", "NotAction": "iot:*", "Resource": "*"},
    )
    first, second = report(document).sentences
    assert (first.effect, first.sid) == ("Allow", "Look")
    assert first.text == (
        "Allows iot:DescribeThing and iot:ListTagsForR* (1 action) on thing/* in us-east-1, "
        "if aws:SourceIp is in 10.0.0.0/8 or 127.0.0.0/8 and aws:username has a value."
    )
    assert second.text == "Denies every action except all actions of AWS IoT on every resource."


@pytest.mark.parametrize(
    "later",
    [
        allow("iot:Connect", f"{ARN}:client/a"),
        allow(["iot:Lost", "iot:Connect"], f"{ARN}:client/a"),
        {"Effect": "Deny", "NotAction": ["iot:Lost", "iot:Publish"], "Resource": f"{ARN}:client/a"},
    ],
)
@pytest.mark.parametrize("looked_at", [298, 299])
def test_what_is_not_looked_at_is_not_said_to_never_apply(looked_at: int, later: dict[str, Any]) -> None:
    found = flaws(policy(allow("iot:Publish", ["*"] * looked_at), later), Kind.DEVICE)
    assert not any("never applies" in each or each.startswith("error") for each in found), found


def test_hostile_documents_take_bounded_work_and_have_text_that_can_be_sent() -> None:
    stars = policy(
        allow(
            ["iot:" + "*".join("abcdefghij") + f"*{number}" for number in range(200)],
            [f"arn:aws:iot:*:*:{'*a' * 10}{number}" for number in range(100)],
        )
    )
    surrogate = json.dumps(policy(allow("iot:ListThings", "a:\ud800")))
    for document in (stars, surrogate, '{"a":' * 900 + "1" + "}" * 900, policy(*[allow("iot:ListThings")] * 400)):
        found = report(document)
        assert len(found.flaws) <= 50
        for text in (*(flaw.message for flaw in found.flaws), *(sentence.text for sentence in found.sentences)):
            text.encode()
            assert len(text) < 2000


@pytest.mark.parametrize(
    "document",
    [
        '{"Statement": [' + ",".join(["{}"] * 20_000) + "]}",
        '{"Statement": [' + ",".join(["1"] * 20_000) + "]}",
        '{"Statement": [' + ",".join(['{"Actions": 1}'] * 4_000) + "]}",
        "{" + ",".join(f'"Actio{number}": 1' for number in range(4_000)) + "}",
        "{" + ",".join(['"a": 1'] * 8_000) + "}",
        "[" + ",".join(["NaN"] * 16_000) + "]",
        json.dumps(policy(allow(["x"] * 10_000))),
    ],
)
def test_a_full_report_ends_the_work(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [0]

    def counted(name: str, of: Any) -> None:
        real = getattr(of, name)

        def step(*given: Any, **named: Any) -> Any:
            steps[0] += 1
            return real(*given, **named)

        monkeypatch.setattr(of, name, step)

    counted("compile_policy", policies)
    counted("get_close_matches", difflib)
    counted("place", Positions)
    found = report(document)
    assert len(found.flaws) == MAX_FLAWS
    assert found.more
    assert steps[0] <= 4 * MAX_FLAWS


class Unsearched(str):
    __slots__ = ()

    def count(self, *_: Any) -> int:
        raise AssertionError("the whole text is read for one place")

    rfind = index = rindex = find = count


def test_places_are_found_without_reading_the_text_again() -> None:
    text = '{\n"a": 1,\n\n  "b": [\n]\n}\n'
    positions = Positions(Unsearched(text))
    for offset in range(len(text)):
        before = text[:offset].split("\n")
        assert positions.place(offset) == (len(before), len(before[-1]) + 1)


def test_an_error_in_a_statement_hides_no_warning_of_another() -> None:
    text = """{"Version": "2012-10-17", "Statement": [
        {"Effect": "Permit", "Action": "iot:Connect", "Resource": "*"},
        {"Effect": "Allow", "Action": "iot:ListThing", "Resource": "*"},
        {"Effect": "Allow", "Action": "iot:ListThings", "Resource": "*", "Condition": []}
    ]}"""
    found = [(flaw.kind, flaw.line) for flaw in report(text).flaws]
    assert found == [("error", 2), ("error", 4), ("warning", 3)]
    of_version = report(text.replace("2012-10-17", "2013-01-01").replace("Permit", "Allow"))
    assert "error" in {flaw.kind for flaw in of_version.flaws}


def test_an_unknown_action_alone_is_told_once() -> None:
    text = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:ListThing", "Resource": "*"}}'
    (flaw,) = report(text).flaws
    assert (
        flaw.message == "This statement never applies. There is no action iot:ListThing: did you mean iot:ListThings?"
    )
