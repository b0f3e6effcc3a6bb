"""A tour of a running server: steps that each prove something, in stages that are modules of this package."""

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

__all__ = ["NotSo", "Step", "StepFailed", "Tour", "require"]


class NotSo(Exception):
    """What a step set out to prove does not hold."""


class StepFailed(Exception):
    """A step failed, and that was shown already."""


def require(condition: object, otherwise: str) -> None:
    """Raises unless ``condition`` holds; ``otherwise`` says what is the case instead."""
    if not condition:
        raise NotSo(otherwise)


@dataclass(slots=True)
class Step:
    """``proved`` is what its line says once it held."""

    proved: str = ""


@dataclass(slots=True)
class Tour:
    """Where the tour goes, and what later steps need of earlier ones."""

    console: Console
    server: RunningServer
    steps: int = 0
    private_keys: list[str] = field(default_factory=list)  # all that the server gave out, in PEM

    def stage(self, title: str) -> None:
        self.console.print(f"\n[bold]{escape(title)}[/]")

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """One line: a check mark and what was proved, or a cross and what was wrong. Raises StepFailed."""
        step = Step()
        started = time.perf_counter()
        try:
            with self._under_way(title):
                yield step
        except NotSo as error:
            self._fail(title, str(error))
            raise StepFailed from None
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the person is told which step it was
            self._fail(title, f"{type(error).__name__}: {error}")
            raise StepFailed from None
        assert step.proved, f"{title} does not say what it proved"
        self.steps += 1
        milliseconds = (time.perf_counter() - started) * 1000
        mark = (f"  {self._symbol('✓', 'ok')} ", "green")
        self.console.print(Text.assemble(mark, f"{title}: {step.proved} ", (f"{milliseconds:.0f} ms", "dim")))

    @contextlib.contextmanager
    def _under_way(self, title: str) -> Iterator[None]:
        """On a terminal, the step that takes its time."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(escape(title)):
            yield

    def show(self, text: str) -> None:
        """Something to copy, below the step that it belongs to."""
        self.console.print(Text(f"      {text}", style="cyan"))

    def _fail(self, title: str, problem: str) -> None:
        self.console.print(Text.assemble((f"  {self._symbol('✗', 'FAILED')} {title}: ", "bold red"), problem))

    def _symbol(self, symbol: str, plain: str) -> str:
        try:
            symbol.encode(self.console.encoding)
        except UnicodeEncodeError:
            return plain
        return symbol
