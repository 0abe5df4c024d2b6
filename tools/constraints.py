"""Writes constraints.txt: what pip resolves for every extra in setup.cfg, and nothing else. `make constraints` runs it.

python tools/constraints.py             keeps the versions that the file has
python tools/constraints.py --upgrade   takes the newest that the extras allow

Nothing is installed, but the metadata of all packages are fetched. On failure the file stays as it is.
"""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"
HEAD = (
    "# What was tested, on Python {}.{}. Made by `make constraints`; the package's own ranges (setup.cfg) are wider.\n"
)
#: extras that `make` does not install, and the line above what only they pull in
APART = ("engines", "libraries", "mlflow", "ray", "wandb")
APART_HEAD = "# What only the extras engines, libraries, mlflow, ray and wandb pull in.\n"
#: installed by lines of their own, since current pip refuses fairseq's pins; and what builds it
ALONE = ("fairseq==0.12.2", "wheel")


def extras() -> list[str]:
    """Names of all extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return sorted(config["options.extras_require"])


def resolved(upgrade: bool, *wanted: str) -> list[dict[str, Any]]:
    """Metadata of every distribution that pip would install. Raises CalledProcessError where it finds none that fit."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-q", "--report", str(report)]
        kept = [] if upgrade else ["-c", str(FILE)]
        subprocess.run([*pip, *kept, *wanted], cwd=ROOT, check=True)
        return [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]


def closure(extras: Iterable[str], requires: Callable[[str], Iterable[str] | None]) -> set[str]:
    """Names of all that nmbench pulls in with `extras`. requires: name -> its requirements, None where unknown."""
    waiting, seen = [Requirement(f"nmbench[{','.join(extras)}]")], set[tuple[str, frozenset[str]]]()
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key not in seen:
            seen.add(key)
            chosen = wanted.extras | {""}
            found = map(Requirement, requires(key[0]) or [])
            waiting += [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in chosen)]
    return {name for name, _ in seen if name != "nmbench"}


def main(arguments: list[str]) -> None:
    """Write the file."""
    upgrade = "--upgrade" in arguments
    every = resolved(upgrade, f".[{','.join(extras())}]")
    needs = {canonicalize_name(item["name"]): item.get("requires_dist") for item in every}
    usual = closure(set(extras()) - set(APART), lambda name: needs.get(canonicalize_name(name)))
    alone = resolved(upgrade, "--no-deps", *ALONE)
    by_name = {canonicalize_name(item["name"]): item for item in [*every, *alone]}
    first = [*(item for name, item in by_name.items() if name in usual), *alone]
    rest = [item for name, item in by_name.items() if item not in first and name != "nmbench"]
    FILE.write_text(HEAD.format(*sys.version_info) + _lines(first) + APART_HEAD + _lines(rest), encoding="utf-8")


def _lines(items: list[dict[str, Any]]) -> str:
    versions = {item["name"]: item["version"].partition("+")[0] for item in items}
    ordered = sorted(versions.items(), key=lambda item: item[0].lower())
    return "".join(f"{name}=={version}\n" for name, version in ordered)


if __name__ == "__main__":
    main(sys.argv[1:])
