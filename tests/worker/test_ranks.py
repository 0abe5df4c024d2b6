"""One cell trained by two ranks, for real: gloo on the CPU, processes that fail and are killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest


@pytest.fixture
def ranked(project):
    def use(train: str) -> None:
        project.matrix(train=train)
        file = project.folder / "toys.toml"
        file.write_text(file.read_text().replace('["toy"]', '["ranked"]'))

    project.use = use
    return project


def records(project):
    import json

    paths = sorted(project.folder.glob("results/toys/ranked/*/attempt-*/record.json"))
    return [json.loads(path.read_text()) for path in paths]


def processes_of(folder: Path) -> list[int]:
    """Processes whose command line names this test's folder (the job file of a worker does)."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder) in (entry / "cmdline").read_bytes().decode():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def test_two_ranks_train_what_one_rank_trains(ranked):
    ranked.use("{ gpus = [1, 2] }")
    ranked.run("run", "--only", "2:4")
    by_ranks = {record["facts"]["ranks"]: record for record in records(ranked)}
    assert set(by_ranks) == {1, 2}
    # the mean over the ranks' halves of a batch is its mean, so training is the same but for rounding
    assert by_ranks[2]["metrics"]["loss"] == pytest.approx(by_ranks[1]["metrics"]["loss"], rel=1e-4)
    assert by_ranks[1]["sad"]["total"] == by_ranks[2]["sad"]["total"] > 0


@pytest.mark.parametrize(
    ("fail", "status", "message"),
    [
        ("data", "data", "rank 1: this rank's shard is missing"),
        ("exit", "crash", "rank 1 ended with exit status 9"),
        ("leave", "crash", "rank 1 ended with exit status 0"),
    ],
)
def test_a_rank_that_fails_ends_the_cell_with_its_error(ranked, fail, status, message):
    ranked.use(f'{{ gpus = 2, fail = "{fail}" }}')
    ranked.run("run", "--only", "dense", expect=1)
    (record,) = records(ranked)
    assert record["status"] == status
    assert message in record["error"]["message"]  # not gloo's words on rank 0, to which the other one is only gone
    assert processes_of(ranked.folder) == []


def test_a_killed_run_leaves_no_rank_and_is_gone_on_with(ranked):
    ranked.use("{ gpus = 2, pause = 0.5 }")
    running = ranked.start("run", "--only", "dense")
    end = time.monotonic() + 100
    while not list(ranked.folder.glob("work/**/last.pt")) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(processes_of(ranked.folder)) >= 2
    running.send_signal(signal.SIGKILL)
    running.wait()
    end = time.monotonic() + 10
    while processes_of(ranked.folder) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(ranked.folder) == []
    ranked.run("run", "--only", "dense")
    (record,) = records(ranked)
    assert record["status"] == "ok"
    assert record["timings"]["resumed"] is True
    assert record["timings"]["steps"] == 12
