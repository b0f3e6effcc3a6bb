"""The wheel and the source archive are complete, and the wheel serves where only its runtime dependencies are."""

from __future__ import annotations

import email
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from packaging.requirements import Requirement

import thingmint
from tests.e2e.commands import bare_environment
from tests.e2e.conftest import iot_client
from thingmint.testing import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
NAME = f"thingmint-{thingmint.__version__}"
METADATA = f"{NAME}.dist-info"
PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check")

_IMPORT_ALL = """
import importlib.util, pkgutil, thingmint
assert importlib.util.find_spec("pytest") is None, "this environment has more than the runtime dependencies"
for module in pkgutil.walk_packages(thingmint.__path__, "thingmint."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
print(thingmint.__file__)
"""


@dataclass(frozen=True, slots=True)
class Built:
    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """The output. Nothing of Python's own variables counts: PYTHONPATH would replace what is installed."""
    environment = bare_environment()
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The source archive, and the wheel that is built from it. No network is needed."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder, cwd=ROOT)
    sdist = folder / f"{NAME}.tar.gz"
    run(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, sdist)
    return Built(sdist, folder / f"{NAME}-py3-none-any.whl")


@pytest.fixture(scope="module")
def environment(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what requirements/runtime.txt locks, and nothing else.

    The dependencies are links to the files that the tests' own environment has of them.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    packages = Path(run(folder / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    for requirement in locked(ROOT / "requirements" / "runtime.txt"):
        link(importlib.metadata.distribution(requirement.name), packages)
    run(*PIP, "--python", folder / "bin/python", "install", "--quiet", "--no-deps", "--no-index", built.wheel)
    return folder


def locked(file: Path) -> Iterator[Requirement]:
    """What the file locks for this interpreter."""
    for line in file.read_text().splitlines():
        if line and line[0] not in " #":
            requirement = Requirement(line.removesuffix("\\"))
            if requirement.marker is None or requirement.marker.evaluate():
                yield requirement


def link(distribution: importlib.metadata.Distribution, packages: Path) -> None:
    assert distribution.files is not None, f"{distribution.name} has no RECORD"
    for file in distribution.files:
        if ".." not in file.parts and "__pycache__" not in file.parts:  # scripts, and bytecode
            target = packages / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file.locate())


def sources() -> set[str]:
    """The files of the package, as in an archive."""
    src = ROOT / "src"
    files = (path for path in (src / "thingmint").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(src).as_posix() for path in files}


def test_the_wheel_has_every_file_of_the_package(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
        metadata = email.message_from_bytes(wheel.read(f"{METADATA}/METADATA"))
        for name in ("LICENSE", "NOTICE"):
            assert wheel.read(f"{METADATA}/licenses/{name}") == (ROOT / name).read_bytes()
    assert {name for name in names if not name.startswith(METADATA)} == sources()
    for kind in (".sql", ".binpb", "py.typed", ".html", ".css", ".woff2", "htmx.LICENSE.txt", "sse.LICENSE.txt"):
        assert any(name.endswith(kind) for name in names), f"the tests' list of the package's files has no {kind}"
    assert metadata["Version"] == thingmint.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "# Thingmint" in str(metadata.get_payload())


def test_the_source_archive_has_what_building_and_testing_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert {name.removeprefix("src/") for name in names if name.startswith("src/")} == sources()
    for wanted in ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "NOTICE", "README.md", "SECURITY.md"):
        assert wanted in names
    assert {"docs", "packaging", "requirements", "scripts", "tests"} <= {name.partition("/")[0] for name in names}
    unwanted = (".venv", ".git/", "build/", "data/", "dist/", "scratch/", "__pycache__")
    assert not [name for name in names if any(part in f"/{name}/" for part in map("/{}".format, unwanted))]


@pytest.mark.timeout(300)
def test_the_wheel_serves_with_its_runtime_dependencies_only(environment: Path, tmp_path: Path) -> None:
    program = environment / "bin" / "thingmint"
    python = environment / "bin" / "python"
    run(*PIP, "--python", python, "check")
    assert run(program, "--version").split() == ["thingmint", thingmint.__version__]
    # A module that imports a package of the tests or the tools fails here.
    imported = run(python, "-W", "error", "-c", _IMPORT_ALL, cwd=tmp_path)
    assert Path(imported.strip()).is_relative_to(environment), imported
    with running_server(tmp_path / "data", program=("env", "-u", "PYTHONPATH", str(program))) as server:
        assert httpx.get(f"{server.http_url}/readyz").status_code == 200
        created = iot_client(server).create_keys_and_certificate(setAsActive=True)
        headers = {"authorization": f"Bearer {server.token}"}
        listed = httpx.get(f"{server.http_url}/v1/certificates", headers=headers).json()
        assert created["certificateId"] in str(listed)
        token = httpx.post(f"{server.http_url}/iam/v1/tokens", json={"yandexPassportOauthToken": server.token})
        assert token.json()["iamToken"]
        page = httpx.get(f"{server.http_url}/console/sign-in").text
        for address in re.findall(r'(?:href|src)="(/console/static/[^"]+)"', page):
            assert httpx.get(f"{server.http_url}{address}").status_code == 200, address
    assert (tmp_path / "data" / "thingmint.db").exists()
