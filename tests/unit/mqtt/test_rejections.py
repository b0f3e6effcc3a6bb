"""The texts and codes of rejections on the provisioning topics."""

from __future__ import annotations

import pytest

from thingmint.domain.errors import (
    Denied,
    Disallowed,
    InvalidParameters,
    InvalidSigningRequest,
    NotFound,
    ProvisioningFailed,
    ProvisioningRefused,
)
from thingmint.mqtt.payloads import rejection_of

FAILED = "Register thing workflow execution terminates due to: "
ROLE = "arn:aws:iam::111111111111:role/provisioning"


@pytest.mark.parametrize(
    ("step", "status", "code"),
    [
        ("key", 403, "AccessDenied"),
        ("template", 400, "InvalidTemplate"),
        ("token", 400, "InvalidCertificateOwnershipToken"),
        ("denied", 403, "AccessDenied"),
        ("invocation", 400, "InvocationError"),
        ("result", 400, "InvalidResult"),
    ],
)
def test_a_refused_step_has_its_status_and_code(step: ProvisioningRefused.Step, status: int, code: str) -> None:
    document = rejection_of(ProvisioningRefused(step, "why"), "id").document()
    assert document == {"statusCode": status, "errorCode": code, "errorMessage": "why"}


@pytest.mark.parametrize(
    ("cause", "reason", "status", "code"),
    [
        (NotFound("policy", "x"), "Policy default version not found", 400, "ResourceRegistrationFailureException"),
        (Disallowed("thing", "x", "No."), "No.", 400, "ResourceRegistrationFailureException"),
        (NotFound("thing type", "x"), "thing type x does not exist", 400, "ResourceRegistrationFailureException"),
        (
            Denied(ROLE, "iot:CreateThing", "x", explicit=False),
            "The provisioning role is not authorized to perform an action of the template",
            403,
            "AccessDeniedException",
        ),
    ],
)
def test_a_failed_effect_has_the_text_of_aws(cause: Exception, reason: str, status: int, code: str) -> None:
    rejection = rejection_of(ProvisioningFailed(cause), "id")  # type: ignore[arg-type]
    assert (rejection.status, rejection.code) == (400, "ProvisioningFailed")
    where = f"(Service: AWSIot; Status Code: {status}; Error Code: {code}; Request ID: id; Proxy: null)"
    assert rejection.message == f"{FAILED}{reason} {where}"


def test_bad_input_has_its_error_code() -> None:
    rejection = rejection_of(InvalidSigningRequest("certificateSigningRequest", "is bad"), "id")
    assert (rejection.status, rejection.code) == (400, "InvalidCertificateSigningRequest")
    assert rejection.message == "CSR violates constraints: certificateSigningRequest is bad"
    rejection = rejection_of(InvalidParameters("Cannot resolve reference value: X"), "id")
    assert rejection.document() == {
        "statusCode": 400,
        "errorCode": "InvalidParameters",
        "errorMessage": "Cannot resolve reference value: X",
    }
