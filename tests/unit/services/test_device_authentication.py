"""Who may come in, at whichever listener."""

from __future__ import annotations

import pytest

from thingmint.services.device_authentication import client_id_flaw


@pytest.mark.parametrize("client_id", ["dev-1", "00:11:22", "a/b", "ünïcode", "x" * 128])
def test_usable_client_ids(client_id: str) -> None:
    assert client_id_flaw(client_id) is None


@pytest.mark.parametrize("client_id", ["$aws", "a+b", "a#", "a*", "why?", "a\nb", "a\x7f", "a\u202eb"])
def test_unusable_client_ids(client_id: str) -> None:
    assert client_id_flaw(client_id) is not None
