"""Draws mutants: at most one in a file, at least one in a package; large files are drawn more often."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mutation.candidates import KINDS, Mutant, candidates, modules_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def draw(checkout: Path, files: list[str], *, seed: int, count: int) -> list[Mutant]:
    """The same mutants for the same seed and sources. Raises ValueError if ``count`` does not fit the tree."""
    rng = random.Random(seed)
    sizes: dict[str, int] = {}
    found: dict[str, list[Mutant]] = {}
    packages: dict[str, list[str]] = defaultdict(list)
    for file in modules_of(files):
        source = (checkout / file).read_bytes()
        if mutants := candidates(file, source):
            sizes[file] = source.count(b"\n")
            found[file] = mutants
            packages[str(PurePosixPath(file).parent)].append(file)
    if not len(packages) <= count <= len(found):
        raise ValueError(f"draw between {len(packages)} (the packages) and {len(found)} (the modules) mutants")
    chosen = [_pick(rng, members, sizes) for _, members in sorted(packages.items())]
    while len(chosen) < count:
        chosen.append(_pick(rng, sorted(found.keys() - set(chosen)), sizes))
    return [_mutant(rng, found[file]) for file in sorted(chosen)]


def _pick(rng: random.Random, files: Sequence[str], sizes: dict[str, int]) -> str:
    return rng.choices(files, [sizes[file] for file in files])[0]


def _mutant(rng: random.Random, mutants: list[Mutant]) -> Mutant:
    """Draws the kind first, so that rare kinds are drawn as often as frequent ones."""
    kinds = {mutant.kind for mutant in mutants}
    kind = rng.choice([kind for kind in KINDS if kind in kinds])
    return rng.choice([mutant for mutant in mutants if mutant.kind == kind])
