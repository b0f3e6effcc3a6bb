"""What the APIs may ask of the devices' sessions. The MQTT gateway implements it, and the server hands it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Notice


class Messages(Protocol):
    async def close(self, notices: Sequence[Notice]) -> None:
        """Closes the sessions of this process that have no access any more, now that ``notices`` hold.

        Returns once that is done. What concerns many sessions at once goes on behind it. Never raises.
        """
        ...

    def reauthorize(self, notices: Sequence[Notice]) -> None:
        """The same for what other processes announced; it goes on behind the call."""
        ...
