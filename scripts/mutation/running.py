"""Runs the tests once without a change, to find what they reach; then, on each mutant, the tests that reach it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mutation.candidates import Mutant, with_probe
from mutation.sandbox import SandboxError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mutation.sandbox import Sandbox

# The end-to-end tests that belong to a package, in the layout before and after the packages were renamed.
_OWN_E2E = {
    "access": ("access/", "test_signatures"),
    "aws": ("test_aws_operations", "test_bad_input", "test_signatures", "things/", "aws_templates/"),
    "cli": ("access/test_commands", "test_dev_mode", "test_documentation"),
    "domain": ("test_device_policies", "test_keys_and_certificate", "aws_templates/", "authorities/"),
    "http": ("test_bad_http", "test_bad_input", "test_native", "test_lifecycle"),
    "instance": ("test_dev_mode", "test_two_roots", "test_lifecycle"),
    "mqtt": ("mqtt/", "gateway/", "upstream/", "provisioning/"),
    "native": ("test_native",),
    "server": ("test_lifecycle", "test_dev_mode", "access/test_throttling"),
    "services": ("things/", "provisioning/", "authorities/", "aws_templates/", "test_device_policies"),
    "store": ("test_durability_and_secrecy", "things/"),
    "yandex": ("yandex/",),
}
_OLD_NAMES = {"identity": "domain", "registry": "services", "storage": "store", "gateway": "mqtt"}


@dataclass(frozen=True, slots=True)
class TestFile:
    """The result of a test file without a mutant."""

    file: str
    seconds: float
    failing: list[str]  # skipped later
    hits: list[int]  # the mutants whose statement it runs
    clock: str | None  # the time at which the file passes, if it fails now


@dataclass(frozen=True, slots=True)
class Result:
    number: int
    mutant: Mutant
    status: str  # killed, timeout (killed as well), survived
    stage: str
    by: str  # the test that detected it
    files: int  # test files that reach it
    seconds: float


@dataclass(slots=True)
class Records:
    """The JSON lines for one list of mutants, in a file that can have lines for other lists too."""

    path: Path
    name: str

    def load(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [{key: line[key] for key in line if key != "list"} for line in lines if line["list"] == self.name]

    def append(self, record: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"list": self.name} | record) + "\n")

    def test_files(self) -> list[TestFile]:
        return [TestFile(**record) for record in self.load()]

    def results(self) -> list[Result]:
        return [Result(**record | {"mutant": Mutant(**record["mutant"])}) for record in self.load()]


def name_of(mutants: Sequence[Mutant]) -> str:
    return hashlib.sha256(json.dumps([asdict(mutant) for mutant in mutants]).encode()).hexdigest()[:12]


def probe(
    sandbox: Sandbox,
    mutants: Sequence[Mutant],
    records: Records,
    folder: str,
    clock: str | None,
    say: Callable[[str], None],
) -> list[TestFile]:
    """Runs each test file in ``folder`` separately, with a probe in the place of each mutant.

    A test that fails twice is skipped later, unless its whole file passes at ``clock``.
    """
    files = sorted(str(path.relative_to(sandbox.copy)) for path in sandbox.copy.glob(f"{folder}/**/test_*.py"))
    known = {known.file: known for known in records.test_files()}
    sources = {
        mutant.file: with_probe((sandbox.copy / mutant.file).read_bytes(), mutant, number)
        for number, mutant in enumerate(mutants)
    }
    with sandbox.changed(sources):
        for position, file in enumerate(files, 1):
            if file in known:
                continue
            known[file] = found = _probe_file(sandbox, file, clock)
            records.append(asdict(found))
            at = f", at {found.clock}" if found.clock else ""
            failing = f", {len(found.failing)} fail without a mutant and are skipped" if found.failing else ""
            count = len(found.hits)
            say(f"[{position}/{len(files)}] {file}: {found.seconds:.1f} s, reaches {count} mutants{at}{failing}")
    return [known[file] for file in files]


def _probe_file(sandbox: Sandbox, file: str, clock: str | None) -> TestFile:
    outcome = sandbox.run([file], stop=False, timeout=1800)
    if outcome.status == 1 and clock is not None and file.startswith("tests/unit/"):
        faked = sandbox.run([file], stop=False, timeout=1800, clock=clock)
        if faked.passed:
            return TestFile(file, faked.seconds, [], faked.hits, clock)
    failing: list[str] = []
    if outcome.status == 1:
        again = sandbox.run([file], stop=False, timeout=1800)
        failing = [test for test in outcome.failures if test in again.failures]
        outcome = again
    if not outcome.passed and outcome.status != 1:
        raise SandboxError(f"{file} cannot be run: {outcome.reason}\n{outcome.output[-3000:]}")
    return TestFile(file, outcome.seconds, failing, outcome.hits, None)


def try_mutant(
    sandbox: Sandbox, number: int, mutant: Mutant, tests: Sequence[TestFile], say: Callable[[str], None]
) -> Result:
    """Runs the tests that reach the mutant, up to the first failure. The tests of its package come first."""
    reaching = [test for test in tests if number in test.hits]
    seconds = 0.0
    with sandbox.changed({mutant.file: mutant.apply((sandbox.copy / mutant.file).read_bytes())}):
        for stage, group in _stages(mutant, reaching):
            left = list(group)
            while left:
                outcome = sandbox.run(
                    [test.file for test in left],
                    timeout=300 + 6 * sum(test.seconds for test in left),
                    deselected=[name for test in left for name in test.failing],
                    clock=left[0].clock,
                )
                seconds += outcome.seconds
                if outcome.passed:
                    break
                blamed = _blamed(outcome.failures, left)
                if outcome.status == 1 and blamed is not None and blamed.file.startswith("tests/e2e/"):
                    # On a busy machine an end-to-end test can fail without a fault: it must fail twice.
                    again = sandbox.run([blamed.file], timeout=300 + 6 * blamed.seconds, deselected=blamed.failing)
                    seconds += again.seconds
                    if again.passed:
                        say(f"    {outcome.reason} failed only once: not counted")
                        left = left[left.index(blamed) + 1 :]
                        continue
                status = "timeout" if outcome.status is None else "killed"
                return Result(number, mutant, status, stage, outcome.reason, len(reaching), seconds)
    return Result(number, mutant, "survived", "all" if reaching else "not reached", "", len(reaching), seconds)


def _blamed(failures: Sequence[str], tests: Sequence[TestFile]) -> TestFile | None:
    file = failures[0].partition("::")[0] if failures else ""
    return next((test for test in tests if test.file == file), None)


def _stages(mutant: Mutant, tests: Sequence[TestFile]) -> Iterator[tuple[str, Iterator[TestFile]]]:
    """Groups of tests that can run in one process: own unit, own e2e, other unit, other e2e; fast files first."""

    def rank(test: TestFile) -> tuple[bool, bool, str]:
        return (not _is_own(mutant, test), test.file.startswith("tests/e2e/"), test.clock or "")

    for (foreign, e2e, _), group in groupby(sorted(tests, key=lambda test: (rank(test), test.seconds)), key=rank):
        yield f"{'other' if foreign else 'own'} {'e2e' if e2e else 'unit'}", group


def _is_own(mutant: Mutant, test: TestFile) -> bool:
    """True if the tests are those of the mutant's package, or of its module if that is in no package."""
    package, inside, _ = mutant.file.removeprefix("src/thingmint/").partition("/")
    if not inside:
        return test.file == f"tests/unit/test_{package}"
    package_e2e = _OWN_E2E.get(_OLD_NAMES.get(package, package), ())
    own = (f"tests/unit/{package}/", *(f"tests/e2e/{name}" for name in package_e2e))
    return test.file.startswith(own)
