"""The time of each page of the console, with very many certificates in the store."""

from __future__ import annotations

import http.client
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from benchmarks.figures import Budget, Figure
from benchmarks.large_store import fill_store
from benchmarks.machine import usage
from benchmarks.measuring import SCRATCH, SERVE, quantile
from thingmint.testing import running_server

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.large_store import Known
    from thingmint.testing import RunningServer

__all__ = ["CONSOLE_STEPS", "console"]

CONSOLE_STEPS = 2

_CERTIFICATES, _QUICK = 1_000_000, 100_000
_TIMES, _QUICK_TIMES = 100, 20
_WARM_UP = 3
_BUDGET = Budget(100, at_most=True)
_NEXT = re.compile(r'href="/console([^"]*[?&;]page=[^"]*)"')


class _Browser:
    """One connection with the cookie of a session."""

    def __init__(self, server: RunningServer) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=60)
        form = urlencode({"token": server.token})
        media = {"content-type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/console/sign-in", form, media)
        answer = self._connection.getresponse()
        answer.read()
        self._headers = {"cookie": (answer.headers["set-cookie"] or "").partition(";")[0], "accept": "text/html"}

    def get(self, path: str) -> str:
        self._connection.request("GET", f"/console{path}", headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise ValueError(f"{path} was answered with {answer.status}")
        return body

    def close(self) -> None:
        self._connection.close()


def console(bench: Bench) -> list[Figure]:
    """Asks for each page again and again, one request at a time."""
    count = _QUICK if bench.quick else _CERTIFICATES
    with tempfile.TemporaryDirectory(prefix="console-", dir=SCRATCH) as name:
        bench.step(f"making {count:,} certificates")
        known = fill_store(Path(name) / "data", count)
        bench.step("pages of the console")
        with running_server(Path(name) / "data", arguments=SERVE) as server:
            browser = _Browser(server)
            figures = []
            for what, path in _pages(browser, known).items():
                repeats = _QUICK_TIMES if bench.quick else _TIMES
                before = usage(server.process.pid)
                times = _timed(browser, path, repeats)
                cpu = (usage(server.process.pid) - before).process / (repeats + _WARM_UP)
                for label, share in (("p50", 0.5), ("p99", 0.99)):
                    figures.append(Figure("console", f"{what}: {label}", quantile(times, share) * 1e3, "ms", _BUDGET))
                figures.append(Figure("console", f"{what}: server CPU", cpu * 1e3, "ms"))
            browser.close()
    return figures


def _timed(browser: _Browser, path: str, times: int) -> list[float]:
    for _ in range(_WARM_UP):
        browser.get(path)
    found = []
    for _ in range(times):
        start = time.perf_counter()
        browser.get(path)
        found.append(time.perf_counter() - start)
    return sorted(found)


def _pages(browser: _Browser, known: Known) -> dict[str, str]:
    """The addresses of the pages, by what they show."""
    certificates = {
        "the newest": {},
        "ACTIVE": {"status": "ACTIVE"},
        "REVOKED": {"status": "REVOKED"},
        "ended": {"ends": "past"},
        "ending in 30 days": {"ends": "30"},
        "REVOKED, ending in 30 days": {"status": "REVOKED", "ends": "30"},
        "REVOKED, ending in 90 days": {"status": "REVOKED", "ends": "90"},
        "REVOKED, ending later": {"status": "REVOKED", "ends": "later"},
        "INACTIVE, ended": {"status": "INACTIVE", "ends": "past"},
        "seen in the last day": {"seen": "day"},
        "not seen for 90 days": {"seen": "not-90"},
        "never seen": {"seen": "never"},
        "never seen, REVOKED": {"seen": "never", "status": "REVOKED"},
        "without a policy": {"without": "policy"},
        "without a thing, REVOKED": {"without": "thing", "status": "REVOKED"},
        "of a CA": {"ca": known.ca},
        "of a CA, REVOKED, ended": {"ca": known.ca, "status": "REVOKED", "ends": "past"},
        "found by common name": {"q": known.name},
        "found by the beginning of common names": {"q": known.name[:5].upper()},
        "found by that beginning, REVOKED": {"q": known.name[:5].upper(), "status": "REVOKED"},
        "all common names with that beginning": {"q": f"CN={known.name[:5]}"},
        "found by four digits of the id": {"q": known.certificate[:4]},
        "found by four digits, REVOKED": {"q": known.certificate[:4], "status": "REVOKED"},
        "found by four digits, of a CA, never seen": {
            "q": known.certificate[:4],
            "ca": known.ca,
            "seen": "never",
        },
        "found by that beginning, without a policy": {"q": known.name[:5], "without": "policy"},
        "all with that beginning, without a thing": {"q": f"CN={known.name[:5]}", "without": "thing"},
        "nothing found": {"q": "no such name"},
    }
    pages = {"Overview": "/"}
    pages |= {f"Certificates, {what}": f"/certificates?{urlencode(query)}" for what, query in certificates.items()}
    following = _NEXT.search(browser.get("/certificates"))
    if following is not None:
        pages["Certificates, the second page"] = following[1].replace("&amp;", "&")
    pages |= {
        "Change all that match": "/certificates/change-all?status=REVOKED",
        "Change the first 1,000": "/certificates/change-all?status=ACTIVE",
        "Change the first 1,000, found by a beginning": f"/certificates/change-all?q={known.name[:5]}&status=ACTIVE",
        "One certificate": f"/certificates/{known.certificate}",
        "Things": "/things",
        "Things, found by a beginning": f"/things?q={known.name[:-3]}",
        "One thing": f"/things/{known.name}",
        "Delete one thing": f"/things/{known.name}/delete",
        "Devices": "/devices",
        "Devices of a registry of 100,000": f"/devices?registry={known.registry}",
        "One device": f"/devices/{known.device}",
        "Connect one device": f"/connect/yandex/{known.device}",
        "Sessions": "/sessions",
        "Why refused": "/refusals",
        "Simulator": f"/refusals/simulator?{urlencode({'device': known.name, 'action': 'publish', 'name': 'a/b'})}",
        "CAs and expiry": "/cas",
        "One CA, of half of the certificates": f"/cas/{known.ca}",
        "Provisioning": "/provisioning",
        "Device policies": "/policies",
        "One device policy": "/policies/one?name=everything",
        "Access": "/access",
        "One user": "/access/user/administrator",
        "Policies of principals": "/access/policies",
        "Audit log": "/access/audit",
        "Audit log of the administrator": "/access/audit?q=user/administrator",
        "Connect a device": "/connect",
        "Connect one thing": f"/connect/{known.name}",
        "Playground": "/playground",
        "Playground, found by a word": "/playground?q=certificate",
        "Playground, one operation": "/playground/aws/CreateKeysAndCertificate",
    }
    return pages
