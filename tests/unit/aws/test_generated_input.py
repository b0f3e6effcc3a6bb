"""Each operation of AWS's models: each constraint that is violated is named in AWS's words, and no input breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.aws_input import Inputs
from thingmint.aws.contract import load_contract, load_data_contract, load_jobs_contract
from thingmint.domain.errors import Invalid

if TYPE_CHECKING:
    from tests.aws_input import Sent
    from thingmint.aws.contract import Contract

CONTRACTS = {"iot": load_contract, "iot-data": load_data_contract, "iot-jobs-data": load_jobs_contract}


def parsed(contract: Contract, operation: str, sent: Sent) -> object:
    path, _, query = sent.target.partition("?")
    found = contract.match(sent.method, path.encode())
    assert found is not None, (operation, path)
    assert found[0].name == operation
    headers = {name.lower().encode(): value.encode() for name, value in sent.headers.items()}
    return found[0].parse(found[1], query.encode(), headers, sent.body)


@pytest.mark.parametrize("service", CONTRACTS)
def test_each_constraint_is_named_in_awss_words(service: str) -> None:
    inputs, contract = Inputs(service), CONTRACTS[service]()
    wrong, cases = [], 0
    for operation in inputs.operations:
        for case in (*inputs.broken(operation), *inputs.broken_twice(operation)):
            cases += 1
            try:
                answer = f"accepted as {parsed(contract, operation, case.sent)}"
            except Invalid as error:
                answer = str(error)
                if case.message is None and "validation error" not in answer:
                    continue
            if answer != case.message:
                wrong.append(f"{operation}, {case.what}: {answer[:200]}")
    assert wrong == []
    assert cases > {"iot": 5000, "iot-data": 30, "iot-jobs-data": 40}[service]


@pytest.mark.parametrize("service", CONTRACTS)
def test_unknown_members_are_ignored(service: str) -> None:
    inputs, contract = Inputs(service), CONTRACTS[service]()
    for operation in inputs.operations:
        valid = inputs.valid(operation)
        expected = parsed(contract, operation, inputs.send(operation, valid))
        assert parsed(contract, operation, inputs.send(operation, valid, extra=True)) == expected
