"""A real Ray of two nodes on this machine; skipped, with the reason, where Ray is not installed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project, wait

from nmbench.engines import Phase, Ticket, engine

pytest.importorskip("ray", reason="no Ray: pip install 'nmbench[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
SLOW = "{ pause = 0.5, steps = 60 }"
_PATIENCE_S = 900.0


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    file, log = folder / "ray.json", folder / "ray.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, str(HERE / "ray_cluster.py"), str(file)], stdout=out, stderr=out)
    try:
        wait(lambda: file.exists() or process.poll() is not None, 300)
        if not file.exists():
            pytest.skip(f"no Ray starts here: {log.read_text()[-300:]}")
        yield json.loads(file.read_text())
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def run(ray, monkeypatch):
    """Starts `nmbench run` on that Ray."""
    for name, value in {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    fixed = ("--device", "cpu", "--on", "ray", "--engine", "settle=3", "--engine", "poll=2")

    def start(project: Project, *more: str, address: str = ray["address"]) -> "subprocess.Popen[str]":
        return project.start("run", *fixed, "--engine", f"address={address}", *more)

    return start


def finish(process: "subprocess.Popen[str]", expect: int = 0) -> str:
    out, _ = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == expect, out
    return out


def test_all_cells_run_and_asp_takes_its_twin_over(run, project):
    project.matrix(method='["sr-ste", "asp"]')
    finish(run(project))
    assert [record["status"] for record in project.records()] == ["ok"] * 3
    assert [bool(r.get("reused")) for r in project.records()].count(True) == 1
    assert {record["timings"]["alone"] for record in project.records()} == {False}
    assert {record["environment"]["threads"] for record in project.records()} == {1}


def test_a_driver_that_was_killed_takes_its_cells_over_again(run, project):
    project.matrix(train=SLOW)
    process = run(project)
    wait(project.checkpoints, _PATIENCE_S)
    process.kill()
    process.communicate()
    assert project.workers(), "they go on"
    assert "taken over" in finish(run(project))
    assert [(record["status"], record["attempt"]) for record in project.records()] == [("ok", 1)] * 2


def test_a_cell_whose_node_died_is_sent_out_again_and_the_orphan_ends(run, ray, project):
    project.matrix(train="{ pause = 2.0, steps = 60 }")
    process = run(project, "--only", "dense", "--engine", "resource=a")
    wait(project.checkpoints, _PATIENCE_S)
    os.kill(ray["pids"]["a"], signal.SIGKILL)
    process.kill()
    process.communicate()
    out = finish(run(project, "--only", "dense"))
    assert "1 done now" in out
    last = project.ok("dense")
    assert (last["attempt"] > 1, last["timings"]["resumed"]) == (True, True)
    wait(lambda: not project.workers(), 60)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "adress=x"], "did you mean 'address'"),
        (["--detach", "--workers", "1"], "no --detach with --workers"),
        (["--device", "cuda", "--engine", "cpus-per-task=64"], "no node of this Ray has 64 CPUs"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(run, project, arguments, words):
    assert words in finish(run(project, *arguments), expect=2)


def test_a_node_that_does_not_see_the_folder_says_so(ray, run, tmp_path):
    asked = engine("ray", {"address": ray["address"]})
    try:
        nowhere = tmp_path / "nowhere"
        handle = asked.submit(Ticket("nm-nowhere", ("true",), nowhere, nowhere / "log"))
        fate = wait(lambda: (fate := asked.fates([handle])[handle]).phase is Phase.GONE and fate, _PATIENCE_S)
        assert "its node cannot start it: [Errno 2]" in fate.message
    finally:
        asked.close()


def test_without_a_ray_it_says_how_to_start_one(run, project):
    out = finish(run(project, address="127.0.0.1:1"), expect=2)
    assert "no Ray answers at 127.0.0.1:1" in out
