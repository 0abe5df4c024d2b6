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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"
HEAD = (
    "# What was tested, on Python {}.{}. Made by `make constraints`; the package's own ranges (setup.cfg) are wider.\n"
)
#: extras that `make` does not install, and the line above what only they pull in
SINKS = ("mlflow", "wandb")
SINKS_HEAD = "# What only the extras mlflow and wandb pull in.\n"
#: installed by lines of their own, since current pip refuses fairseq's pins; and what builds it
ALONE = ("fairseq==0.12.2", "wheel")


def extras() -> list[str]:
    """Names of all extras."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return sorted(config["options.extras_require"])


def resolved(upgrade: bool, *wanted: str) -> dict[str, str]:
    """Distribution -> version. Raises CalledProcessError where pip finds no set of versions."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-q", "--report", str(report)]
        kept = [] if upgrade else ["-c", str(FILE)]
        subprocess.run([*pip, *kept, *wanted], cwd=ROOT, check=True)
        items = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {item["name"]: item["version"].partition("+")[0] for item in items if item["name"] != "nmbench"}


def main(arguments: list[str]) -> None:
    """Write the file."""
    upgrade = "--upgrade" in arguments
    whole = resolved(upgrade, f".[{','.join(extras())}]")
    usual = resolved(upgrade, f".[{','.join(name for name in extras() if name not in SINKS)}]")
    usual = {name: whole[name] for name in usual} | resolved(upgrade, "--no-deps", *ALONE)
    sinks = {name: version for name, version in whole.items() if name not in usual}
    text = HEAD.format(*sys.version_info) + _lines(usual) + SINKS_HEAD + _lines(sinks)
    FILE.write_text(text, encoding="utf-8")


def _lines(versions: dict[str, str]) -> str:
    ordered = sorted(versions.items(), key=lambda item: item[0].lower())
    return "".join(f"{name}=={version}\n" for name, version in ordered)


if __name__ == "__main__":
    main(sys.argv[1:])
