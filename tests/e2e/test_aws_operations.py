"""The AWS API: every served operation with unmodified boto3 and the aws command, and every operation's own errors."""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from botocore import UNSIGNED, xform_name
from botocore.config import Config
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tests.aws_input import in_awss_words
from tests.e2e.commands import AWS, bare_environment
from tests.e2e.conftest import iot_client
from tests.e2e.material import csr_pem, fingerprint, key, self_signed_pem
from tests.e2e.signing import Signer
from tests.e2e.wire import exchange, one_request, read_answer
from thingmint import admin
from thingmint.aws.operations import OPERATIONS
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.wire import Answer
    from thingmint.testing import RunningServer

pytestmark = pytest.mark.both_engines

_UNKNOWN_ID = "0" * 64


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str]:
    """Status, code and message of the error that ``call`` raises."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    error = caught.value.response
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]


def status_of(iot: Any, cert_id: str) -> str:
    status: str = iot.describe_certificate(certificateId=cert_id)["certificateDescription"]["status"]
    return status


# -- issuing and registering --------------------------------------------------------------------------------------


def test_the_key_matches_the_certificate_and_the_certificate_chains_to_the_root(
    iot: Any, server: RunningServer
) -> None:
    created = iot.create_keys_and_certificate(setAsActive=True)
    assert created["certificateId"] == fingerprint(created["certificatePem"])
    assert status_of(iot, created["certificateId"]) == "ACTIVE"
    assert re.fullmatch(
        rf"arn:aws:iot:us-east-1:[1-9]\d{{11}}:cert/{created['certificateId']}", created["certificateArn"]
    )
    assert created["keyPair"]["PrivateKey"].startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    certificate = x509.load_pem_x509_certificate(created["certificatePem"].encode())
    private_key: Any = load_pem_private_key(created["keyPair"]["PrivateKey"].encode(), None)
    assert private_key.public_key() == certificate.public_key()
    public_pem = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert public_pem.decode() == created["keyPair"]["PublicKey"]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(server.device_ca.read_bytes()))


def test_a_device_certificate_has_the_shape_of_awss(iot: Any) -> None:
    pem = iot.create_keys_and_certificate()["certificatePem"]
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert certificate.subject.rfc4514_string() == "CN=AWS IoT Certificate"
    assert abs(datetime.now(UTC) - timedelta(minutes=2) - certificate.not_valid_before_utc) < timedelta(seconds=30)
    assert certificate.not_valid_after_utc == datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
    shown = [(type(e.value).__name__, e.critical) for e in certificate.extensions]
    assert shown == [
        ("AuthorityKeyIdentifier", False),
        ("SubjectKeyIdentifier", False),
        ("BasicConstraints", True),
        ("KeyUsage", True),
    ]


@pytest.mark.parametrize("kind", ["rsa4096", "secp256r1"])
def test_a_csr_twice_gives_two_certificates_for_its_key(iot: Any, server: RunningServer, kind: str) -> None:
    csr = csr_pem(kind, f"sensor {kind}")
    answers = [
        iot.create_certificate_from_csr(certificateSigningRequest=csr, setAsActive=active) for active in (True, False)
    ]
    root = x509.load_pem_x509_certificate(server.device_ca.read_bytes())
    for answer, status in zip(answers, ("ACTIVE", "INACTIVE"), strict=True):
        certificate = x509.load_pem_x509_certificate(answer["certificatePem"].encode())
        certificate.verify_directly_issued_by(root)
        assert certificate.public_key() == key(kind).public_key()
        assert certificate.subject.rfc4514_string() == f"CN=sensor {kind}"
        assert certificate.not_valid_after_utc == datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
        assert status_of(iot, answer["certificateId"]) == status
        assert "keyPair" not in answer
    assert answers[0]["certificateId"] != answers[1]["certificateId"]


def test_registering_an_existing_certificate(iot: Any) -> None:
    pem = self_signed_pem()
    answer = iot.register_certificate_without_ca(certificatePem=pem, status="REVOKED")
    assert answer["certificateId"] == fingerprint(pem)
    shown = iot.describe_certificate(certificateId=answer["certificateId"])["certificateDescription"]
    assert (shown["status"], shown["certificateMode"], shown["certificatePem"]) == ("REVOKED", "SNI_ONLY", pem)


def test_registering_a_certificate_twice_conflicts(iot: Any) -> None:
    pem = self_signed_pem()
    first = iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")
    with pytest.raises(iot.exceptions.ResourceAlreadyExistsException) as caught:
        iot.register_certificate_without_ca(certificatePem=pem)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409
    assert caught.value.response["resourceId"] == first["certificateId"]
    assert caught.value.response["resourceArn"] == first["certificateArn"]


# -- describing and listing ---------------------------------------------------------------------------------------


def test_describing_a_certificate(iot: Any) -> None:
    created = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())
    cert_id = created["certificateId"]
    shown = iot.describe_certificate(certificateId=cert_id)["certificateDescription"]
    account = created["certificateArn"].split(":")[4]
    assert {name: shown[name] for name in ("certificateArn", "certificateId", "certificatePem")} == {
        name: created[name] for name in ("certificateArn", "certificateId", "certificatePem")
    }
    assert (shown["status"], shown["ownedBy"], shown["certificateMode"]) == ("INACTIVE", account, "DEFAULT")
    assert shown["customerVersion"] == 1
    assert shown["creationDate"] == shown["lastModifiedDate"]
    assert abs(datetime.now(UTC) - shown["creationDate"]) < timedelta(seconds=30)
    assert re.fullmatch(r"[0-9a-f-]{36}", shown["generationId"])
    certificate = x509.load_pem_x509_certificate(created["certificatePem"].encode())
    assert shown["validity"]["notBefore"] == certificate.not_valid_before_utc
    assert shown["validity"]["notAfter"] == certificate.not_valid_after_utc


def test_ids_in_upper_case_are_accepted(iot: Any, signer: Signer) -> None:
    cert_id = iot.create_certificate_from_csr(certificateSigningRequest=csr_pem())["certificateId"]
    upper = iot.describe_certificate(certificateId=cert_id.upper())["certificateDescription"]
    assert upper["certificateId"] == cert_id
    # The model's pattern takes 0x, its length of exactly 64 does not take 0x and 64 digits.
    prefixed = signer.send("GET", f"/certificates/0x{cert_id}")
    assert (prefixed.status, prefixed.aws_code) == (400, "InvalidRequestException")
    iot.update_certificate(certificateId=cert_id.upper(), newStatus="REVOKED")
    iot.delete_certificate(certificateId=cert_id.upper())
    assert refusal(iot.describe_certificate, certificateId=cert_id)[1] == "ResourceNotFoundException"


def test_pages_have_each_certificate_once_in_order() -> None:
    with running_server() as server, contextlib.closing(iot_client(server)) as iot:
        csr = csr_pem()
        ids = [iot.create_certificate_from_csr(certificateSigningRequest=csr)["certificateId"] for _ in range(57)]
        for arguments, expected in (({}, ids[::-1]), ({"ascendingOrder": True}, ids)):
            for page_size, sizes in ((None, [25, 25, 7]), (19, [19, 19, 19]), (250, [57])):
                config = {} if page_size is None else {"PageSize": page_size}
                pages = list(iot.get_paginator("list_certificates").paginate(**arguments, PaginationConfig=config))
                found = [certificate["certificateId"] for page in pages for certificate in page["certificates"]]
                assert found == expected
                assert [len(page["certificates"]) for page in pages] == sizes
                assert "nextMarker" not in pages[-1]
        marker = iot.list_certificates(pageSize=1)["nextMarker"]
        assert re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", marker)
        assert refusal(iot.list_certificates, marker=marker, ascendingOrder=True) == (
            400,
            "InvalidRequestException",
            "marker is not one that this list returned",
        )


# -- statuses -----------------------------------------------------------------------------------------------------


def test_a_revoked_certificate_stays_revoked(iot: Any) -> None:
    cert_id = iot.register_certificate_without_ca(certificatePem=self_signed_pem())["certificateId"]
    for status in ("ACTIVE", "INACTIVE", "REVOKED"):
        iot.update_certificate(certificateId=cert_id, newStatus=status)
        assert status_of(iot, cert_id) == status
    assert refusal(iot.update_certificate, certificateId=cert_id, newStatus="ACTIVE") == (
        406,
        "CertificateStateException",
        "Status cannot be changed from REVOKED to ACTIVE",
    )


def test_a_setting_lets_revoked_certificates_return() -> None:
    variables = {"THINGMINT_REINSTATE_REVOKED": "true"}
    with running_server(environment=variables) as server, contextlib.closing(iot_client(server)) as iot:
        cert_id = iot.register_certificate_without_ca(certificatePem=self_signed_pem(), status="REVOKED")[
            "certificateId"
        ]
        iot.update_certificate(certificateId=cert_id, newStatus="ACTIVE")
        assert status_of(iot, cert_id) == "ACTIVE"


def test_a_status_that_only_the_service_can_set_is_refused(iot: Any) -> None:
    pem, status = self_signed_pem(), "PENDING_ACTIVATION"
    assert refusal(iot.register_certificate_without_ca, certificatePem=pem, status=status) == (
        406,
        "CertificateStateException",
        f"Not allowed to register certificate with {status} status",
    )
    assert refusal(iot.describe_certificate, certificateId=fingerprint(pem))[0] == 404
    cert_id = iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")["certificateId"]
    status_code, code, _ = refusal(iot.update_certificate, certificateId=cert_id, newStatus=status)
    assert (status_code, code) == (406, "CertificateStateException")


def test_only_inactive_certificates_can_be_deleted(iot: Any) -> None:
    pem = self_signed_pem()
    for force in ({}, {"forceDelete": True}):
        cert_id = iot.register_certificate_without_ca(certificatePem=pem, status="ACTIVE")["certificateId"]
        assert refusal(iot.delete_certificate, certificateId=cert_id, **force) == (
            406,
            "CertificateStateException",
            f"Certificate must be deactivated (not ACTIVE) before deletion. Id: {cert_id}",
        )
        iot.update_certificate(certificateId=cert_id, newStatus="INACTIVE")
        iot.delete_certificate(certificateId=cert_id, **force)
        assert refusal(iot.describe_certificate, certificateId=cert_id)[:2] == (404, "ResourceNotFoundException")


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("describe_certificate", {}),
        ("update_certificate", {"newStatus": "ACTIVE"}),
        ("delete_certificate", {}),
        ("delete_certificate", {"forceDelete": True}),
    ],
)
def test_unknown_certificates_are_not_found(iot: Any, operation: str, arguments: dict[str, Any]) -> None:
    call = getattr(iot, operation)
    assert refusal(call, certificateId=_UNKNOWN_ID, **arguments) == (
        404,
        "ResourceNotFoundException",
        f"certificate {_UNKNOWN_ID} does not exist",
    )


@pytest.mark.parametrize(
    "arguments",
    [{}, *({"endpointType": t} for t in ("iot:Data", "iot:Data-ATS", "iot:CredentialProvider", "iot:Jobs"))],
)
def test_endpoints_are_the_servers_address(iot: Any, arguments: dict[str, str]) -> None:
    assert iot.describe_endpoint(**arguments)["endpointAddress"] == "localhost"


@pytest.mark.parametrize("unknown", ["iot:data", "iot:Other", "", "x" * 128])
def test_unknown_endpoint_types_are_refused(signer: Signer, unknown: str) -> None:
    answer = signer.send("GET", f"/endpoint?endpointType={quote(unknown)}")
    assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")
    assert answer.json()["message"].startswith("endpointType ")


# -- parameters that boto3 would not let through ------------------------------------------------------------------

_ID = "a" * 64
_CSR_BODY = {"certificateSigningRequest": "x"}


@pytest.mark.parametrize(
    ("method", "target", "body", "message"),
    [
        ("POST", "/keys-and-certificate?setAsActive=maybe", None, "setAsActive must be true or false"),
        ("POST", "/keys-and-certificate?setAsActive=", None, "setAsActive must be true or false"),
        (
            "POST",
            "/keys-and-certificate?setAsActive=true&setAsActive=false",
            None,
            "setAsActive must be given only once",
        ),
        ("POST", "/keys-and-certificate", [], "body must be a JSON object"),
        ("POST", "/certificates", None, "certificateSigningRequest is required"),
        ("POST", "/certificates", {}, "certificateSigningRequest is required"),
        ("POST", "/certificates", {"certificateSigningRequest": None}, "certificateSigningRequest is required"),
        ("POST", "/certificates", {"certificateSigningRequest": 7}, "certificateSigningRequest must be a string"),
        ("POST", "/certificates", {"certificateSigningRequest": ["x"]}, "certificateSigningRequest must be a string"),
        (
            "POST",
            "/certificates",
            {"certificateSigningRequest": ""},
            "certificateSigningRequest must have length greater than or equal to 1",
        ),
        (
            "POST",
            "/certificates",
            {"certificateSigningRequest": "x" * 4097},
            "certificateSigningRequest must have length less than or equal to 4096",
        ),
        ("POST", "/certificates?setAsActive=1", _CSR_BODY, "setAsActive must be true or false"),
        ("POST", "/certificate/register-no-ca", {}, "certificatePem is required"),
        (
            "POST",
            "/certificate/register-no-ca",
            {"certificatePem": "x" * 65537},
            "certificatePem must have length less than or equal to 65536",
        ),
        (
            "POST",
            "/certificate/register-no-ca",
            {"certificatePem": "x", "status": "SLEEPY"},
            "status must be one of ACTIVE, INACTIVE, REVOKED, PENDING_TRANSFER, REGISTER_INACTIVE, PENDING_ACTIVATION",
        ),
        ("GET", f"/certificates/{_ID[:-1]}", None, "certificateId must have length greater than or equal to 64"),
        ("GET", f"/certificates/{_ID}a", None, "certificateId must have length less than or equal to 64"),
        (
            "GET",
            f"/certificates/{_ID[:-1]}g",
            None,
            "certificateId must satisfy regular expression pattern: (0x)?[a-fA-F0-9]+",
        ),
        ("GET", f"/certificates/{_ID[:-1]}%00", None, "certificateId must not contain the NUL character"),
        ("GET", f"/certificates/{_ID[:-1]}%2F", None, "certificateId must satisfy regular expression pattern"),
        ("GET", f"/certificates/{_ID[:-1]}%zz", None, "certificateId is not correctly percent-encoded"),
        ("GET", f"/certificates/{_ID[:-1]}%ff", None, "certificateId is not valid UTF-8"),
        ("PUT", f"/certificates/{_ID}", None, "newStatus is required"),
        (
            "PUT",
            f"/certificates/{_ID}?newStatus=active",
            None,
            "newStatus must satisfy enum value set: [ACTIVE, INACTIVE, REVOKED, PENDING_TRANSFER, ",
        ),
        ("DELETE", f"/certificates/{_ID}?forceDelete=yes", None, "forceDelete must be true or false"),
        ("GET", "/certificates?pageSize=0", None, "pageSize must have value greater than or equal to 1"),
        ("GET", "/certificates?pageSize=251", None, "pageSize must have value less than or equal to 250"),
        ("GET", "/certificates?pageSize=many", None, "pageSize must be an integer"),
        ("GET", "/certificates?pageSize=1e1", None, "pageSize must be an integer"),
        ("GET", "/certificates?pageSize=99999999999999999999", None, "pageSize must be an integer"),
        ("GET", "/certificates?marker=%3F%3F", None, "marker must satisfy regular expression pattern"),
        (
            "GET",
            f"/certificates?marker={'A' * 1028}",
            None,
            "marker must have length less than or equal to 1024",
        ),
        ("GET", "/certificates?isAscendingOrder=up", None, "isAscendingOrder must be true or false"),
    ],
)
def test_inputs_that_the_model_forbids_are_refused(
    signer: Signer, unchanged: Callable[[], None], method: str, target: str, body: object, message: str
) -> None:
    raw = b"" if body is None else json.dumps(body).encode()
    answer = signer.send(method, target, body=raw)
    assert (answer.status, answer.aws_code) == (400, "InvalidRequestException")
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-amzn-requestid"])
    document = answer.json()
    assert set(document) == {"message"}
    assert document["message"].startswith(in_awss_words(message))


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}, {"content-type": "text/plain"}])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"unknown": 1}'])
def test_a_body_may_be_empty_with_or_without_a_content_type(
    signer: Signer, headers: dict[str, str], body: bytes
) -> None:
    answer = signer.send("POST", "/keys-and-certificate?setAsActive=TRUE", headers=headers, body=body)
    assert answer.status == 200
    assert set(answer.json()) == {"certificateArn", "certificateId", "certificatePem", "keyPair"}


# -- all operations -----------------------------------------------------------------------------------------------

_STRINGS = ("a", "0", "1", "a" * 10, "0" * 12, "a" * 40, "a" * 64, "2020-04-01", "arn:aws:iot:x:0:y/z", "iot:Data")


# The model's patterns are Java's.
_CLASSES = {r"\p{L}": "A-Za-z", r"\p{Z}": " ", r"\p{N}": "0-9", r"\p{C}": r"\x00-\x1f", r"\p{Graph}": "!-~"}


def _smallest(shape: Any, depth: int = 0) -> Any:
    """The smallest input that the model allows for ``shape``."""
    if shape.type_name == "structure":
        return {
            name: _smallest(member, depth + 1)
            for name, member in shape.members.items()
            if name in shape.required_members
        }
    if shape.type_name == "list":
        return [_smallest(shape.member, depth + 1)] * shape.metadata.get("min", 0)
    if shape.type_name == "map":
        return {}
    if shape.type_name == "string":
        return _string(shape)
    values: dict[str, Any] = {"boolean": False, "timestamp": datetime(2026, 1, 1, tzinfo=UTC), "blob": b"x"}
    return values.get(shape.type_name, shape.metadata.get("min", 1))


def _string(shape: Any) -> str:
    if shape.enum:
        first: str = shape.enum[0]
        return first
    low, high = shape.metadata.get("min", 1), shape.metadata.get("max", 1 << 20)
    pattern: str = shape.metadata.get("pattern", r"[\s\S]*")
    for java, python in _CLASSES.items():
        pattern = pattern.replace(java, python)
    for candidate in (*_STRINGS, "a" * low, "0" * low):
        if low <= len(candidate) <= high and re.fullmatch(pattern, candidate):
            return candidate
    raise AssertionError(f"no example fits {shape.name}: {pattern}, {low} to {high}")


def _every_operation(iot: Any) -> list[tuple[str, dict[str, Any]]]:
    model = iot.meta.service_model
    return [
        (name, _smallest(model.operation_model(name).input_shape) if model.operation_model(name).input_shape else {})
        for name in model.operation_names
    ]


class _Recorder:
    """Notes the raw answers that a boto3 client gets."""

    def __init__(self, iot: Any) -> None:
        self.answers: list[dict[str, Any]] = []
        iot.meta.events.register("response-received.iot", self._record)

    def _record(self, response_dict: dict[str, Any], **_: Any) -> None:
        self.answers.append(response_dict)


@pytest.mark.sqlite
def test_every_operation_of_the_model_answers_in_awss_form(server: RunningServer) -> None:
    with contextlib.closing(iot_client(server)) as iot:
        recorder = _Recorder(iot)
        operations = _every_operation(iot)
        served = {*OPERATIONS}
        assert len(operations) >= 272
        assert {name for name, _ in operations} > served
        for name, arguments in operations:
            if name in served:
                continue
            *error, text = refusal(getattr(iot, xform_name(name)), **arguments)
            assert error == [501, "NotImplementedException"]
            assert text.startswith(f"{name} is not served by Thingmint yet.")
            static = name.replace("Dynamic", "")
            assert (static != name) == text.endswith(
                f" Thing groups without a query are: {static}, AddThingToThingGroup."
            )
        assert len(recorder.answers) == len(operations) - len(served)
        for answer in recorder.answers:
            assert answer["headers"]["content-type"] == "application/json"
            assert set(json.loads(answer["body"])) == {"message"}


def test_every_operation_names_the_missing_signature(server: RunningServer) -> None:
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    with contextlib.closing(iot_client(server, config=config)) as iot:
        for name, arguments in _every_operation(iot):
            status, code, message = refusal(getattr(iot, xform_name(name)), **arguments)
            assert code == "MissingAuthenticationTokenException", name
            if name == "CreateKeysAndCertificate":
                assert status == 401
                assert "API token" in message
            else:
                assert (status, message) == (403, "Missing Authentication Token"), name


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/nothing-here"),
        ("PATCH", "/certificates"),
        ("GET", "/keys-and-certificate"),
        ("GET", "/certificates/"),
        ("GET", f"/certificates/{_ID}/extra"),
        ("POST", "/keys%2Dand%2Dcertificate"),
        ("POST", "/KEYS-AND-CERTIFICATE"),
    ],
)
def test_paths_without_an_operation_are_not_found(
    signer: Signer, unchanged: Callable[[], None], method: str, target: str
) -> None:
    answer = signer.send(method, target)
    assert (answer.status, answer.aws_code) == (404, "UnknownOperationException")
    assert answer.json() == {"message": "AWS IoT has no operation at this method and path."}


def test_arns_in_labels_arrive_percent_encoded(iot: Any) -> None:
    arn = f"arn:aws:iot:us-east-1:123456789012:cert/{_ID}"
    assert refusal(iot.list_attached_policies, target=arn) == (
        404,
        "ResourceNotFoundException",
        f"certificate {_ID} does not exist",
    )


# -- permissions --------------------------------------------------------------------------------------------------


def test_both_apis_check_permissions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    statement = {"Effect": "Allow", "Action": ["iot:ListCertificates", "iot:CreatePolicy"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    with running_server(data) as server, contextlib.closing(iot_client(server)) as iot:
        administrator = {"principal": "administrator"}
        for command, given in (
            ("policy.put", {"name": "lesser", "document": document}),
            ("policy.attach", {"policy": "lesser", **administrator}),
            ("policy.detach", {"policy": "thingmint/Administrator", **administrator}),
        ):
            admin.call(data / "admin.sock", "access", name=command, given=given)
        assert iot.list_certificates()["certificates"] == []
        account = json.loads(json.dumps(refusal(iot.create_keys_and_certificate)))
        assert account[:2] == [403, "AccessDeniedException"]
        assert re.fullmatch(
            r"User: arn:aws:iam::\d{12}:user/administrator is not authorized to perform: iot:CreateKeysAndCertificate "
            r"on resource: \* because no identity-based policy allows the iot:CreateKeysAndCertificate action",
            account[2],
        )
        for operation, arguments in (
            ("describe_certificate", {"certificateId": _ID}),
            ("delete_certificate", {"certificateId": _ID}),
            ("update_certificate", {"certificateId": _ID, "newStatus": "ACTIVE"}),
            ("register_certificate_without_ca", {"certificatePem": self_signed_pem()}),
            ("create_certificate_from_csr", {"certificateSigningRequest": csr_pem()}),
            ("describe_endpoint", {}),
        ):
            assert refusal(getattr(iot, operation), **arguments)[:2] == (403, "AccessDeniedException"), operation
        native = {"authorization": f"Bearer {server.token}"}
        for method, target, body in (
            ("POST", "/keys-and-certificate", b""),
            ("POST", "/v1/certificates", json.dumps({"csr": csr_pem()}).encode()),
            ("GET", f"/v1/certificates/{_ID}", b""),
            ("PATCH", f"/v1/certificates/{_ID}", b'{"status": "ACTIVE"}'),
            ("DELETE", f"/v1/certificates/{_ID}", b""),
        ):
            answer = exchange(server, method, target, native, body)
            assert (answer.status, answer.json()["error"]["code"]) == (403, "PERMISSION_DENIED"), target
        assert iot.list_certificates()["certificates"] == []


# -- too much at once ---------------------------------------------------------------------------------------------


def test_a_full_queue_for_keys_throttles_callers(tmp_path: Path) -> None:
    """The pool is soon empty, 256 callers wait for keys (55 ms each), and all further callers are throttled."""
    with running_server(tmp_path / "data", arguments=["--key-pool=1"]) as server, contextlib.ExitStack() as stack:
        signer = Signer.of(server)
        target = "/keys-and-certificate"
        signed = one_request("POST", target, signer.headers("POST", target))
        native = one_request("POST", target, {"host": "127.0.0.1", "authorization": f"Bearer {server.token}"})
        address = ("127.0.0.1", server.ports["http"])
        waiting = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(400)]
        for number, sock in enumerate(waiting):
            sock.sendall(native if number % 2 else signed)
        refused: dict[int, Answer] = {}
        while not {400, 429}.issubset(refused):
            ready, _, _ = select.select(waiting, [], [], 20)
            assert ready, "neither a key nor a refusal"
            for sock in ready:
                waiting.remove(sock)
                answer = read_answer(sock, bytearray())
                refused[answer.status] = answer
        assert refused[400].aws_code == "ThrottlingException"
        assert refused[400].json()["message"].startswith("Rate exceeded")
        assert refused[429].json()["error"]["code"] == "RATE_LIMITED"
        assert set(refused) <= {200, 400, 429}
        # Requests that need no key are answered in the meantime.
        assert signer.send("GET", "/endpoint").status == 200
        server.kill()


# -- the aws command ----------------------------------------------------------------------------------------------


@pytest.fixture
def aws(server: RunningServer, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `aws iot …` with nothing but the variables of clients/aws.env."""
    env = bare_environment(HOME=str(tmp_path), **server.environment())

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AWS, "iot", *arguments],
            env=env,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.sqlite
def test_the_aws_command_works_with_aws_env(
    aws: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    created = aws(
        "create-keys-and-certificate",
        "--set-as-active",
        "--certificate-pem-outfile=device.pem",
        "--public-key-outfile=public.pem",
        "--private-key-outfile=private.pem",
    )
    assert created.returncode == 0, created.stderr
    answer = json.loads(created.stdout)
    pem = (tmp_path / "device.pem").read_text()
    assert fingerprint(pem) == answer["certificateId"]
    private_key: Any = load_pem_private_key((tmp_path / "private.pem").read_bytes(), None)
    assert private_key.public_key() == x509.load_pem_x509_certificate(pem.encode()).public_key()
    assert (tmp_path / "public.pem").read_text() == answer["keyPair"]["PublicKey"]

    described = aws("describe-certificate", f"--certificate-id={answer['certificateId']}")
    assert json.loads(described.stdout)["certificateDescription"]["status"] == "ACTIVE"
    listed = aws("list-certificates", "--page-size=3")
    assert json.loads(listed.stdout)["certificates"][0]["certificateId"] == answer["certificateId"]
    refused = aws("delete-certificate", f"--certificate-id={answer['certificateId']}")
    assert refused.returncode != 0
    assert "(CertificateStateException)" in refused.stderr
