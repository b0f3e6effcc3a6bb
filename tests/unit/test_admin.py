"""The socket through which commands reach a running server."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from thingmint.admin import AdminError, AdminSocket, call

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


async def extend(names: list[str], *, times: int = 1) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"added": names * times}


async def fail() -> None:
    raise RuntimeError("no such thing")


def mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except FileNotFoundError:
        return None


async def with_socket(path: Path, act: Callable[[], Any]) -> Any:
    """The result of ``act``, which runs in a thread while a server listens."""
    admin = AdminSocket(path, {"extend": extend, "fail": fail})
    await admin.start()
    assert mode(path) == 0o600
    try:
        return await asyncio.to_thread(act)
    finally:
        await admin.stop()
        assert mode(path) is None


@pytest.fixture(params=[20, 99, 100, 108, 240])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A socket path of about that many bytes; sockaddr_un has room for 108."""
    folder = tmp_path_factory.mktemp("a")
    missing = request.param - len(str(folder / "admin.sock")) - 1
    if missing > 0:
        folder = folder / ("x" * missing)
        folder.mkdir()
    return folder / "admin.sock"


async def test_a_command_is_answered(path: Path) -> None:
    before = os.umask(0)
    try:
        assert await with_socket(path, lambda: call(path, "extend", names=["a"], times=2)) == {"added": ["a", "a"]}
    finally:
        os.umask(before)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


async def test_commands_can_be_large_and_follow_each_other(short: Path) -> None:
    names = ["x" * 1000] * 500

    def act() -> list[Any]:
        return [call(short, "extend", names=names), call(short, "extend", names=[])]

    assert await with_socket(short, act) == [{"added": names}, {"added": []}]


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("unknown", {}, "the running server does not have that command: does it run another version?"),
        ("fail", {}, "the running server failed: no such thing"),
        ("extend", {"nonsense": 1}, "the running server failed: "),
    ],
)
async def test_errors_are_raised_with_their_message(
    short: Path, command: str, arguments: dict[str, Any], message: str
) -> None:
    def act() -> str:
        with capture_logs(), pytest.raises(AdminError) as refused:
            call(short, command, **arguments)
        return str(refused.value)

    assert (await with_socket(short, act)).startswith(message)


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"{", b"[]\n", b"1\n", b"null\n", b"{}\n", b'{"command": []}\n', b'{"command": {}}\n', b"\xff\n"],
)
async def test_the_server_keeps_running_after_malformed_lines(short: Path, line: bytes) -> None:
    def act() -> tuple[bytes, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(str(short))
            sock.sendall(line)
            sock.shutdown(socket.SHUT_WR)
            answer = sock.makefile("rb").readline()
        return answer, call(short, "extend", names=[])

    answer, afterwards = await with_socket(short, act)
    assert "does not have that command" in orjson.loads(answer)["error"]
    assert afterwards == {"added": []}


async def test_a_line_without_end_is_dropped(short: Path) -> None:
    def act() -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10)
            sock.connect(str(short))
            try:
                for _ in range(40):
                    sock.sendall(b"x" * 100_000)
            except BrokenPipeError:
                pass
        return call(short, "extend", names=[])

    assert await with_socket(short, act) == {"added": []}


@pytest.mark.parametrize("there", [True, False])
async def test_a_socket_without_a_server_is_an_error(short: Path, there: bool) -> None:
    if there:  # left by a server that was killed
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(str(short))
    with pytest.raises(AdminError, match="does not answer on"):
        call(short, "extend", names=[])
    if there:
        assert await with_socket(short, lambda: call(short, "extend", names=["a"])) == {"added": ["a"]}
