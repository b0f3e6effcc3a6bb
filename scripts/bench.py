"""Measures the real server, compares it with the budgets of the design, and writes docs/benchmarks.md.

The exit status is 0 if measuring worked. A missed budget is printed as MISSED, and does not change the exit status.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.bench import Bench
from benchmarks.cases import CASES
from benchmarks.figures import Figure
from benchmarks.load import LoadFailed
from benchmarks.machine import describe_machine
from benchmarks.measuring import SCRATCH, SERVE
from benchmarks.profiles import LOADS, profile
from benchmarks.report import as_json, as_markdown, as_tables, disturbance
from thingmint.testing import ServerFailed, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.cases import Case
    from benchmarks.profiles import Profile

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "benchmarks.md"


def main() -> int:
    options = _options()
    cases = [case for case in CASES if not options.only or case.name in options.only]
    whole = not options.quick and len(cases) == len(CASES)
    notes = Console(stderr=True)
    SCRATCH.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=SCRATCH))
    try:
        machine = describe_machine(folder)
        with _progress(notes) as progress:
            task = progress.add_task("starting a server", total=sum(case.steps for case in cases))

            def step(what: str) -> None:
                progress.update(task, description=what, advance=1)

            figures = _measure(cases, folder / "data", step, options)
            missed = sorted({figure.case for figure in figures if figure.missed} & LOADS.keys()) if whole else []
            progress.update(task, total=sum(case.steps for case in cases) + len(missed))
            profiles = [_profile(name, folder / "data", step) for name in missed]
    except KeyboardInterrupt:
        return 130
    except (LoadFailed, ServerFailed, OSError, ValueError, subprocess.SubprocessError) as error:
        notes.print("[bold red]Measuring failed:[/]")
        notes.print(f"{type(error).__name__}: {error}", markup=False)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if whole:
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text(as_markdown(machine, figures, profiles))
    if options.output == "json":
        print(json.dumps(as_json(machine, figures, profiles), indent=2))
    else:
        Console().print(*as_tables(figures))
        if warning := disturbance(figures):
            notes.print(f"[bold yellow]{warning}[/]")
        notes.print(f"{REPORT.relative_to(ROOT)} was {'written' if whole else 'not changed: only a part was measured'}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES], help="may be repeated")
    parser.add_argument("--quick", action="store_true", help="take 4 minutes instead of 13; less exact")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another checkout to compare engines with")
    parser.add_argument("--output", choices=["table", "json"], default="table")
    return parser.parse_args()


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip


def _measure(
    cases: Sequence[Case], data_dir: Path, step: Callable[[str], None], options: argparse.Namespace
) -> list[Figure]:
    figures = []
    start = time.monotonic()
    with running_server(data_dir, arguments=SERVE) as server:
        figures.append(Figure("idle", "Start to ready, new data directory", time.monotonic() - start, "s"))
        server.stop()
    start = time.monotonic()
    with running_server(data_dir, arguments=SERVE) as server:
        figures.append(Figure("idle", "Start to ready", time.monotonic() - start, "s"))
        bench = Bench(server, options.quick, step, options.against)
        for case in cases:
            figures += case.run(bench)
    return figures


def _profile(case: str, data_dir: Path, step: Callable[[str], None]) -> Profile:
    step(f"profile: {case}")
    return profile(case, data_dir)


if __name__ == "__main__":
    raise SystemExit(main())
