"""A server of its own for tests of pages, with what the fleets on it have in common."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.e2e.access.local_admin import LocalAdmin
from tests.e2e.commands import thingmint
from tests.e2e.conftest import iot_client
from tests.e2e.material import key, key_pem
from tests.e2e.mqtt.devices import Closed, Credential, Device
from thingmint import admin
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from thingmint.mqtt.protocol.packets import Version
    from thingmint.testing import RunningServer

ACCOUNT = "123456789012"


@dataclass
class World:
    """``folder`` is for files of devices. Those that ``connect`` connects are closed at the end."""

    server: RunningServer
    iot: Any
    folder: Path
    devices: ExitStack = field(default_factory=ExitStack, kw_only=True)

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        *init: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Self]:
        """A new server. ``init`` are further arguments of `thingmint init`, ``arguments`` of `thingmint serve`."""
        data = folder / "data"
        done = thingmint("init", "--data-dir", data, "--account-id", ACCOUNT, *init, env=environment)
        assert done.returncode == 0, done.stderr
        given = ["--key-pool=2", *arguments]
        with running_server(data, arguments=given, environment=environment, start_timeout=120) as server:
            world = cls(server, iot_client(server), folder)
            with world.devices:
                yield world
            world.iot.close()

    @property
    def local(self) -> LocalAdmin:
        return LocalAdmin(self.server)

    def principal(self, kind: str, name: str, *policies: str, **given: Any) -> None:
        """Makes a user, role or service account to which the policies are attached."""
        self.local.ask(f"{kind}.create", name=name, **given)
        for policy in policies:
            self.local.ask("policy.attach", principal=f"{kind}/{name}", policy=policy)

    def credential(self, name: str, pem: str, id: str = "", *, chain: str = "") -> Credential:
        """For a certificate in PEM, whose key is that of all test certificates."""
        file = self.folder / f"{name}.pem"
        file.write_text(key_pem(key("secp256r1")) + pem + chain)
        return Credential(id, pem, file)

    def connect(self, credential: Credential, client_id: str, version: Version = 5, **options: Any) -> Device:
        """A device that stays connected. ``options`` are those of Device."""
        device = self.devices.enter_context(Device(self.server, credential, version, **options))
        device.connect(client_id, keep_alive=1200)
        return device

    def refuse(
        self, credential: Credential, client_id: str, act: Callable[[Device], object] | None = None, **options: Any
    ) -> None:
        """A device that connects, and acts until it is refused."""
        with Device(self.server, credential, **options) as device, suppress(Closed):
            device.connect(client_id)
            if act is not None:
                act(device)

    def admin(self, command: str, **given: Any) -> Any:
        """Runs a command of the server's own machine."""
        return admin.call(self.server.data_dir / "admin.sock", command, **given)
