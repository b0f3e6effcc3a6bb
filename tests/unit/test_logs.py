"""The log: one line for each event on standard error, without values of variables."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys
import structlog
from thingmint import logs

logs.configure(sys.argv[1])
log = structlog.get_logger("thingmint")

def fails():
    private_key = "the value of a variable".upper()
    raise RuntimeError("what went wrong")

log.debug("too much detail")
log.info("ready", port=8443)
logging.getLogger("another").warning("of a library")
logging.getLogger("another").info("chatter of a library")
try:
    fails()
except RuntimeError:
    log.exception("request_failed", request_id="r-1")
"""


def output(log_format: str) -> str:
    command = [sys.executable, "-W", "error", "-c", PROGRAM, log_format]
    finished = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert finished.stdout == b""
    return finished.stderr.decode()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_have_no_values_of_variables(log_format: str) -> None:
    text = output(log_format)
    for expected in ("ready", "8443", "of a library", "r-1", "what went wrong", "in fails"):
        assert expected in text
    for unwanted in ("too much detail", "chatter", "THE VALUE OF A VARIABLE", "\x1b["):
        assert unwanted not in text


def test_json_lines() -> None:
    lines = [json.loads(line) for line in output("json").splitlines() if line.startswith("{")]
    assert [(line["event"], line["level"]) for line in lines] == [("ready", "info"), ("request_failed", "error")]
    assert lines[0]["port"] == 8443
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert "RuntimeError: what went wrong" in lines[1]["exception"]


def test_control_characters_from_callers_are_escaped() -> None:
    program = """
import structlog
from thingmint import logs

logs.configure("console")
bad = "a\\x1b[31mb\\nc\\rd\\x9be\\u202ef"
structlog.get_logger("thingmint").warning(bad, client_id=bad, closest=[bad, (bad,)], port=8443, name="l\\u00e4mp")
"""
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=True
    ).stderr.decode()
    assert all(c.isprintable() for c in printed.removesuffix("\n")), repr(printed)
    assert "l\u00e4mp" in printed
    assert printed.count("x1b[31mb") >= 3
