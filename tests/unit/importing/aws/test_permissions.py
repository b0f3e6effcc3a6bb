"""The permissions that an import needs at AWS."""

from __future__ import annotations

from tests.unit.importing.aws.stub_account import StubAccount, failure, furnished, source_of
from thingmint.importing.sources.aws.permissions import READ, REPORTED, action_of, policy_document


def test_every_operation_that_is_called_is_listed_and_every_listed_one_is_called() -> None:
    account = furnished()
    account.further |= {
        "ListDomainConfigurations": {"domainConfigurations": [{"domainConfigurationName": "own"}]},
        "DescribeDomainConfiguration": {"domainName": "iot.example.org", "serviceType": "DATA"},
    }
    list(source_of(account).batches({}))
    without_v2 = furnished()

    def refuse(operation: str, _given: object) -> None:
        if operation == "ListPrincipalThingsV2":
            raise failure(operation, "UnknownOperationException", 404)

    without_v2.fault = refuse
    list(source_of(without_v2).batches({}))
    assert set(account.calls) | set(without_v2.calls) == {*READ, *REPORTED}


def test_every_operation_is_one_that_reads() -> None:
    model = StubAccount().service_model
    for operation in (*READ, *REPORTED):
        assert operation.startswith(("Describe", "Get", "List"))
        assert operation in model.operation_names
    assert action_of("ListPrincipalThingsV2") == "iot:ListPrincipalThings"


def test_the_policy_has_all_actions_once() -> None:
    actions = [action for statement in policy_document()["Statement"] for action in statement["Action"]]
    assert sorted(actions) == sorted({action_of(operation) for operation in (*READ, *REPORTED)})
