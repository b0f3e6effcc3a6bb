"""Looks up known vulnerabilities of the locked packages, with pip-audit in an environment of its own (.venvs/audit).

Arguments name other requirements files than requirements/dev.txt, which has all of them. Exit status 0 means that every
package was looked up and none has a known vulnerability, 1 that some have one, 2 that some could not be looked up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKED = ROOT / "requirements" / "audit.txt"
VENV = ROOT / ".venvs" / "audit"


def main(arguments: list[str]) -> int:
    install()
    files = arguments or [str(ROOT / "requirements" / "dev.txt")]
    options = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json"]
    command = [str(VENV / "bin/pip-audit"), *options, *(f"--requirement={file}" for file in files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        print(f"no package was looked up, because pip-audit failed: {reason}", file=sys.stderr)
        return 2
    return report(packages)


def install() -> None:
    """Makes the environment, unless it exists and has the versions that are locked now."""
    stamp = VENV / ".installed"
    if stamp.exists() and stamp.read_text() == LOCKED.read_text():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    command = [
        str(VENV / "bin/python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        f"--requirement={LOCKED}",
    ]
    subprocess.run(command, check=True)
    stamp.write_text(LOCKED.read_text())


def report(packages: list[dict[str, Any]]) -> int:
    """Prints the findings, and returns the exit status."""
    skipped = [package for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        for known in package["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version"
            print(f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}")
    looked_up = len(packages) - len(skipped)
    print(f"{looked_up} of {len(packages)} packages were looked up; {len(vulnerable)} have a known vulnerability")
    if skipped:
        print("The package index has no list of vulnerabilities for these packages:")
        print("  " + ", ".join(package["name"] for package in skipped))
    return 1 if vulnerable else 2 if skipped or not packages else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
