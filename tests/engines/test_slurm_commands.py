"""The engine for Slurm with stand-ins for its commands: what is asked, and what is made of each answer."""

import json
import os
import sys
from pathlib import Path

import pytest

from nmbench._util.errors import UsageError
from nmbench.engines.engine import Busy, Fate, Needs, Phase, Ticket, Unreachable
from nmbench.engines.slurm import Slurm, minutes_of
from nmbench.records.schema import Status

TOOL = (
    f"#!{sys.executable} -SE"
    + """
import json, pathlib, sys
place, name = pathlib.Path(__file__).parent, pathlib.Path(__file__).name
if "--help" in sys.argv:
    print("  -p, --partition=partition  ...\\n  --time=minutes\\n --gres=list --constraint=list --exclusive")
    print("  --no-requeue --cpus-per-task=n --dependency=list")
    sys.exit()
with (place / "asked").open("a") as file:
    file.write(json.dumps([name, sys.argv[1:], sys.stdin.read() if name == "sbatch" else ""]) + "\\n")
code, out, err = json.loads((place / f"{name}.answer").read_text())
print(out)
print(err, file=sys.stderr)
sys.exit(code)
"""
)
TICKET = Ticket("nm-x", ("python", "-m", "nm bench"), Path("/here"), Path("/here/50%.log"), Needs(3, 2, 90))


class Tools:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sbatch", "squeue", "scancel"):
            (folder / name).write_text(TOOL)
            (folder / name).chmod(0o755)
            self.answer(name)

    def answer(self, name: str, out: str = "", code: int = 0, err: str = "") -> None:
        (self.folder / f"{name}.answer").write_text(json.dumps([code, out, err]))

    def asked(self) -> list[tuple[str, list[str], str]]:
        return [tuple(json.loads(line)) for line in (self.folder / "asked").read_text().splitlines()]


@pytest.fixture
def tools(tmp_path, monkeypatch):
    from nmbench.engines import slurm

    slurm._sbatch_options.cache_clear()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield Tools(tmp_path)
    slurm._sbatch_options.cache_clear()


def test_a_ticket_becomes_a_job_that_is_the_command_itself(tools):
    tools.answer("sbatch", "12;cluster")
    assert Slurm({"partition": "gpu", "time": "4:00:00"}).submit(TICKET) == "12"
    ((_, arguments, script),) = tools.asked()
    assert set(arguments) >= {
        "--job-name=nm-x", "--dependency=singleton", "--requeue", "--open-mode=append", "--signal=B:TERM@120",
        "--cpus-per-task=3", "--gres=gpu:2", "--partition=gpu", "--time=4:00:00", "--output=/here/50%%.log",
    }  # fmt: skip
    assert script.splitlines()[-1] == "exec python -m 'nm bench'"


def test_what_the_user_says_wins_and_dependencies_join(tools):
    tools.answer("sbatch", "12")
    ticket = Ticket("nm-x", ("x",), Path("/h"), Path("/h/l"), Needs(gpus=2, minutes=90, exclusive=True), ("7", "8"))
    Slurm({"gres": "gpu:a100:2", "no-requeue": "", "dependency": "afterok:5"}).submit(ticket)
    ((_, arguments, _),) = tools.asked()
    assert "--requeue" not in arguments
    assert [one for one in arguments if "gpu" in one] == ["--gres=gpu:a100:2"]
    assert set(arguments) >= {"--exclusive", "--no-requeue", "--time=95"}
    assert "--dependency=singleton,afterany:7,afterany:8,afterok:5" in arguments


@pytest.mark.parametrize(
    ("err", "error"),
    [
        ("sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates ...", Busy),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", Busy),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", Unreachable),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", Unreachable),
        ("sbatch: error: invalid partition specified: x", UsageError),
        ("", UsageError),
    ],
)
def test_each_refusal_is_told_apart(tools, err, error):
    tools.answer("sbatch", code=1, err=err)
    with pytest.raises(error):
        Slurm({}).submit(TICKET)


@pytest.mark.parametrize(
    ("state", "phase", "status", "again", "cancelled"),
    [
        ("PENDING", Phase.WAITING, Status.CRASH, False, False),
        ("REQUEUE_HOLD", Phase.WAITING, Status.CRASH, False, False),
        ("RUNNING", Phase.RUNNING, Status.CRASH, False, False),
        ("COMPLETING", Phase.RUNNING, Status.CRASH, False, False),
        ("COMPLETED", Phase.GONE, Status.CRASH, False, False),
        ("FAILED", Phase.GONE, Status.CRASH, False, False),
        ("OUT_OF_MEMORY", Phase.GONE, Status.OOM, False, False),
        ("CANCELLED", Phase.GONE, Status.INTERRUPTED, False, True),
        ("TIMEOUT", Phase.GONE, Status.INTERRUPTED, True, False),
        ("PREEMPTED", Phase.GONE, Status.INTERRUPTED, True, False),
        ("NODE_FAIL", Phase.GONE, Status.CRASH, True, False),
        ("A_STATE_OF_LATER", Phase.GONE, Status.CRASH, False, False),
    ],
)
def test_each_state_of_a_job_is_a_fate(tools, state, phase, status, again, cancelled):
    tools.answer("squeue", f"7|{state}|None\n9|RUNNING|None")
    fate = Slurm({}).fates(["7"])["7"]
    assert (fate.phase, fate.status, fate.again, fate.cancelled) == (phase, status, again, cancelled)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Resources", ""),
        ("BeginTime", ""),
        ("AssocGrpNodeLimit", ""),
        ("PartitionTimeLimit", "PartitionTimeLimit"),
        ("QOSMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit"),
        ("launch failed requeued held", "launch failed requeued held"),
        ("JobHeldUser", "JobHeldUser"),
    ],
)
def test_a_job_that_waits_for_a_person_says_why(tools, reason, words):
    tools.answer("squeue", f"7|PENDING|{reason}")
    assert Slurm({}).fates(["7"])["7"] == Fate(Phase.WAITING, message=words)


def test_a_job_that_nobody_knows_any_more_is_gone(tools):
    tools.answer("squeue", code=1, err="slurm_load_jobs error: Invalid job id specified")
    assert Slurm({}).fates(["7"])["7"].phase is Phase.GONE


def test_a_question_that_fails_is_asked_again_later(tools):
    tools.answer("squeue", code=1, err="slurm_load_jobs error: something unheard of")
    with pytest.raises(Unreachable, match="unheard of"):
        Slurm({}).fates(["7"])
    with pytest.raises(Unreachable):
        Slurm({}).known("nm-")


def test_many_jobs_are_asked_for_in_one_go(tools):
    tools.answer("squeue", "7|RUNNING|None")
    fates = Slurm({}).fates([str(job) for job in range(2000)])
    assert fates["7"].phase is Phase.RUNNING
    ((_, arguments, _),) = tools.asked()
    assert not any(argument.startswith("--jobs") for argument in arguments)


def test_jobs_are_found_again_by_their_names(tools):
    tools.answer("squeue", "nm-x-1|7\nother|8\nnm-x-2|9")
    assert Slurm({}).known("nm-x-") == {"nm-x-1": "7", "nm-x-2": "9"}


@pytest.mark.parametrize(
    ("option", "words"),
    [("partiton", "did you mean 'partition'"), ("job-name", "to find its jobs"), ("output", "and their logs")],
)
def test_an_option_that_is_none_is_told(tools, option, words):
    with pytest.raises(UsageError, match=words):
        Slurm({option: "x"})


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no sbatch on PATH"):
        Slurm({})


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("90", 90),
        ("1:30", 1.5),
        ("02:00:00", 120),
        ("1-0", 1440),
        ("1-2:30", 1590),
        ("2-0:0:30", 2880.5),
        ("UNLIMITED", 0),
    ],
)
def test_time_limits_are_read_as_slurm_writes_them(limit, minutes):
    assert minutes_of(limit) == minutes


@pytest.mark.parametrize("limit", ["soon", "1:2:3:4", "-5", "1-", "1h"])
def test_a_time_limit_that_is_none_is_told(limit):
    with pytest.raises(UsageError, match="time"):
        minutes_of(limit)


def test_a_limit_below_the_timeout_of_the_matrix_is_refused_before_anything_is_submitted(tools):
    with pytest.raises(UsageError, match="the matrix' timeout"):
        Slurm({"time": "60"}).check(Needs(minutes=61))
    Slurm({"time": "60"}).check(Needs(minutes=60))
