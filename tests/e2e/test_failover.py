"""The database's primary is lost and its standby replaces it: devices stay connected, and calls succeed again."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.e2e.conftest import iot_client
from tests.e2e.databases import connected, device, metric, readiness, served
from tests.e2e.wire import until
from tests.failover import both, promote, servers

if TYPE_CHECKING:
    from pathlib import Path


async def test_devices_stay_connected_and_no_change_is_lost(tmp_path: Path) -> None:
    with servers() as (old, new):
        data, url = tmp_path / "data", both(old, new)
        with served(data, url) as server:
            iot = iot_client(server)
            kept, revoked = device(tmp_path, iot), device(tmp_path, iot)
            with connected(server, kept, "kept") as stays, connected(server, revoked, "revoked") as ends:
                stays.subscribe("t")
                old.stop(signal.SIGQUIT)
                until(
                    lambda: not metric(server, "changes_followed"),
                    seconds=20,
                    what="the server notices that the database is gone",
                )
                assert stays.nothing_comes()
                await promote(new)
                until(lambda: readiness(server) == 200, seconds=30, what="ready again")
                until(
                    lambda: metric(server, "changes_followed") == 1, seconds=20, what="the change feed is current again"
                )
                ends.publish("t", b"after")
                assert stays.receive().payload == b"after"
                iot.update_certificate(certificateId=revoked.fingerprint, newStatus="REVOKED")
                ends.until_closed(5)
                assert stays.nothing_comes()
        old.start()  # the first in the URL, which still has the certificate as ACTIVE
        with served(data, url) as server:
            found = iot_client(server).describe_certificate(certificateId=revoked.fingerprint)
            assert found["certificateDescription"]["status"] == "REVOKED"
        log = (tmp_path / "data.log").read_text()
        assert '"event":"primary_replaced"' in log
        assert '"event":"database_server_refused"' in log
