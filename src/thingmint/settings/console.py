"""The settings of the web console."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from thingmint.console.oidc import Provider, Role
from thingmint.domain.arns import parse_role_arn
from thingmint.domain.errors import Invalid
from thingmint.settings.tables import Table
from thingmint.settings.values import ConfigError, Duration, shown_name

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")


def _issuer(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an https URL without a query")
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError("must be an https URL, or an http URL of this machine, localhost")
    return url


def _scope(scope: str) -> str:
    if not _SCOPE.fullmatch(scope) or "openid" not in scope.split():
        raise ValueError("must be words, one of them openid")
    return scope


def _role(arn: str) -> str:
    try:
        parse_role_arn(arn, "roles")
    except Invalid:
        raise ValueError("must be ARNs of roles, such as arn:aws:iam::123456789012:role/Operators") from None
    return arn


class OidcSettings(Table):
    """An OpenID Connect provider by which people sign in."""

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        description="The provider's issuer, an https URL.", examples=["https://login.example.org"]
    )
    client_id: str = Field(min_length=1, description="The id of this server as a client.", examples=["thingmint"])
    client_secret_file: Path | None = Field(
        default=None,
        description="A file that contains the client's secret. Without it, the client is a public one.",
        examples=["/run/secrets/oidc-secret"],
    )
    roles: dict[str, Annotated[str, AfterValidator(_role)]] = Field(
        min_length=1,
        description="The role of the members of each group. The first group here that a person is in counts.",
        examples=[{"iot-operators": "arn:aws:iam::123456789012:role/Operators"}],
    )
    groups_claim: str = Field(
        default="groups",
        min_length=1,
        description="The claim that has the groups: of the ID token, else of the userinfo endpoint's answer.",
        examples=["roles"],
    )
    name_claim: str = Field(
        default="email", min_length=1, description="The claim that names the person in the audit log.", examples=["sub"]
    )
    scope: Annotated[str, AfterValidator(_scope)] = Field(
        default="openid email groups", description="The scope that is asked for.", examples=["openid email"]
    )
    label: str = Field(
        default="your company's account",
        min_length=1,
        description="The provider's name on the button.",
        examples=["Example ID"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="The CA certificates that verify the provider's certificate, in PEM. Without it, the usual ones.",
        examples=["/etc/thingmint/oidc-ca.pem"],
    )

    def provider(self) -> Provider:
        """Raises ConfigError if a file cannot be read."""
        secret = None
        try:
            if self.client_secret_file is not None:
                secret = self.client_secret_file.read_text().strip()
            if self.ca_file is not None:
                self.ca_file.read_bytes()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError("console.oidc", f"a file cannot be read: {error}") from None
        return Provider(
            label=self.label,
            issuer=self.issuer,
            client_id=self.client_id,
            client_secret=secret,
            scope=self.scope,
            groups_claim=self.groups_claim,
            name_claim=self.name_claim,
            roles={group: Role(*parse_role_arn(role, "roles")) for group, role in self.roles.items()},
            ca_file=str(self.ca_file) if self.ca_file is not None else None,
        )


class ConsoleSettings(Table):
    """The web console at /console."""

    enabled: bool = Field(default=True, description="Serve the console.")
    host_names: list[Annotated[str, AfterValidator(shown_name)]] = Field(
        default=[],
        description="Further host names by which browsers reach the console, such as those of a proxy.",
        examples=[["thingmint.example.org"]],
    )
    idle: Duration = Field(
        default=timedelta(hours=1),
        ge=timedelta(minutes=1),
        le=timedelta(days=7),
        description="A session ends when it was not used for so long.",
        examples=["1h"],
    )
    lifetime: Duration = Field(
        default=timedelta(hours=12),
        ge=timedelta(minutes=1),
        le=timedelta(days=30),
        description="A session ends so long after signing in.",
        examples=["12h"],
    )
    oidc: OidcSettings | None = Field(default=None, description="An OpenID Connect provider by which people sign in.")
