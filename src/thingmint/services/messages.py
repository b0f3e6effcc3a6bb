"""What the APIs may ask of the devices' sessions. The MQTT gateway implements it, and the server hands it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from thingmint.store.engine import Body, Store, Transaction
    from thingmint.store.outbox import Notice

T = TypeVar("T")


class Messages(Protocol):
    async def close(self, notices: Sequence[Notice]) -> None:
        """Closes the sessions of this process that have no access any more, now that ``notices`` hold.

        Returns once that is done. What concerns many sessions at once goes on behind it. Never raises.
        """
        ...


class FollowedStore:
    """A Store whose writes return once the sessions of this process follow what they announced.

    Every part of the server writes through it, so no operation can forget to end the sessions whose access it ends.
    Other processes read the outbox.
    """

    def __init__(self, store: Store, messages: Messages) -> None:
        self._store = store
        self._messages = messages

    @property
    def ready(self) -> bool:
        return self._store.ready

    @property
    def trouble(self) -> str | None:
        return self._store.trouble

    @property
    def changes(self) -> int | None:
        return self._store.changes

    @property
    def access_changes(self) -> int | None:
        return self._store.access_changes

    async def read(self, body: Body[T]) -> T:
        return await self._store.read(body)

    async def write(self, body: Body[T], *, urgent: bool = False, once: bool = False) -> T:
        notices: Sequence[Notice] = ()

        async def followed(tx: Transaction) -> T:
            nonlocal notices
            result = await body(tx)
            notices = tx.notices  # of the last run, which is the one that counts
            return result

        result = await self._store.write(followed, urgent=urgent, once=once)
        if notices:
            await self._messages.close(notices)
        return result

    async def close(self) -> None:
        await self._store.close()
