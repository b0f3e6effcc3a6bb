"""Runs the unit tests with every interpreter of a supported Python version that this machine has.

Each interpreter gets its own virtual environment in .venvs, with the locked dependencies; the next run uses it again.
The arguments are passed to pytest. Exit status 0 means that an interpreter was found and the tests passed with each.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
ROOT = Path(__file__).resolve().parent.parent
VENVS = ROOT / ".venvs"
SYSTEM = Path("/usr/bin")
BUILD, DEV = (ROOT / "requirements" / name for name in ("build.txt", "dev.txt"))


@dataclass(frozen=True)
class Interpreter:
    path: Path  # without symbolic links
    version: str

    @property
    def venv(self) -> Path:
        return VENVS / str(self.path).strip("/").replace("/", "-")


def main(arguments: list[str]) -> int:
    interpreters = find()
    missing = [
        wanted for wanted in VERSIONS if not any(found.version.startswith(f"{wanted}.") for found in interpreters)
    ]
    outcomes = [run(interpreter, arguments) for interpreter in interpreters]
    print()
    for interpreter, (_, text) in zip(interpreters, outcomes, strict=True):
        print(f"{interpreter.version:10} {interpreter.path!s:50} {text}")
    for wanted in missing:
        print(f"{wanted:10} {'-':50} not found")
    return 0 if outcomes and all(passed for passed, _ in outcomes) else 1


def find() -> list[Interpreter]:
    found = {}
    for candidate in candidates():
        # A shim of pyenv fails here unless its version is selected; then the code prints the real interpreter.
        code = "import os, sys, platform; print(os.path.realpath(sys.executable)); print(platform.python_version())"
        answer = subprocess.run([candidate, "-I", "-c", code], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            path, version = answer.stdout.splitlines()
            found[path] = Interpreter(Path(path), version)
    return sorted(found.values(), key=lambda each: (VERSIONS.index(".".join(each.version.split(".")[:2])), each.path))


def candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*pyenv.glob("versions/*/bin"), *(Path(folder) for folder in os.get_exec_path()), SYSTEM]
    for version in VERSIONS:
        for folder in folders:
            if os.access(candidate := folder / f"python{version}", os.X_OK):
                yield candidate


def run(interpreter: Interpreter, arguments: list[str]) -> tuple[bool, str]:
    """True if the tests passed, and pytest's last line."""
    print(f"\n== Python {interpreter.version} ({interpreter.path})", flush=True)
    started = time.monotonic()
    try:
        install(interpreter)
    except subprocess.CalledProcessError as error:
        return False, f"could not be installed: {' '.join(map(str, error.cmd))}"
    print(f"installed after {time.monotonic() - started:.0f} s", flush=True)
    last = ""
    command = [str(interpreter.venv / "bin/python"), "-m", "pytest", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tests:
        assert tests.stdout is not None
        for line in tests.stdout:
            print(line, end="", flush=True)
            last = line.strip(" =\n") or last
    return tests.returncode == 0, last if tests.returncode == 0 else f"FAILED ({tests.returncode}): {last}"


def install(interpreter: Interpreter) -> None:
    """Makes the virtual environment, unless it exists and the requirements have not changed."""
    inputs = [ROOT / "pyproject.toml", BUILD, DEV]
    state = " ".join([interpreter.version, *(hashlib.sha256(file.read_bytes()).hexdigest() for file in inputs)])
    stamp = interpreter.venv / ".installed"
    if stamp.exists() and stamp.read_text() == state:
        return
    shutil.rmtree(interpreter.venv, ignore_errors=True)
    subprocess.run([interpreter.path, "-m", "venv", interpreter.venv], check=True)
    for arguments in (
        ["--require-hashes", "-r", str(BUILD)],
        ["--require-hashes", "-r", str(DEV)],
        ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)],
    ):
        subprocess.run([interpreter.venv / "bin/python", "-m", "pip", "install", "--quiet", *arguments], check=True)
    stamp.write_text(state)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
