"""Logging: one line per event on standard error, for people or as JSON.

Tracebacks show code and never the values of variables: those may hold keys.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Literal

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict, Processor

__all__ = ["LogFormat", "configure"]

LogFormat = Literal["console", "json"]


def configure(log_format: LogFormat) -> None:
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "json":
        structlog.configure(
            processors=[
                *shared,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=orjson.dumps, default=str),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=lambda *_: _UnfailingLogger(structlog.BytesLogger(sys.stderr.buffer)),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[
                *shared,
                _without_nothing,
                structlog.dev.ConsoleRenderer(
                    colors=sys.stderr.isatty(),
                    sort_keys=False,
                    pad_event_to=0,
                    exception_formatter=structlog.dev.plain_traceback,
                ),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=lambda *_: _UnfailingLogger(structlog.PrintLogger(sys.stderr)),
            cache_logger_on_first_use=True,
        )
    # Libraries that use the standard library's logging: only what an operator has to see.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def _without_nothing(logger: object, method: str, event: EventDict) -> EventDict:
    """People read what is there."""
    del logger, method
    return {key: value for key, value in event.items() if value is not None}


class _UnfailingLogger:
    """A full disk under the log must not stop what is being logged."""

    def __init__(self, logger: structlog.BytesLogger | structlog.PrintLogger) -> None:
        self._write: Callable[..., None] = logger.msg  # one takes text, the other bytes

    def msg(self, message: str | bytes) -> None:
        with contextlib.suppress(OSError):
            self._write(message)

    debug = info = warning = error = critical = exception = log = msg
