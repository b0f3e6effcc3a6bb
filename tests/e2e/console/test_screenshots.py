"""The pages of a small fleet in Chromium. `make screenshots` writes the pictures of README.md and docs/console.md.

Without the variable SCREENSHOTS the pages are only opened. With it, each is also written to build/screenshots in light
and dark, wide and narrow, to be looked at.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.scene import REFUSED, Scene, fleet
from tests.markdown import images_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ROOT / "docs" / "images"
MAX_SIZE = 150_000  # bytes of a picture
WIDE, NARROW = (1360, 900), (390, 844)
NEW = count(501)  # numbers of new pumps


@dataclass(frozen=True)
class Shot:
    """A picture. ``open`` is the path of a page, or does what leads to it from the overview."""

    name: str
    open: str | Callable[[Page, Scene], None]
    schemes: tuple[str, ...] = ("light",)
    size: tuple[int, int] = WIDE

    def files(self) -> Iterator[tuple[str, str]]:
        """The names of the files in docs/images, with the schemes of their colours."""
        for scheme in self.schemes:
            yield (f"{self.name}-{scheme}.png" if len(self.schemes) > 1 else f"{self.name}.png"), scheme


def why(page: Page, scene: Scene) -> None:
    del scene
    page.get_by_role("link", name="Why refused").click()
    page.get_by_role("link", name=f"{REFUSED} may not subscribe").click()
    page.get_by_text("It would be refused now.").wait_for()


def certificate(page: Page, scene: Scene) -> None:
    page.goto(f"/console/certificates/{scene.member(REFUSED).id}")


def connect(page: Page, scene: Scene) -> None:
    del scene
    page.goto("/console/connect")
    page.get_by_label("Name of the thing").fill(f"pump-{next(NEW):05}")
    page.get_by_role("button", name="Make the thing and its keys").click()
    page.get_by_text("Waiting for the device.").wait_for()


def dry_run(page: Page, scene: Scene) -> None:
    del scene
    page.goto("/console/provisioning/templates/new-pumps/dry-run")
    page.get_by_label("SerialNumber").fill("00777")
    page.locator("main form button.primary").click()
    page.get_by_text("pump-00777").first.wait_for()


BOTH = ("light", "dark")
SHOTS = (
    Shot("overview", "/", BOTH),
    Shot("why", why, BOTH, (1360, 1000)),
    Shot("overview-phone", "/", size=NARROW),
    Shot("certificates", "/certificates"),
    Shot("certificate", certificate),
    Shot("sessions", "/sessions"),
    Shot("refusals", "/refusals", size=(1360, 740)),
    Shot("simulator", "/refusals/simulator?device=pump-00401&action=publish&name=water/pump-00401/state"),
    Shot("things", "/things"),
    Shot("devices", "/devices"),
    Shot("cas", "/cas", size=(1360, 740)),
    Shot("template", "/provisioning/templates/new-pumps"),
    Shot("dry-run", dry_run, size=(1360, 1100)),
    Shot("playground", "/playground?q=certificate"),
    Shot("operation", "/playground/yandex/DeviceService.AddCertificate", size=(1360, 1100)),
    Shot("policy-editor", "/policies/edit?name=telemetry", size=(1360, 1000)),
    Shot("access", "/access", size=(1360, 640)),
    Shot("audit", "/access/audit"),
    Shot("connect", connect),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with fleet(tmp_path_factory.mktemp("scene")) as made:
        yield made


@pytest.fixture
def open_overview(scene: Scene, chromium: Browser) -> Iterator[Callable[[str, tuple[int, int]], Page]]:
    """A function that opens the overview in a new window. Fails the test if the browser reports anything."""
    contexts, messages = [], []

    def opened(scheme: str, size: tuple[int, int]) -> Page:
        viewport = {"width": size[0], "height": size[1]}
        contexts.append(
            chromium.new_context(base_url=scene.server.http_url, color_scheme=scheme, viewport=viewport)  # type: ignore[arg-type]
        )
        page = contexts[-1].new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto("/console/sign-in")
        page.fill("#token", scene.server.token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/console/")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert messages == []


def go(page: Page, scene: Scene, shot: Shot) -> None:
    if not isinstance(shot.open, str):
        shot.open(page, scene)
    else:
        answer = page.goto(f"/console{shot.open}")
        assert answer is not None
        assert answer.status == 200, shot.open
    page.get_by_role("heading", level=1).wait_for()
    page.evaluate("document.fonts.ready")
    page.evaluate("scrollTo(0, 0)")


@pytest.mark.parametrize("shot", SHOTS, ids=lambda shot: shot.name)
def test_the_page_of_a_picture(open_overview: Callable[..., Page], scene: Scene, shot: Shot) -> None:
    is_asked = "SCREENSHOTS" in os.environ
    for file, scheme in shot.files():
        page = open_overview(scheme, shot.size)
        go(page, scene, shot)
        if is_asked:
            IMAGES.mkdir(exist_ok=True)
            page.screenshot(path=IMAGES / file)
            reduce(IMAGES / file)
    if is_asked:
        looked_at = ROOT / "build" / "screenshots"
        for scheme in ("light", "dark"):
            for size in (WIDE, NARROW):
                page = open_overview(scheme, size)
                go(page, scene, shot)
                page.screenshot(path=looked_at / f"{shot.name}-{scheme}-{size[0]}.png", full_page=True)


def reduce(picture: Path) -> None:
    """Reduces the picture to 256 colours, if pngquant is installed: to less than half of its size."""
    program = shutil.which("pngquant")
    if program is not None:
        command = [program, "--force", "--speed=1", "--quality=80-98", "--strip", f"--output={picture}", str(picture)]
        subprocess.run(command, check=True)


def test_each_picture_is_shown_and_small() -> None:
    """Needs no browser: the pictures that documents name, that the tests make, and that are there are the same."""
    named = {
        (document.parent / target).resolve()
        for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for target in images_of(document.read_text())
    }
    made = {IMAGES / file for shot in SHOTS for file, _ in shot.files()}
    there = set(IMAGES.iterdir())
    assert named == made
    assert there == made
    assert {file.name: file.stat().st_size for file in there if file.stat().st_size > MAX_SIZE} == {}
    assert all(file.read_bytes().startswith(b"\x89PNG\r\n") for file in there)
