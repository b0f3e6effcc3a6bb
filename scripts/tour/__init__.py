"""The stages of the demo. Each module has steps that check something on a running server."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from thingmint.testing import RunningServer

__all__ = ["CheckFailed", "Step", "StepFailed", "Tour", "require"]


class CheckFailed(Exception):
    """A check in a step failed."""


class StepFailed(Exception):
    """A step failed, and the console shows why."""


def require(condition: object, otherwise: str) -> None:
    """Raises CheckFailed with the text ``otherwise`` unless ``condition`` is true."""
    if not condition:
        raise CheckFailed(otherwise)


@dataclass(slots=True)
class Step:
    """``result`` is what the step's line shows if the step passed."""

    result: str = ""


@dataclass(slots=True)
class Tour:
    """The console and the server of the tour, and what later steps need from earlier ones."""

    console: Console
    server: RunningServer
    steps: int = 0
    private_keys: list[str] = field(default_factory=list)  # all that the server returned, in PEM

    def stage(self, title: str) -> None:
        self.console.print(f"\n[bold]{escape(title)}[/]")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Prints one line: a check mark and the result, or a cross and the problem. Raises StepFailed."""
        step = Step()
        started = time.perf_counter()
        try:
            with self._status(title):
                yield step
        except CheckFailed as error:
            self._fail(title, str(error))
            raise StepFailed from None
        except Exception as error:  # noqa: BLE001 - after any error, the console shows which step failed
            self._fail(title, f"{type(error).__name__}: {error}")
            raise StepFailed from None
        assert step.result, f"{title} has no result"
        self.steps += 1
        milliseconds = (time.perf_counter() - started) * 1000
        mark = (f"  {self._symbol('✓', 'ok')} ", "green")
        self.console.print(Text.assemble(mark, f"{title}: {step.result} ", (f"{milliseconds:.0f} ms", "dim")))

    @contextlib.contextmanager
    def _status(self, title: str) -> Iterator[None]:
        """On a terminal, shows the title while the step runs."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(escape(title)):
            yield

    def show(self, text: str) -> None:
        """Prints a text to copy, below the step that it belongs to."""
        self.console.print(Text(f"      {text}", style="cyan"))

    def _fail(self, title: str, problem: str) -> None:
        self.console.print(Text.assemble((f"  {self._symbol('✗', 'FAILED')} {title}: ", "bold red"), problem))

    def _symbol(self, symbol: str, plain: str) -> str:
        try:
            symbol.encode(self.console.encoding)
        except UnicodeEncodeError:
            return plain
        return symbol
