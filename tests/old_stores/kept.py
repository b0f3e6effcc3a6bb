"""The folder of an old store: rows, other files of the data directory, material of the clients, recorded answers."""

from __future__ import annotations

import json
import lzma
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.old_stores.asking import Question
from tests.old_stores.material import Material
from tests.old_stores.stores import dump, restore

if TYPE_CHECKING:
    from collections.abc import Iterator

_OF_ONE_RUN = ("thingmint.db*", "lock", "listeners.json", "*.sock")

Pages = list[dict[str, Any]]


@dataclass(frozen=True)
class OldStore:
    folder: Path

    @staticmethod
    def of(version: str) -> OldStore:
        return OldStore(Path(__file__).parent / version)

    @property
    def version(self) -> str:
        return self.folder.name

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that the server needs."""
        found: dict[str, str] = self._files["settings"]
        return found

    @property
    def endpoints(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.settings["THINGMINT_ENDPOINTS"])
        return found

    def keep(self, data: Path, material: Material, settings: dict[str, str]) -> None:
        """Writes the folder. ``data`` is a data directory that no server uses."""
        self.folder.mkdir(exist_ok=True)
        self._rows.write_bytes(lzma.compress(dump(data / "thingmint.db").encode()))
        files = {
            str(file.relative_to(data)): file.read_text()
            for file in sorted(data.rglob("*"))
            if file.is_file() and not any(file.match(pattern) for pattern in _OF_ONE_RUN)
        }
        self._write(self._others, [{"settings": settings, "data": files, "material": material.packed}])

    def restore(self, data: Path) -> None:
        """Makes the data directory ``data`` from the folder."""
        data.mkdir(mode=0o700)
        for name, text in self._files["data"].items():
            (data / name).parent.mkdir(mode=0o700, exist_ok=True)
            (data / name).touch(mode=0o600)
            (data / name).write_text(text)
        restore(lzma.decompress(self._rows.read_bytes()).decode(), data / "thingmint.db")

    def material(self, folder: Path) -> Material:
        """The clients' material, unpacked into a new ``folder``."""
        return Material.unpack(self._files["material"], folder)

    @contextmanager
    def recording(self) -> Iterator[list[tuple[Question, Pages]]]:
        """A list. The questions and answers in it are saved at the end of the block."""
        answers: list[tuple[Question, Pages]] = []
        yield answers
        self._write(self._answers, [{**asdict(question), "pages": pages} for question, pages in answers])

    def answers(self) -> Iterator[tuple[Question, Pages]]:
        for told in self._read(self._answers):
            pages = told.pop("pages")
            yield Question(**told), pages

    @cached_property
    def _files(self) -> dict[str, Any]:
        [found] = self._read(self._others)
        return found

    @property
    def _rows(self) -> Path:
        return self.folder / "store.sql.xz"

    @property
    def _others(self) -> Path:
        return self.folder / "files.json.xz"

    @property
    def _answers(self) -> Path:
        return self.folder / "answers.jsonl.xz"

    @staticmethod
    def _write(file: Path, documents: list[dict[str, Any]]) -> None:
        lines = (json.dumps(document, sort_keys=True) for document in documents)
        file.write_bytes(lzma.compress("".join(f"{line}\n" for line in lines).encode()))

    @staticmethod
    def _read(file: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in lzma.decompress(file.read_bytes()).splitlines()]
