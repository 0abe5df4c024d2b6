"""A project folder of its own for each test, and the command line run as a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGINS = Path(__file__).parent / "plugins"

MATRIX = """
name = "toys"
scale = "smoke"
tasks = ["toy"]
seeds = {seeds}
train = {train}
[[grid]]
pattern = {pattern}
method = {method}
"""


@dataclass
class Project:
    """A working folder with a matrix file `toys.toml`."""

    folder: Path

    def matrix(self, train: str = "{}", seeds: str = "[0]", pattern: str = '"2:4"', method: str = '"sr-ste"') -> None:
        text = MATRIX.format(train=train, seeds=seeds, pattern=pattern, method=method)
        (self.folder / "toys.toml").write_text(text)

    def command(self, verb: str, *arguments: str) -> list[str]:
        plugins = [] if verb == "report" or "--plugins" in arguments else ["--plugins", str(PLUGINS)]
        name = [] if verb in ("list", "doctor") else ["toys.toml"]
        return [sys.executable, "-m", "nmbench", verb, *name, *plugins, *arguments]

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            self.command(verb, *arguments),
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, verb: str, *arguments: str, expect: int = 0) -> str:
        process = self.start(verb, *arguments)
        out, _ = process.communicate(timeout=240)
        assert process.returncode == expect, out
        return out

    def records(self) -> list[dict[str, Any]]:
        paths = sorted(self.folder.glob("results/toys/toy/*/attempt-*/record.json"))
        return [json.loads(path.read_text()) for path in paths]

    def ok(self, pattern: str) -> dict[str, Any]:
        (record,) = [r for r in self.records() if r["cell"]["pattern"] == pattern and r["status"] == "ok"]
        return record

    def weights(self, pattern: str) -> bytes:
        slug = "dense" if pattern == "dense" else pattern.replace(":", "x")
        (path,) = self.folder.glob(f"results/toys/toy/*{slug}*/attempt-*/weights.safetensors")
        return path.read_bytes()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.matrix()
    return made


@pytest.fixture
def another(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    def make() -> Project:
        made = Project(tmp_path_factory.mktemp("another"))
        made.matrix()
        return made

    return make
