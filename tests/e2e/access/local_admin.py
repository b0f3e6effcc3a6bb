"""The local administrator of a server, and clients with credentials that it creates."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
from botocore.exceptions import ClientError

from tests.e2e.commands import in_process
from tests.e2e.conftest import iot_client
from tests.e2e.yandex.clients import Account, Cloud
from thingmint import admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from thingmint.testing import RunningServer

__all__ = ["LocalAdmin", "allow", "database", "deny", "document", "error_of", "keys_of", "refusal", "service_account"]

Json = dict[str, Any]


def document(*statements: Json) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: Any, resource: Any = "*", **further: Any) -> Json:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **further}


def deny(action: Any, resource: Any = "*", **further: Any) -> Json:
    return {**allow(action, resource, **further), "Effect": "Deny"}


def refusal(call: Callable[..., Any], **arguments: Any) -> tuple[int, str, str]:
    """Status, code and message of boto3's error."""
    try:
        answer = call(**arguments)
    except ClientError as error:
        response: Any = error.response
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]
    raise AssertionError(f"not refused: {answer}")


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a native refusal."""
    return answer.status_code, answer.json()["error"]["code"]


def keys_of(new: Mapping[str, str]) -> Json:
    """boto3's arguments from the answer of `access key create` or `access session`."""
    token = {"aws_session_token": new["session_token"]} if "session_token" in new else {}
    return {
        "aws_access_key_id": new["access_key_id"],
        "aws_secret_access_key": new["secret_access_key"],
        **token,
    }


@contextlib.contextmanager
def database(data: Path) -> Iterator[sqlite3.Connection]:
    """The database of a stopped server, for manual changes."""
    with contextlib.closing(sqlite3.connect(data / "thingmint.db")) as connection, connection:
        yield connection


@dataclass(frozen=True)
class LocalAdmin:
    """Runs commands for ``account``, or without it for the first account."""

    server: RunningServer
    account: str = ""

    @property
    def data(self) -> Path:
        return self.server.data_dir

    def ask(self, command: str, **given: Any) -> Any:
        """The running server's answer to a command, asked as the command line asks it, without a process."""
        account = {"account": self.account} if self.account else {}
        return admin.call(self.data / "admin.sock", "access", name=command, given=account | given)

    def run(self, *words: str | Path) -> Any:
        """The JSON output of the command itself."""
        account = ["--account", self.account] if self.account else []
        done = in_process("access", *words, *account, "--data-dir", self.data, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def user(self, *policies: str | Json) -> str:
        """The name of a new user with these policies: names, or statements for a new policy."""
        return self.principal("user", *policies).partition("/")[2]

    def principal(self, kind: str, *policies: str | Json) -> str:
        name = f"{kind}-{secrets.token_hex(4)}"
        trust = {"trust_policy": document(_TRUST)} if kind == "role" else {}
        self.ask(f"{kind}.create", name=name, **trust)
        for policy in policies:
            self.attach(f"{kind}/{name}", policy)
        return f"{kind}/{name}"

    def attach(self, principal: str, policy: str | Json, resource: str = "*") -> str:
        """Attaches a policy and returns its name."""
        if isinstance(policy, dict):
            name = f"own-{secrets.token_hex(4)}"
            self.ask("policy.put", name=name, document=document(policy))
            policy = name
        self.ask("policy.attach", principal=principal, policy=policy, resource=resource)
        return policy

    def key(self, user: str) -> Any:
        return self.ask("key.create", principal=user)

    def session(self, principal: str, **given: Any) -> Any:
        return self.ask("session.create", principal=principal, **given)

    @contextlib.contextmanager
    def iot(self, new: Mapping[str, str]) -> Iterator[Any]:
        """boto3 with those credentials."""
        with contextlib.closing(iot_client(self.server, **keys_of(new))) as client:
            yield client

    @contextlib.contextmanager
    def iot_of(self, *policies: str | Json) -> Iterator[Any]:
        """boto3 as a new user."""
        with self.iot(self.key(self.user(*policies))) as client:
            yield client

    def native(self, user: str, **given: Any) -> httpx.Client:
        """httpx with a new token of that user."""
        token = self.ask("token.create", principal=user, **given)["token"]
        return self.bearer(token)

    def bearer(self, token: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.server.http_url, headers=headers, timeout=20, trust_env=False, verify=False)


_TRUST = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}


@contextlib.contextmanager
def service_account(local_admin: LocalAdmin, folder: str, *grants: tuple[str, str]) -> Iterator[Cloud]:
    """A client for a new service account with these roles on these resources."""
    principal = local_admin.principal("service-account")
    for role, resource in grants:
        local_admin.attach(principal, f"yandex/{role}", resource)
    key = local_admin.key(principal)
    cloud = Cloud(local_admin.server, Account(key, folder, ""))
    try:
        yield cloud
    finally:
        cloud.close()
