"""What the code for other clients is like: secrets, files, missing values, and what each client needs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.console.sample_calls import (
    ADDRESSES,
    CERTIFICATE,
    PRIVATE_KEY,
    code,
    everything,
    operation,
    shown,
    text_of,
    words_of,
)
from thingmint.console.playground.shown_code import Addresses
from thingmint.console.playground.terraform_resources import RESOURCES


def test_the_query_is_in_the_order_that_a_signature_has() -> None:
    """Old versions of curl sign the query as it is."""
    text = code("aws", "ListThings", "curl", thingTypeName="t", attributeName="b", maxResults=5, attributeValue="a b&c")
    assert "?attributeName=b&attributeValue=a%20b%26c&maxResults=5&thingTypeName=t" in text


def test_the_native_api_takes_another_region_from_the_host() -> None:
    away = replace(ADDRESSES, region="eu-west-1", is_home=False)
    text = shown(operation("native", "ListCertificates"), {}, away).clients[0].text
    assert "-H 'host: iot.eu-west-1.amazonaws.com'" in text
    assert "-H 'host" not in shown(operation("native", "ListCertificates"), {}).clients[0].text


def test_a_header_of_several_lines_has_no_curl() -> None:
    asked = operation("aws", "AttachThingPrincipal")
    assert text_of(asked, {"thingName": "x", "x-amzn-principal": "a\r\nx-evil: 1"}, "curl") is None


def test_no_secret_is_in_the_code() -> None:
    for each, values in everything((f"\n{PRIVATE_KEY}",)):
        assert "MHcCAQ" not in repr(shown(each, values)), each.id
    for each, values in everything(("S3cret",)):
        secret = {field.name: "S3cret" for field in each.fields if field.is_secret and field.place != "path"}
        plain = {key: value for key, value in values.items() if isinstance(value, int)}
        assert "S3cret" not in repr(shown(each, plain | secret)), each.id


def test_a_private_key_is_a_file_that_the_page_does_not_show() -> None:
    found = shown(operation("aws", "CreateCertificateFromCsr"), {"certificateSigningRequest": PRIVATE_KEY})
    assert [(each.name, each.text) for each in found.files] == [("request.key", None)]
    assert "file://request.key" in {each.id: each.text for each in found.clients}["aws"]


def test_certificates_are_files() -> None:
    values = {
        "registryId": "r",
        "certificates": [{"certificateData": CERTIFICATE}, {"certificateData": f"{CERTIFICATE}x"}],
    }
    found = shown(operation("yandex", "DeviceService.Create"), values)
    assert [(each.name, each.text) for each in found.files] == [
        ("certificate.pem", CERTIFICATE),
        ("certificate-2.pem", f"{CERTIFICATE}x"),
    ]
    for each in found.clients:
        assert "MIIB" not in each.text
        assert "certificate.pem" in each.text
        assert "certificate-2.pem" in each.text


def test_missing_values_are_words_in_capitals() -> None:
    found = shown(operation("aws", "CreateThing"), {})
    assert found.missing == ("thingName",)
    assert "https://localhost:8443/things/THING_NAME" in found.clients[0].text


def test_the_published_line_of_create_keys_and_certificate() -> None:
    [words] = words_of([code("aws", "CreateKeysAndCertificate", "curl", setAsActive=True)])
    line = " ".join(words)
    assert line.startswith(
        "curl --fail-with-body --tlsv1.2 --cacert data/ca.pem --aws-sigv4 aws:amz:us-east-1:iot --user "
    )
    assert line.endswith(" -X POST https://localhost:8443/keys-and-certificate?setAsActive=true")


def test_the_aws_command_does_not_read_what_a_value_names() -> None:
    text = code("aws", "CreateThing", "aws", thingName="file:///etc/passwd")
    assert '--cli-input-json \'{"thingName": "file:///etc/passwd"}\'' in text
    assert code("aws", "CreateThing", "aws", thingName="-x").endswith("--thing-name=-x")


def test_the_aws_command_asks_for_one_page() -> None:
    assert code("aws", "ListThings", "aws", maxResults=5).endswith("--max-results 5 --no-paginate")


def test_terraform_has_the_resources_of_served_operations() -> None:
    for id, each in RESOURCES.items():
        found = operation("yandex" if "." in id else "aws", id)
        names = {field.name for field in found.fields}
        assert {path.split(".")[0] for path in each.arguments} <= names, id
    assert text_of(operation("aws", "ListThings"), {}, "terraform") is None
    assert text_of(operation("native", "CreateKeysAndCertificate"), {}, "terraform") is None


def test_terraform_names_what_it_has_no_argument_for() -> None:
    values = {"thingName": "x", "attributePayload": {"attributes": {"a b": "${c}"}, "merge": True}}
    [found] = [each for each in shown(operation("aws", "CreateThing"), values).clients if each.id == "terraform"]
    assert 'attributes = { "a b" = "$${c}" }' in found.text
    assert found.note == "The resource has no argument for attributePayload.merge. "


def test_terraform_has_documents_as_values() -> None:
    statement = {"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/${iot:ClientId}/it's"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    text = code("aws", "CreatePolicy", "terraform", policyName="p", policyDocument=document)
    assert text.endswith(
        """\
resource "aws_iot_policy" "policy" {
  name = "p"
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "iot:Publish"
        Resource = "arn:aws:iot:*:*:topic/$${iot:ClientId}/it's"
      }
    ]
  })
}"""
    )
    for other in ('{"a": 1, "a": 2}', "[]", "x", '"x"'):
        text = code("aws", "CreatePolicy", "terraform", policyName="p", policyDocument=other)
        assert "jsonencode" not in text


@pytest.mark.parametrize(
    ("id", "topic"),
    [
        ("CreateKeysAndCertificate", "$aws/certificates/create"),
        ("CreateCertificateFromCsr", "$aws/certificates/create-from-csr"),
        ("RegisterThing", "$aws/provisioning-templates/TEMPLATE_NAME/provision"),
    ],
)
def test_devices_have_the_call_in_json_and_cbor(id: str, topic: str) -> None:
    found = {each.id: each.text for each in shown(operation("aws", id), {}).clients}
    for format in ("json", "cbor"):
        compile(found[f"mqtt-{format}"], "shown", "exec")
        assert f"{topic}/{format}/accepted\n# Refusal: {topic}/{format}/rejected\n" in found[f"mqtt-{format}"]
        assert f'TOPIC = "{topic}/{format}"' in found[f"mqtt-{format}"]


def test_values_that_are_too_long_have_no_code() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = [deep]
    for value in (deep, {"a": "x" * 200_000}, ["x"] * 200_000):
        assert shown(operation("aws", "CreateThing"), {"thingName": "x", "attributePayload": value}).clients == ()


def test_a_server_with_another_certificate_needs_no_root() -> None:
    other = Addresses("iot.example.org:8443", "iot.example.org:9443", "iot.example.org", 8883, "1", "eu-west-1", False)
    for each in (operation("yandex", "DeviceService.List"), operation("aws", "ListThings")):
        found = shown(each, {}, other)
        assert "ca.pem" not in repr(found)
