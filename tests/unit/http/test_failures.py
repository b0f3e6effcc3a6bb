"""A defect of the server is answered in the form of the API that was called."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import thingmint
from tests.unit.vectors import NOW
from thingmint.access.context import RequestContext
from thingmint.aws.app import AwsApi
from thingmint.aws.contract import load_contract, load_data_contract, load_jobs_contract
from thingmint.aws.credential_provider import CredentialProvider
from thingmint.aws.data_plane import DataPlaneApi, JobsApi
from thingmint.aws.query_protocol import load_contract as load_sts_contract
from thingmint.aws.registration_reports import ReportsApi
from thingmint.aws.sts import StsApi
from thingmint.console.app import ConsoleApi
from thingmint.domain.errors import Failed
from thingmint.http.documents import DocumentsApi
from thingmint.http.probes import Probe
from thingmint.native.app import NativeApi
from thingmint.yandex.contract import load
from thingmint.yandex.metadata import MetadataApi
from thingmint.yandex.rest import YandexRest

ANY: Any = mock.Mock()
YANDEX: Any = mock.Mock(contract=load())
APIS: list[tuple[Any, bytes]] = [
    (AwsApi(load_contract(), ANY, ANY, ANY, ANY), b'{"message":'),
    (DataPlaneApi(load_data_contract(), ANY, ANY, ANY, ANY), b'{"message":'),
    (JobsApi(load_jobs_contract(), ANY, ANY, ANY, ANY), b'{"message":'),
    (StsApi(load_sts_contract(), ANY, ANY, ANY, ANY), b"<ErrorResponse"),
    (CredentialProvider(ANY, ANY, ANY), b'{"message":'),
    (ReportsApi(ANY, ANY, ANY), b'{"code":"InternalError"'),
    (NativeApi(ANY, ANY, ANY, ANY, ANY, ANY, {}), b'{"success":false,"error":{"code":"INTERNAL"'),
    (YandexRest(YANDEX), b'{"code":13,'),
    (MetadataApi(ANY, ANY, ""), b'{"error":'),
    (DocumentsApi(), b"The server failed"),
    (Probe("p", ANY), b'{"status":"failed"'),
    (ConsoleApi(ANY, ANY, ANY, ANY, ANY, ANY, ANY, dev=False), b"<!doctype html>"),
]


@pytest.mark.parametrize(("api", "beginning"), APIS, ids=[type(api).__name__ for api, _ in APIS])
def test_each_api_answers_a_failure_in_its_own_form(api: Any, beginning: bytes) -> None:
    context = RequestContext(now=NOW)
    answer = api.refuse(context, Failed(context.id))
    body = re.sub(rb"\n\s*|(?<=:) ", b"", answer.body)
    assert answer.status == 500
    assert body.startswith(beginning), answer.body
    assert context.id.encode() in body


def test_no_api_is_missing() -> None:
    found = set()
    for file in Path(thingmint.__file__).parent.rglob("*.py"):
        for node in ast.parse(file.read_text()).body:
            functions = {each.name: each for each in getattr(node, "body", ()) if isinstance(each, ast.FunctionDef)}
            if isinstance(node, ast.ClassDef) and {"route", "refuse"} <= functions.keys():
                found.add(node.name)
    assert found - {"HttpApi"} <= {type(api).__name__ for api, _ in APIS}
