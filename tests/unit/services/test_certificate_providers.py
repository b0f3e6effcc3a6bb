"""Certificate providers: AWS IoT's five operations, and certificates that a provider signs for devices."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.issuers import new_issuer, pem
from tests.unit import vectors
from tests.unit.services.provisioning_support import CLAIM, Provisioning
from tests.unit.services.provisioning_support import body as template_body
from tests.world import ABROAD, OURS, THEIRS
from thingmint.domain.errors import (
    AlreadyExists,
    Invalid,
    InvalidSigningRequest,
    LimitExceeded,
    NotFound,
    ProvisioningRefused,
)
from thingmint.mqtt.provisioning import CREATE_FROM_CSR, NewCertificateRequest
from thingmint.services.function_calls import CallFailed
from thingmint.services.functions import Functions, FunctionTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.world import World
    from thingmint.domain.arns import Scope
    from thingmint.services.functions import Use

LAMBDA = f"arn:aws:lambda:us-east-1:{OURS.account}:function:sign"
OTHER_LAMBDA = f"arn:aws:lambda:eu-central-1:{OURS.account}:function:sign2:PROD"
NAME = {"certificateProviderName": "ours=,@_-"}
ARN = f"arn:aws:iot:us-east-1:{OURS.account}:certificateprovider/ours=,@_-"
TOKEN = "0" * 36
MADE = {**NAME, "lambdaFunctionArn": LAMBDA, "accountDefaultForOperations": ["CreateCertificateFromCsr"]}
CSR = vectors.csr_pem()
CA = new_issuer("Factory", now=vectors.NOW)


class Signing(FunctionTable):
    """A function whose answer the test sets."""

    def __init__(self, answer: Any) -> None:
        super().__init__(Functions())
        self.answer = answer
        self.asked: list[tuple[str, str, Mapping[str, object]]] = []

    async def call(
        self, account: str, arn: str, use: Use, event: Mapping[str, object], read: Callable[[object], Any]
    ) -> Any:
        assert use == "certificate_provider"
        self.asked.append((account, arn, event))
        if isinstance(self.answer, CallFailed):
            raise self.answer
        return read(self.answer)


def signed(**facts: Any) -> dict[str, str]:
    """The answer of a function that signed for the key of CSR."""
    return {"certificatePem": pem(CA.sign("lamp", **{"key": vectors.ec_key(), **facts}))}


def signs(world: World, answer: Any) -> Signing:
    signing = Signing(answer)
    world.environment = replace(world.environment, functions=signing)
    return signing


async def create_from_csr(world: World, scope: Scope = OURS) -> dict[str, Any]:
    request = NewCertificateRequest(CLAIM, CSR, "lamp-1")
    answer: dict[str, Any] = await world.run(CREATE_FROM_CSR, request, scope)
    return answer


# -- the operations -----------------------------------------------------------------------------------------------


async def test_a_provider_is_described_as_given(world: World) -> None:
    made = await world.aws("CreateCertificateProvider", **MADE)
    assert made == {**NAME, "certificateProviderArn": ARN}
    assert world.audit_resources() == ["certificateprovider/ours=,@_-"]
    times = {"creationDate": world.clock.now, "lastModifiedDate": world.clock.now}
    assert await world.aws("DescribeCertificateProvider", **NAME) == {**MADE, "certificateProviderArn": ARN, **times}
    for ascending in ({}, {"ascendingOrder": True}, {"ascendingOrder": False}):
        listed = await world.aws("ListCertificateProviders", **ascending)
        assert listed == {"certificateProviders": [made], "nextToken": None}


async def test_an_update_changes_only_what_is_given(world: World) -> None:
    await world.aws("CreateCertificateProvider", **MADE)
    created = world.clock.now
    world.clock.now += timedelta(minutes=1)
    for change in ({"lambdaFunctionArn": OTHER_LAMBDA}, {"accountDefaultForOperations": ["CreateCertificateFromCsr"]}):
        assert (await world.aws("UpdateCertificateProvider", **NAME, **change))["certificateProviderArn"] == ARN
    found = await world.aws("DescribeCertificateProvider", **NAME)
    assert (found["lambdaFunctionArn"], found["creationDate"]) == (OTHER_LAMBDA, created)
    assert found["lastModifiedDate"] == world.clock.now


async def test_an_account_has_one_provider_in_a_region(world: World) -> None:
    await world.aws("CreateCertificateProvider", **MADE)
    with pytest.raises(AlreadyExists) as caught:
        await world.aws("CreateCertificateProvider", **MADE)
    assert caught.value.arn == ARN
    with pytest.raises(LimitExceeded):
        await world.aws("CreateCertificateProvider", **MADE | {"certificateProviderName": "another"})
    for scope in (ABROAD, THEIRS):
        await world.aws("CreateCertificateProvider", scope, **MADE)
    assert await world.count("certificate_providers") == 3


async def test_a_repeated_call_with_its_token_gets_the_same_answer(world: World) -> None:
    given = {**MADE, "clientToken": TOKEN, "tags": [{"Key": "a", "Value": "b"}]}
    made = await world.aws("CreateCertificateProvider", **given)
    assert await world.aws("CreateCertificateProvider", **given) == made
    for other in ({"clientToken": "1" * 36}, {"lambdaFunctionArn": OTHER_LAMBDA}):
        with pytest.raises(AlreadyExists):
            await world.aws("CreateCertificateProvider", **given | other)
    with pytest.raises(LimitExceeded):
        await world.aws("CreateCertificateProvider", **given | {"certificateProviderName": "another"})


async def test_a_deleted_provider_is_gone_with_its_tags(world: World) -> None:
    await world.aws("CreateCertificateProvider", **MADE, tags=[{"Key": "a", "Value": "b"}])
    assert (await world.aws("ListTagsForResource", resourceArn=ARN))["tags"] == [{"Key": "a", "Value": "b"}]
    await world.aws("DeleteCertificateProvider", **NAME)
    assert await world.count("tags") == 0
    for operation in ("Describe", "Update", "Delete"):
        with pytest.raises(NotFound):
            await world.aws(f"{operation}CertificateProvider", **NAME)
    assert (await world.aws("ListCertificateProviders"))["certificateProviders"] == []
    await world.aws("CreateCertificateProvider", **MADE | {"certificateProviderName": "another"})


@pytest.mark.parametrize("operation", ["Describe", "Update", "Delete"])
async def test_another_name_and_other_accounts_find_nothing(world: World, operation: str) -> None:
    await world.aws("CreateCertificateProvider", **MADE)
    for scope, given in ((OURS, {"certificateProviderName": "another"}), (THEIRS, NAME), (ABROAD, NAME)):
        with pytest.raises(NotFound):
            await world.aws(f"{operation}CertificateProvider", scope, **given)
    assert (await world.aws("ListCertificateProviders", THEIRS))["certificateProviders"] == []


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "sign",
        "https://hooks.example.org/",
        f"arn:aws:iot:us-east-1:{OURS.account}:function:sign",
        "arn:aws:lambda:us-east-1:1:function:sign",
        f"{LAMBDA}\n",
        f"{LAMBDA}:a:b",
        f"arn:aws:lambda:us-east-1:{OURS.account}:layer:sign",
    ],
)
async def test_a_provider_has_the_arn_of_a_lambda_function(world: World, arn: str) -> None:
    with pytest.raises(Invalid, match="lambdaFunctionArn must be the ARN"):
        await world.aws("CreateCertificateProvider", **MADE | {"lambdaFunctionArn": arn})
    await world.aws("CreateCertificateProvider", **MADE)
    with pytest.raises(Invalid, match="lambdaFunctionArn must be the ARN"):
        await world.aws("UpdateCertificateProvider", **NAME, lambdaFunctionArn=arn)


# -- signing ------------------------------------------------------------------------------------------------------


async def test_the_function_signs_for_the_device(world: World) -> None:
    answer = signed(begins=vectors.NOW + timedelta(seconds=30))  # its clock is a little ahead
    signing = signs(world, answer)
    await world.aws("CreateCertificateProvider", **MADE)
    made = await create_from_csr(world)
    event = {"certificateSigningRequest": CSR, "principalId": CLAIM, "clientId": "lamp-1"}
    assert signing.asked == [(OURS.account, LAMBDA, event)]
    assert (made["certificatePem"], set(made)) == (
        answer["certificatePem"],
        {"certificateId", "certificatePem", "certificateOwnershipToken"},
    )
    described = await world.aws("DescribeCertificate", certificateId=made["certificateId"])
    found = described["certificateDescription"]
    assert (found["status"], found["certificateMode"]) == ("PENDING_ACTIVATION", "SNI_ONLY")
    assert world.environment.counts["certificates_discarded"] == 0


async def test_without_a_provider_of_the_account_and_region_this_server_signs(world: World) -> None:
    signing = signs(world, signed())
    await world.aws("CreateCertificateProvider", **MADE)
    for scope in (THEIRS, ABROAD):
        await create_from_csr(world, scope)
    await world.aws("CreateCertificateFromCsr", certificateSigningRequest=CSR)
    await world.aws("DeleteCertificateProvider", **NAME)
    await create_from_csr(world)
    assert signing.asked == []


async def test_a_signed_certificate_can_be_provisioned(world: World) -> None:
    signs(world, signed())
    await world.aws("CreateCertificateProvider", **MADE)
    made = await create_from_csr(world)
    provisioning = Provisioning(world)
    template = await provisioning.template(template_body(Properties={"ThingName": "lamp"}))
    thing = await provisioning.register(template, made["certificateOwnershipToken"])
    assert thing.name == "lamp"
    assert await provisioning.status(made["certificateId"]) == "ACTIVE"


WRONG_KEY = "The certificate of the certificate provider has another key than the CSR."
INVALID = "Certificate provider result is in an invalid format."
NOT_EXECUTED = "The certificate provider was not executed successfully."
NOT_ALLOWED = "Access denied while invoking Lambda function"
ANSWERS: list[tuple[Any, str, str]] = [
    (signed(key=vectors.ec_key("secp384r1")), "result", WRONG_KEY),
    ({"certificatePem": CA.pem}, "result", WRONG_KEY),
    ({"certificatePem": signed()["certificatePem"] + CA.pem}, "result", INVALID),
    ({"certificatePem": CSR}, "result", INVALID),
    ({"certificatePem": ""}, "result", INVALID),
    ({"certificatePem": "\ud800"}, "result", INVALID),
    ({"certificatePem": signed()["certificatePem"].replace("\n", "\0\n")}, "result", INVALID),
    ({"certificatePem": [signed()["certificatePem"]]}, "result", INVALID),
    ({"CertificatePem": signed()["certificatePem"]}, "result", INVALID),
    ({}, "result", INVALID),
    ([], "result", INVALID),
    ("x", "result", INVALID),
    (None, "result", "The certificate provider did not return a response."),
    (signed(ends=vectors.NOW - timedelta(seconds=1), begins=vectors.NOW - timedelta(days=1)), "result", INVALID),
    (signed(extensions=[x509.BasicConstraints(ca=True, path_length=None)]), "result", INVALID),
    (CallFailed("timeout", ""), "invocation", NOT_EXECUTED),
    (CallFailed("status", ""), "invocation", NOT_EXECUTED),
    (CallFailed("error", ""), "invocation", NOT_EXECUTED),
    (CallFailed("overloaded", ""), "invocation", NOT_EXECUTED),
    (CallFailed("misconfigured", ""), "invocation", NOT_EXECUTED),
    (CallFailed("too_large", ""), "result", INVALID),
    (CallFailed("not_found", ""), "invocation", NOT_ALLOWED),
    (CallFailed("forbidden", ""), "invocation", NOT_ALLOWED),
    (
        CallFailed("unreachable", ""),
        "invocation",
        "A failure occurred while invoking the certificate provider.",
    ),
]


@pytest.mark.parametrize(("answer", "step", "reason"), ANSWERS)
async def test_a_failed_provider_refuses_the_device(world: World, answer: Any, step: str, reason: str) -> None:
    signs(world, answer)
    await world.aws("CreateCertificateProvider", **MADE)
    with pytest.raises(ProvisioningRefused) as refused:
        await create_from_csr(world)
    assert (refused.value.step, refused.value.reason) == (step, reason)
    assert (await world.count("registrations"), await world.count("ownership_tokens")) == (0, 0)


async def test_a_certificate_is_signed_once(world: World) -> None:
    signs(world, signed())
    await world.aws("CreateCertificateProvider", **MADE)
    made = (await create_from_csr(world))["certificateId"]
    for change in ({}, {"newStatus": "REVOKED"}, None):
        if change:
            await world.aws("UpdateCertificate", certificateId=made, **change)
        if change is None:
            await world.aws("DeleteCertificate", certificateId=made)
        with pytest.raises(ProvisioningRefused, match="was registered before"):
            await create_from_csr(world)


async def test_a_function_is_not_asked_about_a_csr_that_is_refused(world: World) -> None:
    signing = signs(world, signed())
    await world.aws("CreateCertificateProvider", **MADE)
    for csr in ("nonsense", vectors.csr_pem(vectors.rsa_key(1024))):
        with pytest.raises(InvalidSigningRequest):
            await world.run(CREATE_FROM_CSR, NewCertificateRequest(CLAIM, csr, "lamp-1"))
    assert signing.asked == []


@pytest.mark.parametrize(("account", "asked"), [(THEIRS.account, False), ("999999999999", True)])
async def test_functions_of_other_accounts_are_not_called(world: World, account: str, *, asked: bool) -> None:
    """An ARN from AWS may have an account that is not of this instance."""
    signing = signs(world, signed())
    await world.aws("CreateCertificateProvider", **MADE | {"lambdaFunctionArn": LAMBDA.replace(OURS.account, account)})
    if asked:
        await create_from_csr(world)
    else:
        with pytest.raises(ProvisioningRefused, match=NOT_ALLOWED):
            await create_from_csr(world)
        assert dict(signing.counts()) == {("", "certificate_provider", "not_found"): 1}
    assert bool(signing.asked) is asked
