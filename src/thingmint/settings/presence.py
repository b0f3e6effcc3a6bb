"""The setting ``presence``: the hook that hears of the connections of devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, model_validator

from thingmint.services.function_calls import Function
from thingmint.settings.functions import check_url
from thingmint.settings.tables import Table
from thingmint.settings.values import ConfigError


class PresenceSettings(Table):
    """An HTTP hook that hears of devices that connect, disconnect or are refused."""

    url: str = Field(
        description="The http or https URL to which events are sent with POST.",
        examples=["https://presence.example.org/events"],
    )
    secret: SecretStr | None = Field(
        default=None, description="The secret that signs requests.", examples=["c7aa23f2b1f6"]
    )
    secret_file: Path | None = Field(
        default=None,
        description="A file that contains this secret. White space around it is ignored. It is read again for each "
        "call.",
        examples=["/run/secrets/presence"],
    )
    ca_file: Path | None = Field(
        default=None,
        description="The CA certificates that verify the URL's certificate, in PEM. Without it, the system's. It is "
        "read again for each call.",
        examples=["/etc/thingmint/presence-ca.pem"],
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> PresenceSettings:
        check_url(self.url)
        if (self.secret is None) == (self.secret_file is None) or self.secret == SecretStr(""):
            raise ValueError("needs a secret or a secret_file, and not both: it signs the requests")
        if self.ca_file is not None and not self.url.startswith("https:"):
            raise ValueError("ca_file is for https URLs only")
        return self

    def function(self) -> Function:
        """Raises ConfigError if a file cannot be used."""
        secret = self.secret.get_secret_value().encode() if self.secret is not None else None
        function = Function("presence", None, self.url, None, secret, self.secret_file, self.ca_file)
        try:
            function.check_files()
        except (OSError, ValueError) as error:
            raise ConfigError("presence", f"a file of it cannot be used: {error}") from None
        return function


PresenceSetting = Annotated[
    PresenceSettings | None,
    Field(
        description="An HTTP hook that hears of devices that connect, disconnect or are refused.",
        examples=['{url = "https://presence.example.org/events", secret_file = "/run/secrets/presence"}'],
    ),
]


def presence_hook(settings: PresenceSettings | None) -> Function | None:
    """Raises ConfigError if a file cannot be used."""
    return settings.function() if settings is not None else None
