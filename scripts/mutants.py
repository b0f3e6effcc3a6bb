"""Finds faults that the tests do not detect: changes one place in the product at a time, and runs the tests on it.

    python scripts/mutants.py draw --seed 9 --count 100 build/mutants.json
    python scripts/mutants.py run build/mutants.json       # takes hours; continues where it was stopped
    python scripts/mutants.py report build/mutants.json    # the results so far

`run` works in a copy of the checkout. It first runs the tests without a change, to find which tests reach which mutant:
no other test can detect it. RESULTS.jsonl gets a line for each mutant, RESULTS.tests.jsonl one for each test file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mutation.candidates import KINDS, Mutant
from mutation.drawing import draw
from mutation.running import Records, name_of, probe, try_mutant
from mutation.sandbox import Sandbox, SandboxError, tracked_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mutation.running import Result

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    arguments = _parser().parse_args()
    checkout: Path = arguments.checkout.resolve()
    try:
        if arguments.command == "draw":
            _draw(checkout, arguments)
            return 0
        mutants = [Mutant(**mutant) for mutant in json.loads(arguments.list.read_text())]
        results = arguments.results or arguments.list.with_suffix(".jsonl")
        records = Records(results, name_of(mutants))
        if arguments.command == "run":
            _run(checkout, arguments, mutants, records)
    except (SandboxError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    _report(mutants, records.results())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("draw", "write a list of mutants"),
        ("run", "run the tests on each mutant of a list"),
        ("report", "show the results so far"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("list", type=Path, help="JSON file of the mutants")
        command.add_argument("--checkout", type=Path, default=ROOT)
        if name == "draw":
            command.add_argument("--seed", type=int, required=True)
            command.add_argument("--count", type=int, default=100)
        else:
            command.add_argument("--results", type=Path, help="default: LIST.jsonl")
        if name == "run":
            command.add_argument("--python", type=Path, help="default: the checkout's .venv/bin/python")
            command.add_argument("--clock", help="a time for unit tests that fail now, such as '2026-11-21 13:00:00'")
            command.add_argument("--tests", default="tests", help="folder of the tests to run, such as tests/unit")
    return parser


def _draw(checkout: Path, arguments: argparse.Namespace) -> None:
    mutants = draw(checkout, tracked_files(checkout), seed=arguments.seed, count=arguments.count)
    arguments.list.write_text(json.dumps([asdict(mutant) for mutant in mutants], indent=1) + "\n")
    kinds = Counter(mutant.kind for mutant in mutants)
    print(f"{len(mutants)} mutants: {', '.join(f'{kinds[kind]} {kind}' for kind in KINDS)}")


def _run(checkout: Path, arguments: argparse.Namespace, mutants: Sequence[Mutant], records: Records) -> None:
    os.nice(19 - os.nice(0))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copy is deleted and the servers stop
    python = (arguments.python or checkout / ".venv/bin/python").absolute()
    done = {result.number: result for result in records.results()}
    tests_of = Records(records.path.with_suffix(".tests.jsonl"), records.name)
    with Sandbox(checkout, python) as sandbox:
        _say(f"{len(mutants)} mutants, {len(done)} of them done; the copy is {sandbox.copy}")
        tests = probe(sandbox, mutants, tests_of, arguments.tests, arguments.clock, _say)
        for number, mutant in enumerate(mutants):
            if number not in done:
                done[number] = result = try_mutant(sandbox, number, mutant, tests, _say)
                records.append(asdict(result))
                _say(f"[{len(done)}/{len(mutants)}] {_line(result)}")


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def _line(result: Result) -> str:
    mutant = result.mutant
    change = f"{_short(mutant.before)} -> {_short(mutant.after)}"
    detected = f"{result.by} ({result.stage})" if result.by else f"{result.stage}, {result.files} test files"
    return f"{result.status} {mutant.file}:{mutant.line} {mutant.kind}: {change} | {detected}, {result.seconds:.0f} s"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return f"`{text}`" if len(text) <= 90 else f"`{text[:60]} … {text[-27:]}`"


def _report(mutants: Sequence[Mutant], results: Sequence[Result]) -> None:
    survivors = [result for result in results if result.status == "survived"]
    killed = Counter(result.stage for result in results if result.status != "survived")
    print(f"\n{len(results)} of {len(mutants)} mutants tried, {len(survivors)} survived")
    print("killed by tests:", ", ".join(f"{count} {stage}" for stage, count in killed.most_common()) or "none")
    for kind in KINDS:
        of_kind = [result.status == "survived" for result in results if result.mutant.kind == kind]
        print(f"  {kind}: {sum(of_kind)} of {len(of_kind)} survived")
    for result in survivors:
        print(_line(result))


if __name__ == "__main__":
    sys.exit(main())
