"""Compiles requirements/*.txt from pyproject.toml: for all supported Pythons, with hashes, without the index's URL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"


def compile_requirements(name: str, *arguments: str) -> None:
    subprocess.run(
        [
            Path(sys.executable).with_name("uv"),
            "pip",
            "compile",
            "--quiet",
            "--system-certs",
            "--universal",
            "--python-version=3.11",
            "--no-python-downloads",
            "--generate-hashes",
            "--no-emit-index-url",
            "--no-emit-find-links",
            "--custom-compile-command=make lock",
            f"--output-file={REQUIREMENTS / name}",
            *arguments,
            *sys.argv[1:],  # such as --upgrade
        ],
        cwd=ROOT,
        check=True,
    )


if __name__ == "__main__":
    # The other files must pin the same versions as dev.txt, with which the tests run.
    compile_requirements("dev.txt", "--group=dev", "pyproject.toml")
    compile_requirements("runtime.txt", "--constraint=requirements/dev.txt", "pyproject.toml")
    for group in ("clients", "build", "audit"):
        compile_requirements(f"{group}.txt", "--constraint=requirements/dev.txt", f"--group={group}")
