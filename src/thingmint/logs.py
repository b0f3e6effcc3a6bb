"""Logging: one line per event on standard error, for people or as JSON.

Tracebacks show code and never the values of variables, which may contain keys.
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
    # From libraries that use the standard library's logging: warnings and errors only.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def _as_json(logger: object, method: str, event: EventDict) -> bytes:
    """The event as a line of JSON. One function instead of several of structlog's: every request logs a line."""
    event["level"] = "error" if method == "exception" else method
    event["timestamp"] = datetime.now(UTC)
    if "exc_info" in event:
        structlog.processors.format_exc_info(logger, method, event)
    return orjson.dumps(event, default=str, option=orjson.OPT_UTC_Z)


def _plain(logger: object, method: str, event: EventDict) -> EventDict:
    """The event without empty values, and with control characters escaped: callers choose some of the values.

    The renderer uses repr(), which escapes, only for texts with blanks and for values that are not texts.
    """
    del logger, method
    return {key: escaped(value) for key, value in event.items() if value is not None}


def escaped(value: object) -> object:
    """The value with the control characters of its texts as backslash and code."""
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    if isinstance(value, (list, tuple)):
        return [escaped(each) for each in value]
    return value


class _UnfailingLogger:
    """Drops lines that cannot be written: a full disk under the log must not stop the server."""

    def __init__(self, logger: structlog.BytesLogger | structlog.PrintLogger) -> None:
        self._write: Callable[..., None] = logger.msg  # one takes text, the other bytes

    def msg(self, message: str | bytes) -> None:
        with contextlib.suppress(OSError):
            self._write(message)

    debug = info = warning = error = critical = exception = log = msg
