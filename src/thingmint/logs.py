"""Logging: one line per event on standard error, for people or as JSON.

Tracebacks show code and never the values of variables: those may hold keys.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import orjson
import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import EventDict


LogFormat = Literal["console", "json"]


def configure(log_format: LogFormat) -> None:
    if log_format == "json":
        structlog.configure(
            processors=[_as_json],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=lambda *_: _UnfailingLogger(structlog.BytesLogger(sys.stderr.buffer)),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _plain,
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


def _as_json(logger: object, method: str, event: EventDict) -> bytes:
    """structlog's own processors for this, in one: there is a line for every request."""
    event["level"] = "error" if method == "exception" else method
    event["timestamp"] = datetime.now(UTC)
    if "exc_info" in event:
        structlog.processors.format_exc_info(logger, method, event)
    return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)


def _plain(logger: object, method: str, event: EventDict) -> EventDict:
    """What is there, without anything that a terminal would obey: callers chose some of it.

    The renderer shows texts with blanks and those that are no texts by repr(), which escapes; others as they are.
    """
    del logger, method
    return {key: escaped(value) for key, value in event.items() if value is not None}


def escaped(value: object) -> object:
    """The same text with its control characters as backslash and code; of anything else what is in it."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    if isinstance(value, (list, tuple)):
        return [escaped(each) for each in value]
    return value


class _UnfailingLogger:
    """A full disk under the log must not stop what is being logged."""

    def __init__(self, logger: structlog.BytesLogger | structlog.PrintLogger) -> None:
        self._write: Callable[..., None] = logger.msg  # one takes text, the other bytes

    def msg(self, message: str | bytes) -> None:
        with contextlib.suppress(OSError):
            self._write(message)

    debug = info = warning = error = critical = exception = log = msg
