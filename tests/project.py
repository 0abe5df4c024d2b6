"""A project folder of its own for each test, and the command line run as a person would, by forks of a zygote."""

import glob
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zygote

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


def wait(condition: Callable[[], Any], seconds: float = 100.0) -> Any:
    """What `condition` gives once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds."""

    def ended() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    return bool(wait(ended, 10))


def script(path: Path) -> Any:
    """The module of a file that no package holds."""
    name = f"script_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@dataclass
class Project:
    """A working folder with a matrix file `toys.toml`; without a zygote each command is an interpreter of its own.

    pause: seconds after each training step of `toy` and `ranked`, for commands that start from now on; no setting, so
    that the next run goes on with the same cell at full speed.
    """

    folder: Path
    zygote: str = ""
    pause: float = 0.0

    def matrix(self, train: str = "{}", seeds: str = "[0]", pattern: str = '"2:4"', method: str = '"sr-ste"') -> None:
        text = MATRIX.format(train=train, seeds=seeds, pattern=pattern, method=method)
        (self.folder / "toys.toml").write_text(text)

    def command(self, verb: str, *arguments: str) -> list[str]:
        plugins = [] if verb in ("report", "cancel") or "--plugins" in arguments else ["--plugins", str(PLUGINS)]
        name = [] if verb in ("list", "doctor") else ["toys.toml"]
        return [sys.executable, "-m", "nmbench", verb, *name, *plugins, *arguments]

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        start = partial(zygote.Remote, self.zygote) if self.zygote else subprocess.Popen
        return start(
            self.command(verb, *arguments),
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOY_PAUSE": str(self.pause)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, verb: str, *arguments: str, expect: int = 0) -> str:
        process = self.start(verb, *arguments)
        out, _ = process.communicate(timeout=240)
        assert process.returncode == expect, out
        return out

    def workers(self, word: str = "nmbench.worker") -> list[int]:
        """Ids of the processes with `word` and a place below the folder on their command line, and of such forks."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().decode().split("\0")
                    name, place = (entry / "comm").read_text().strip(), (entry / "cwd").readlink()
                except OSError:
                    continue
                below = any(str(self.folder) in part for part in line)
                if (word in line and below) or (name == word and place == self.folder):
                    found.append(int(entry.name))
        return found

    def checkpoints(self) -> list[Path]:
        return self.found("work/**/last.pt")

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.found("results/toys/*/*/attempt-*/record.json")]

    def found(self, pattern: str) -> list[Path]:
        """Files below the folder, in order; a folder that a process removes meanwhile has none (Path.glob raises)."""
        return [self.folder / name for name in sorted(glob.glob(pattern, root_dir=self.folder, recursive=True))]

    def ok(self, pattern: str) -> dict[str, Any]:
        (record,) = [r for r in self.records() if r["cell"]["pattern"] == pattern and r["status"] == "ok"]
        return record

    def weights(self, pattern: str) -> bytes:
        slug = "dense" if pattern == "dense" else pattern.replace(":", "x")
        (path,) = self.folder.glob(f"results/toys/toy/*{slug}*/attempt-*/weights.safetensors")
        return path.read_bytes()


@pytest.fixture(scope="session")
def _zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process, address = zygote.start(tmp_path_factory.mktemp("zygote"))
    with process:
        yield address
        process.kill()  # not by closing its input alone: what another test forked may hold that open


@pytest.fixture(scope="session")
def nmbench(_zygote: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """nmbench(*arguments, cwd=None, **variables): the command, with these variables of its environment changed."""

    def call(*arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **variables}
        return zygote.run(_zygote, *arguments, cwd=cwd, env=env)

    return call


@pytest.fixture
def two_ranks(_zygote: str, tmp_path: Path) -> Callable[[Callable[[int, Path], None]], str]:
    """two_ranks(function): two processes call function(rank, tmp_path), and both must end well; what they print."""

    def call(function: Callable[[int, Path], None]) -> str:
        command = [sys.executable, "-m", "two_ranks", function.__module__, function.__name__, str(tmp_path)]
        places = [Path(function.__code__.co_filename).parent, Path(__file__).parent]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, places))}
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        with zygote.Remote(_zygote, command, cwd=tmp_path, env=env, **streams) as process:
            out, _ = process.communicate(timeout=280)
        assert process.returncode == 0, out[-3000:]
        return out

    return call


@pytest.fixture
def another(tmp_path_factory: pytest.TempPathFactory, _zygote: str) -> Callable[[], Project]:
    def make() -> Project:
        made = Project(tmp_path_factory.mktemp("another"), _zygote)
        made.matrix()
        return made

    return make


@pytest.fixture
def project(tmp_path: Path, _zygote: str) -> Project:
    made = Project(tmp_path, _zygote)
    made.matrix()
    return made


@pytest.fixture(scope="session")
def _trained_once(tmp_path_factory: pytest.TempPathFactory, _zygote: str) -> Project:
    made = Project(tmp_path_factory.mktemp("trained"), _zygote)
    made.matrix()
    made.run("run", "--workers", "1")
    return made


@pytest.fixture
def trained(_trained_once: Project, project: Project) -> Project:
    """A project whose matrix was run: a copy of one that was trained before."""
    shutil.copytree(_trained_once.folder, project.folder, dirs_exist_ok=True)
    return project
