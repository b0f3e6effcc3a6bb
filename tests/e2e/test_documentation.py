"""The blocks of the documents run as printed, and their tables match the code."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import threading
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

from tests.e2e.commands import bare_environment
from tests.markdown import ROOT, Block, blocks_of, documents
from thingmint.access.administration import COMMANDS
from thingmint.access.administration.policies import MANAGED_POLICIES
from thingmint.cli.main import app
from thingmint.mqtt import traffic
from thingmint.mqtt.broker.limits import Bound, EmbeddedLimits, WillLimits
from thingmint.testing import RunningServer, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS = documents()

_RUNNABLE = {"sh", "python"}
_SHOWN_ONLY = {"c", "cpp", "ini", "json", "mermaid", "text", "toml", "yaml"}
_PROGRAMS = ("aws", "cmp", "curl", "mosquitto_pub", "openssl", "terraform")
_PORTS = {"--api-port": "8443", "--http-port": "8080", "--grpc-port": "9443", "--mqtt-port": "8883"}
_PATIENCE = 120.0  # seconds for one block


@dataclass(slots=True)
class Session:
    """One shell for all blocks of a document, as when a reader pastes one after the other."""

    folder: Path
    servers: contextlib.ExitStack
    shell: subprocess.Popen[str]
    ports: dict[str, int] = field(default_factory=dict)  # as the document has them -> as they are
    failed: bool = False

    def run(self, block: Block) -> None:
        """Run the block. Raises AssertionError, with the output, if a command fails."""
        if block.directive == "make serve":
            self._serve([])
        if block.directive == "servers are stopped":
            self.servers.close()
            self.ports.clear()
        if block.directive.startswith("saved as "):
            (self.folder / block.directive.removeprefix("saved as ")).write_text(block.text)
        elif block.text.strip() == "make serve":
            self._serve([])
        elif match := re.fullmatch(r"\S*thingmint serve (.*)", block.text.strip()):
            self._serve(shlex.split(match[1]))
        else:
            self._paste(block)

    def _serve(self, arguments: list[str]) -> None:
        flags = ("--data-dir", "--api-port", "--http-port", "--grpc-port", "--mqtt-port")
        own = {name: _popped(arguments, name) for name in flags}
        for name in flags[1:]:
            port = own[name] or _PORTS[name]
            assert port not in self.ports, f"{name} {port} is another server's of this document"
        if config := _popped(arguments, "--config"):
            arguments.append(f"--config={self.folder / config}")
        data_dir = self.folder / (own["--data-dir"] or "data")
        server: RunningServer = self.servers.enter_context(running_server(data_dir, arguments=arguments))
        for name in flags[1:]:
            listener = name.removeprefix("--").removesuffix("-port")
            self.ports[own[name] or _PORTS[name]] = server.ports[listener]

    def _paste(self, block: Block) -> None:
        text = re.sub(r"\b\d{4}\b", lambda match: str(self.ports.get(match[0], match[0])), block.text)
        script = self.folder / f".block-{block.line}.{block.language}"
        script.write_text(text)
        end = f"end-of-block-{block.line}"
        command = f". ./{script.name}" if block.language == "sh" else f"python {script.name}"
        assert self.shell.stdin is not None
        # What a block prints need not end in a line feed.
        self.shell.stdin.write(f"{command} </dev/null\nprintf '\\n%s\\n' {end}\n")
        self.shell.stdin.flush()
        output, self.failed = self._output_until(end)
        assert not self.failed, f"the block at line {block.line} failed:\n{text}\n--- output\n{output}"

    def _output_until(self, end: str) -> tuple[str, bool]:
        """The output up to the line ``end``, and whether the shell ended before it."""
        assert self.shell.stdout is not None
        watchdog = threading.Timer(_PATIENCE, self.shell.kill)
        watchdog.start()
        lines: list[str] = []
        try:
            for line in self.shell.stdout:
                if line.rstrip("\n") == end:
                    return "".join(lines), False
                lines.append(line)
        finally:
            watchdog.cancel()
        return "".join(lines), True


def _programs_of(block: Block) -> list[str]:
    used = re.findall(rf"(?m)(?:^|[|;&(])\s*({'|'.join(_PROGRAMS)})\s", block.text) if block.language == "sh" else []
    return list(dict.fromkeys(used))


def _popped(arguments: list[str], name: str) -> str | None:
    if name not in arguments:
        return None
    at = arguments.index(name)
    value = arguments[at + 1]
    del arguments[at : at + 2]
    return value


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    environment = bare_environment(PATH=f"{sys.prefix}/bin:{os.environ['PATH']}", HOME=str(tmp_path), LC_ALL="C.UTF-8")
    environment |= {name: os.environ[name] for name in ("TF_CLI_CONFIG_FILE",) if name in os.environ}
    with (
        contextlib.ExitStack() as servers,
        subprocess.Popen(
            ["bash", "--norc", "-eu", "-s"],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        ) as shell,
    ):
        try:
            yield Session(tmp_path, servers, shell)
        finally:
            shell.kill()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_run(document: Path, session: Session, subtests: pytest.Subtests) -> None:
    for block in blocks_of(document.read_text()):
        assert block.language in _RUNNABLE | _SHOWN_ONLY, f"line {block.line}: what is ```{block.language}?"
        if block.language in _SHOWN_ONLY:
            continue
        with subtests.test(f"{document.name}:{block.line}"):
            reason = block.reason_to_skip or _missing(block)
            if reason is None and session.failed:
                reason = "a block before this one failed"
            if reason is not None:
                pytest.skip(reason)
            session.run(block)
    for path in session.folder.glob("*.db"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, f"{path.name} is a backup that others may read"


def _missing(block: Block) -> str | None:
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    for program in _programs_of(block):
        if shutil.which(program, path=path) is None:
            return f"{program} is not there"
    if "terraform" in _programs_of(block) and not Path(os.environ.get("TF_CLI_CONFIG_FILE", "/")).is_file():
        return "terraform would download its provider: TF_CLI_CONFIG_FILE names no configuration with a mirror"
    return None


def test_two_servers_of_a_document_may_not_share_a_port(session: Session) -> None:
    session.run(Block(1, "sh", "make serve\n", ""))
    moved = "--api-port 8444 --http-port 8081 --grpc-port 9444"
    with pytest.raises(AssertionError, match="--mqtt-port 8883"):
        session.run(Block(5, "sh", f"thingmint serve --data-dir scratch {moved} --dev\n", ""))
    session.run(Block(9, "sh", f"thingmint serve --data-dir scratch {moved} --mqtt-port 8884 --dev\n", ""))


def test_a_failing_block_fails_the_test(session: Session) -> None:
    session.run(Block(1, "sh", "true\n", ""))
    with pytest.raises(AssertionError, match="line 5"):
        session.run(Block(5, "sh", "false\ntrue\n", ""))


def test_the_diagram_of_layers_matches_the_import_contracts() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    checked = [{name.strip().removeprefix("thingmint.") for name in layer.split("|")} for layer in layers]
    picture = next(b.text for b in blocks_of((ROOT / "docs" / "architecture.md").read_text()) if b.language == "text")
    shown = [set(line[:44].split()) for line in picture.splitlines() if "|" not in line]  # what follows explains
    assert shown == checked


def test_the_modules_of_access_are_all_described() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    package = ROOT / "src" / "thingmint"
    modules = {path.stem for path in (package / "access").iterdir() if not path.name.startswith("__")}
    table = text.partition("these are the modules of `access`")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert modules == {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def _tables(document: Path) -> list[list[list[str]]]:
    """The cells of the document's tables, heads first."""
    tables = re.findall(r"(?m)^\|.*\n\|---.*\n(?:\|.*(?:\n|\Z))*", document.read_text())
    lines = ([line for line in table.splitlines() if not line.startswith("|---")] for table in tables)
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in table] for table in lines]


def _rows(document: Path) -> list[list[str]]:
    """The cells of the document's first table, without its head."""
    return _tables(document)[0][1:]


def test_the_table_of_bounds_matches_the_code() -> None:
    tables = _tables(ROOT / "docs" / "devices.md")
    rows = {row[0]: row[1:4] for row in next(table for table in tables if "of an account" in table[0])}

    def told(*bounds: Bound) -> list[str]:
        return [f"{bound.count:,}, {bound.size // 2**20} MiB" for bound in bounds]

    broker, wills = EmbeddedLimits(), WillLimits()
    queued = told(broker.queued_per_session, broker.queued_per_account, broker.queued)
    assert rows["messages queued or under way at QoS 1"] == queued
    assert rows["retained messages"] == ["", *told(broker.retained_per_account, broker.retained)]
    assert rows["sessions"] == ["1", f"{broker.sessions_per_account:,}", f"{broker.sessions:,}"]
    assert rows["wills of open connections"][1:] == told(wills.open_per_account, wills.open)
    assert rows["wills that wait for their delay"][1:] == told(wills.waiting_per_account, wills.waiting)
    assert rows["subscriptions"][0] == f"{traffic._MAX_SUBSCRIPTIONS}, of 256 bytes each"


def test_the_table_of_files_matches_a_data_directory(server: RunningServer) -> None:
    documented = {name for row in _rows(ROOT / "docs" / "files.md") for name in re.findall(r"`([^`]+)`", row[0])}
    found = {str(path.relative_to(server.data_dir)) for path in server.data_dir.rglob("*") if not path.is_dir()}
    # Once something was recorded; with PostgreSQL; when the audit key was replaced; with a certificate for a host name;
    # after a backup.
    later = {"audit-checkpoints.jsonl", "database-timelines.json", "audit-keys.jsonl", "grpc-1.sock", "last-backup"}
    assert found | later == documented
    for path in [server.data_dir, *server.data_dir.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_every_policy_and_command_is_described() -> None:
    lines = (ROOT / "docs" / "access.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    for name in MANAGED_POLICIES:
        assert any(f"`{name}`" in row for row in rows), name
    for command in COMMANDS.values():
        of_noun = [line for line in lines if f"`access {command.noun}`" in line]
        assert any(f"`{command.verb}`" in line or command.noun in ("token", "session") for line in of_noun), (
            command.name
        )


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "thingmint", *command, "--help"],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env=os.environ | {"COLUMNS": "300"},
    )
    return done.stdout


@pytest.mark.parametrize("command", [(), ("init",), ("serve",)], ids=["thingmint", "init", "serve"])
def test_the_examples_in_the_help_parse(command: tuple[str, ...]) -> None:
    examples = re.findall(r"(?m)^ *((?:[A-Z_]+=\S+ )*thingmint .*?) *$", _help(*command))
    assert len(examples) >= 2, _help(*command)
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for example in examples:
        words = shlex.split(example)
        _, name, *arguments = words[words.index("thingmint") :]
        assert not command or name == command[0]
        commands[name].make_context(name, arguments)


def test_the_help_names_every_target() -> None:
    targets = re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text())
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, check=True, encoding="utf-8")
    assert all(f"make {target} " in done.stdout for target in targets)
