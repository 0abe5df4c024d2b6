"""A real Slurm on this machine; skipped, with the reason, where none can be started."""

import pytest
import scenarios
from project import Project
from slurm_cluster import SlurmCluster, missing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if why := missing():
        pytest.skip(why)
    found = SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.mark.parametrize("story", scenarios.QUICK, ids=lambda story: story.__name__)
def test_cells_on_slurm(cluster, tmp_path, story):
    try:
        story(cluster, tmp_path)
    finally:
        cluster.clear()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "partition=nowhere"], "invalid partition"),
        (["--engine", "gres=gpu:9"], "not available"),
        (["--engine", "partitoin=main"], "did you mean 'partition'"),
        (["--engine", "time=1", "--timeout", "3600"], "the matrix' timeout"),
        (["--engine", "time=soon", "--timeout", "60"], "write minutes"),
        (["--engine", "settle=soon"], "give a number"),
        (["--speed"], "--speed is for the machine that measures"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_before_anything_is_submitted(cluster, tmp_path, arguments, words):
    project = Project(tmp_path)
    project.matrix()
    out = project.run("run", "--device", "cpu", "--on", "slurm", *arguments, expect=2)
    assert words in out
    assert len(out.strip().splitlines()) <= 2
    assert cluster.jobs() == {}
    assert not list(tmp_path.glob("work/toys/tickets/*.json"))
