"""What a worker finds in its environment: its own share of the machine, and nothing of a launcher's."""

import subprocess

import pytest

from nmbench.plan.cell import Cell
from nmbench.records.schema import Record, Status
from nmbench.running.job import TrainingJob
from nmbench.running.local import Local

CELL = Cell("toy", "mlp", "smoke")
RECORD = Record(schema_version=1, cell=CELL, cell_id=CELL.id, attempt=1, status=Status.CRASH)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """(job, environment) of the worker that would be started."""
    found = []

    class Popen:
        def __init__(self, command, **options):
            if "env" in options:
                job = TrainingJob.model_validate_json((tmp_path / "job.json").read_bytes())
                found.append((job, options["env"]))
                raise FileNotFoundError("this is all that was wanted")
            self.stdin = None

    def start(**options):
        executor = Local(workers=1, device="cpu", **options)
        monkeypatch.setattr("nmbench.running.guard.subprocess.Popen", Popen)
        executor.open(1)
        monkeypatch.setattr(subprocess, "Popen", Popen)
        job = TrainingJob(
            cell=CELL, reference="toy", data_dir=tmp_path, record=RECORD, attempt_dir=tmp_path, work_dir=tmp_path
        )
        with pytest.raises(FileNotFoundError):
            executor.start(job)
        return found[-1]

    return start


def test_engines_are_told_nothing_of_the_tasks_of_a_slurm_job(started, monkeypatch):
    place = ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NODELIST", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
    for name in (*place, "SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_CONF"):
        monkeypatch.setenv(name, "1")
    _, environment = started()
    assert not set(place) & set(environment)
    assert {"SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_CONF"} <= set(environment), "a rank elsewhere needs them"
    lightning = pytest.importorskip("lightning_fabric.plugins.environments")
    assert lightning.SLURMEnvironment.detect()
    for name in place:
        monkeypatch.delenv(name)
    assert not lightning.SLURMEnvironment.detect()


def test_a_cell_was_alone_only_where_that_is_known(started):
    assert started()[0].alone
    assert not started(exclusive=False)[0].alone


def test_a_cell_has_the_cores_that_were_given(started, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert started()[1]["OMP_NUM_THREADS"] == "3"
    assert started(cpus=2)[1]["OMP_NUM_THREADS"] == "2"
    assert started(cpus=64)[1]["OMP_NUM_THREADS"] == "3"
