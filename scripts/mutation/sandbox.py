"""A copy of the checkout, in which the script changes modules and runs tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PASSED = (0, 5)  # of pytest's exit statuses; 5: all tests were deselected


class SandboxError(Exception):
    """The tests cannot be run properly."""


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int | None  # pytest's exit status, None after a timeout
    failures: list[str]  # node ids
    hits: list[int]
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        return self.status in _PASSED

    @property
    def reason(self) -> str:
        """Why the run failed: the first failed test, a timeout, or pytest's exit status."""
        if self.status is None:
            return "timeout"
        return self.failures[0] if self.failures else f"pytest ended with {self.status}"


def tracked_files(checkout: Path) -> list[str]:
    command = ["git", "-C", str(checkout), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    return [name for name in listed.split("\0") if name and (checkout / name).is_file()]


class Sandbox:
    """A copy that comes first in PYTHONPATH. The servers that tests start inherit that."""

    def __init__(self, checkout: Path, python: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mt-"))  # short: sockets are made below it
        self.copy = self.folder / "c"
        self.temporary = self.folder / "t"
        self.probe = self.folder / "p"
        self.python = python
        for name in tracked_files(checkout):
            target = self.copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(checkout / name, target)
        self.probe.mkdir()
        shutil.copy(Path(__file__).with_name("probe.py"), self.probe / "mutants_probe.py")

    def __enter__(self) -> Self:
        program = "import thingmint; print(thingmint.__file__)"
        command = [str(self.python), "-c", program]
        got = subprocess.run(command, check=True, env=self._environment(None), capture_output=True, encoding="utf-8")
        if not Path(got.stdout.strip()).is_relative_to(self.copy):
            raise SandboxError(f"the tests would import {got.stdout.strip()} and not the copy")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _environment(self, clock: str | None) -> dict[str, str]:
        own = {"PYTHONPATH": f"{self.copy / 'src'}{os.pathsep}{self.probe}", "TMPDIR": str(self.temporary)}
        if clock is not None:  # files keep their real times, otherwise Python would use old byte code
            own |= {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return os.environ | own

    @contextlib.contextmanager
    def changed(self, sources: dict[str, bytes]) -> Iterator[None]:
        """Replaces these modules in the copy while the block runs."""
        kept = {file: (self.copy / file).read_bytes() for file in sources}
        self._put(sources)
        try:
            yield
        finally:
            self._put(kept)

    def _put(self, sources: dict[str, bytes]) -> None:
        for file, source in sources.items():
            path = self.copy / file
            path.write_bytes(source)
            # Python compares byte code by the source's size and its time in seconds: too coarse here.
            for cached in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
                cached.unlink()

    def run(
        self,
        files: Sequence[str],
        *,
        timeout: float,
        deselected: Sequence[str] = (),
        stop: bool = True,
        clock: str | None = None,
    ) -> Outcome:
        """Runs the tests of ``files`` in this order; with ``stop``, up to the first failure.

        ``clock`` is a time for `faketime`, at which the clock starts.
        """
        for name in ("hits", "failures"):
            (self.probe / name).unlink(missing_ok=True)
        shutil.rmtree(self.copy / ".hypothesis", ignore_errors=True)  # no examples from another mutant
        self.temporary.mkdir()
        command = [] if clock is None else ["faketime", "-f", f"@{clock}"]
        command += [str(self.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "mutants_probe"]
        command += ["-x"] if stop else []
        command += [f"--deselect={test}" for test in deselected]
        output = self.folder / "output"
        began = time.monotonic()
        with (
            output.open("wb") as log,
            subprocess.Popen(
                [*command, *files],
                cwd=self.copy,
                env=self._environment(clock),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            status: int | None = None
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(timeout)
            finally:  # also servers that pytest left running
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        seconds = time.monotonic() - began
        shutil.rmtree(self.temporary, ignore_errors=True)
        hits = sorted({int(line) for line in self._noted("hits")})
        return Outcome(status, self._noted("failures"), hits, seconds, output.read_text(errors="replace"))

    def _noted(self, name: str) -> list[str]:
        path = self.probe / name
        return list(dict.fromkeys(path.read_text().splitlines())) if path.exists() else []
