"""The setting ``hooks``: the operator's functions, which are called in place of Lambda functions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from thingmint.services.function_calls import Function
from thingmint.services.functions import Functions
from thingmint.settings.tables import Table
from thingmint.settings.values import ConfigError

ENTRY_POINT_SCHEME = "entry-point"


class FunctionSettings(Table):
    """A function, by the name in the ARN of the Lambda function that it stands for."""

    url: str | None = Field(
        default=None,
        description="The http or https URL to which events are sent with POST.",
        examples=["https://provisioning.example.org/check"],
    )
    entry_point: str | None = Field(
        default=None,
        min_length=1,
        description="In place of url, a Python function: a name in the entry point group thingmint.hooks, or "
        "module:function.",
        examples=["serials"],
    )
    accounts: list[Annotated[str, Field(pattern=r"^[0-9]{12}$")]] = Field(
        min_length=1,
        description="The accounts that may refer to the function, by their 12 digits. For others it does not exist.",
        examples=[["123456789012"]],
    )
    secret: SecretStr | None = Field(
        default=None, description="The secret that signs requests to the URL.", examples=["c7aa23f2b1f6"]
    )
    secret_file: Path | None = Field(
        default=None,
        description="A file that contains this secret. White space around it is ignored. It is read again for each "
        "call.",
        examples=["/run/secrets/check"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="The CA certificates that verify the URL's certificate, in PEM. Without it, the system's. It is "
        "read again for each call.",
        examples=["/etc/thingmint/check-ca.pem"],
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> FunctionSettings:
        secrets = [each for each in (self.secret, self.secret_file) if each is not None]
        if (self.url is None) == (self.entry_point is None):
            raise ValueError("must have a url or an entry_point, and not both")
        if self.entry_point is not None and (secrets or self.ca_file is not None):
            raise ValueError("secret, secret_file and ca_file are for a url only")
        if self.url is not None:
            check_url(self.url)
            if len(secrets) != 1 or self.secret == SecretStr(""):
                raise ValueError("a url needs a secret or a secret_file, and not both: it signs the requests")
            if self.ca_file is not None and not self.url.startswith("https:"):
                raise ValueError("ca_file is for https URLs only")
        return self

    def function(self, name: str) -> Function:
        """Raises ConfigError if a file cannot be read."""
        function = Function(
            name,
            frozenset(self.accounts),
            self.url,
            self.entry_point,
            self.secret.get_secret_value().encode() if self.secret is not None else None,
            self.secret_file,
            self.ca_file,
        )
        try:
            function.check_files()
        except (OSError, ValueError) as error:
            raise ConfigError(f"hooks.functions.{name}", f"a file of it cannot be used: {error}") from None
        return function


def _hook_target(target: Any) -> str:
    scheme, separator, rest = target.partition(":") if isinstance(target, str) else ("", "", "")
    if scheme == ENTRY_POINT_SCHEME and rest:
        return str(target)
    parts = urlsplit(target) if separator else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must map ARNs to http or https URLs, or to entry-point:NAME; or be the table functions")
    return str(target)


class HookSettings(Table):
    """Functions by name. Each further key is the ARN of a pre-provisioning hook, with a URL or an entry point.

    The ARNs are from before functions had names. Their requests are not signed, and they name no accounts.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Annotated[str, BeforeValidator(_hook_target)]] = {}  # noqa: RUF012

    functions: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")], FunctionSettings] = Field(
        default={},
        description="The functions, by the name in the ARN of the Lambda function that they stand for.",
        examples=['{check = {entry_point = "check", accounts = ["123456789012"]}}'],
    )

    def in_force(self) -> Functions:
        """Raises ConfigError if a file of a function cannot be read."""
        return Functions(
            {name: each.function(name) for name, each in self.functions.items()},
            {arn: _of_target(arn, target) for arn, target in (self.__pydantic_extra__ or {}).items()},
        )


def _of_target(arn: str, target: str) -> Function:
    scheme, _, rest = target.partition(":")
    return Function(arn, entry_point=rest) if scheme == ENTRY_POINT_SCHEME else Function(arn, url=target)


def check_url(url: str) -> None:
    """Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("url must be an http or https URL without a user name")
    _ = parts.port  # raises ValueError if it is not a port
    if parts.fragment:
        raise ValueError("url must not have a fragment (#)")
