"""The host names by which devices choose an account and region."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from thingmint.domain.arns import Scope
    from thingmint.mqtt.peer import Peer


class HostNames:
    """``endpoints`` are those that were given to an account and region; all others stand for none."""

    def __init__(self, endpoints: Mapping[str, Scope]) -> None:
        self._endpoints = endpoints

    def scope_of(self, peer: Peer) -> Scope | None:
        return self._endpoints.get(peer.sni or "")

    def advice(self, scopes: Sequence[Scope]) -> str:
        """What the device has to do, for the operator's eyes: it tells of accounts."""
        return f"the device has to name a host (SNI): {'; '.join(self._told(scope) for scope in scopes)}"

    def _told(self, scope: Scope) -> str:
        names = [name for name, of in self._endpoints.items() if of == scope]
        told = " or ".join(names) if names else "one that the setting endpoints has yet to give to"
        return f"{told} (account {scope.account}, {scope.region})"
