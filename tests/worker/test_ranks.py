"""One cell trained by two ranks, for real: gloo on the CPU, processes that fail and are killed."""

import signal

import pytest
from project import wait


@pytest.fixture
def ranked(project):
    def use(train: str) -> None:
        project.matrix(train=train)
        file = project.folder / "toys.toml"
        file.write_text(file.read_text().replace('["toy"]', '["ranked"]'))

    project.use = use
    return project


def test_two_ranks_train_what_one_rank_trains(ranked):
    ranked.use("{ gpus = [1, 2] }")
    ranked.run("run", "--only", "2:4")
    by_ranks = {record["facts"]["ranks"]: record for record in ranked.records()}
    assert set(by_ranks) == {1, 2}
    # the mean over the ranks' halves of a batch is its mean, so training is the same but for rounding
    assert by_ranks[2]["metrics"]["loss"] == pytest.approx(by_ranks[1]["metrics"]["loss"], rel=1e-4)
    assert by_ranks[1]["sad"]["total"] == by_ranks[2]["sad"]["total"] > 0


@pytest.mark.parametrize(
    ("fail", "status", "message"),
    [
        ("data", "data", "rank 1: this rank's shard is missing"),
        ("leave", "crash", "rank 1 ended with exit status 0"),
    ],
)
def test_a_rank_that_fails_ends_the_cell_with_its_error(ranked, fail, status, message):
    ranked.use(f'{{ gpus = 2, fail = "{fail}" }}')
    ranked.run("run", "--only", "dense", expect=1)
    (record,) = ranked.records()
    assert record["status"] == status
    assert message in record["error"]["message"]  # not gloo's words on rank 0, to which the other one is only gone
    assert ranked.workers() == []


def test_a_killed_run_leaves_no_rank_and_is_gone_on_with(ranked):
    ranked.use("{ gpus = 2 }")
    ranked.pause = 0.5
    running = ranked.start("run", "--only", "dense")
    wait(ranked.checkpoints)
    assert len(ranked.workers()) >= 2
    running.send_signal(signal.SIGKILL)
    running.wait()
    wait(lambda: not ranked.workers(), 10)
    ranked.pause = 0.0
    ranked.run("run", "--only", "dense")
    (record,) = ranked.records()
    assert record["status"] == "ok"
    assert record["timings"]["resumed"] is True
    assert record["timings"]["steps"] == 12
