"""Sinks: every ended cell reaches them, and whatever they do, the run goes on. `pytest tests/sinks`"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import wait

from nmbench._util.errors import UsageError
from nmbench._util.files import remove_below
from nmbench.records.schema import Record
from nmbench.sinks import finished
from nmbench.sinks.base import names
from nmbench.sinks.outbox import Outbox

ODD = ("Notes", "Refuses", "FullDisk", "Leaves", "Dies", "Hangs", "Needs")
RECORD = {
    "schema_version": 1,
    "matrix": "quick & dirty",
    "cell": {
        **{"task": "toy", "model": "mlp", "scale": "smoke", "train": {"sizes": [1, 2]}, "pattern": "2:4"},
        **{"method": "sr-ste", "hyper": {"lambda_w": 0.02}, "seed": 3},
    },
    "cell_id": "0123456789abcdef",
    "attempt": 2,
    "status": "ok",
    "metrics": {"accuracy": 93.5, "loss": None},
    "audit": {"density": 0.5},
    "sad": {"weights": 100, "total": 12, "step": [2, 4, 8], "flips": [8, 4, 0]},
    "curve": {"phase": [0, 0, 1, 1], "step": [1, 2, 1, 2], "loss": [2.0, 1.0, None, 0.5], "lr": [0.1] * 4},
    "cost": {"parameters": 120, "training_passes": 2},
    "timings": {"train_s": 1.5, "alone": True},
    "environment": {"python": "3.11.7", "versions": {"torch": "2.15.0"}, "gpu": None},
    "command": "nmbench run quick --only 0123456789abcdef",
    "measurements": [{"name": "energy", "unit": "J", "value": 3.0, "source": "meter"}],
}


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """The odd sinks as another package would bring them."""
    site = tmp_path / "site"
    about = site / "odd_sinks-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-sinks\nVersion: 1.0\n")
    lines = [f"{name.lower()} = odd_sinks:{name}" for name in ODD] + ["gone = odd_sinks:Gone"]
    (about / "entry_points.txt").write_text("\n".join(["[nmbench.sinks]", *lines, ""]))
    shutil.copy(Path(__file__).parent / "odd_sinks.py", site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(str(site))
    return tmp_path / "sinks"


@pytest.fixture
def attempts(tmp_path):
    """The folders of three attempts."""
    return [put(tmp_path / "results" / "quick", RECORD | {"attempt": place}) for place in (1, 2, 3)]


def put(results, record, folder="toy/cell"):
    attempt = results / folder / f"attempt-{record['attempt']}"
    attempt.mkdir(parents=True)
    (attempt / "record.json").write_text(json.dumps(record))
    return attempt


def flat(record):
    return finished(Record.model_validate(record, strict=False), "quick & dirty", "toy/cell/attempt-2")


def test_a_record_becomes_flat():
    cell = flat(RECORD)
    assert cell.run_id == "quick---dirty-0123456789abcdef-2"
    assert cell.folder == "toy/cell/attempt-2"
    assert cell.params["train.sizes"] == "[1, 2]"
    assert cell.params["hyper.lambda_w"] == 0.02
    assert cell.metrics == {
        **{"accuracy": 93.5, "density": 0.5, "sad.total": 12.0, "sad.per_weight": 0.12},
        **{"cost.parameters": 120.0, "cost.training_passes": 2.0, "time.train_s": 1.5, "measurement.energy": 3.0},
    }
    assert cell.tags["torch"] == "2.15.0"
    assert "gpu" not in cell.tags


def test_series_go_on_through_a_second_pass_and_flips_are_per_step():
    series = flat(RECORD).series
    assert series["train/loss"] == [(1, 2.0), (2, 1.0), (4, 0.5)]
    assert series["sad/flips_per_step"] == [(2, 4.0), (4, 2.0), (8, 0.0)]


def test_sinks_are_found_by_name(odd, tmp_path):
    assert {"tensorboard", "mlflow", "wandb", "notes"} <= set(names())
    with pytest.raises(UsageError, match="'tensorbord': there is no such sink; did you mean 'tensorboard'"):
        Outbox(["tensorbord"], odd, tmp_path, pytest.fail)


def test_every_attempt_reaches_a_sink_in_order(odd, attempts):
    warnings = []
    results = attempts[0].parents[2]
    outbox = Outbox(["notes", "notes"], odd, results, warnings.append)
    for attempt in [attempts[0], results / "toy" / "attempt-without-record", *attempts[1:]]:
        outbox.send(attempt)
    assert outbox.close() == {"notes": 3}
    assert (warnings, outbox.failed) == ([], False)
    label = "ok toy/mlp 2:4 sr-ste sizes=[1, 2] lambda_w=0.02 seed 3 accuracy"
    lines = (odd / "notes" / "notes.txt").read_text().splitlines()
    assert [line for line in lines if line != "closed"] == [f"{label} attempt-{place}" for place in (1, 2, 3)]
    assert (odd / "notes" / "sink.log").read_text().startswith("opened for quick\n")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refuses", "PermissionError: nobody is logged in, go away"),
        ("fulldisk", "OSError: [Errno 28] No space left on device"),
        ("leaves", "SystemExit: enough"),
        ("dies", "its process ended with status -9"),
        ("needs", "it needs nowhere-to-be-found or nor-this-one: pip install 'nmbench[nowhere]'"),
        ("gone", "AttributeError: module 'odd_sinks' has no attribute 'Gone'"),
    ],
)
def test_a_sink_that_fails_warns_once_and_the_others_go_on(odd, attempts, name, reason):
    warnings = []
    outbox = Outbox([name, "notes"], odd, attempts[0].parents[2], warnings.append)
    outbox.send(attempts[0])
    wait(lambda: warnings)
    for attempt in attempts[1:]:
        outbox.send(attempt)
    assert outbox.close() == {"notes": 3}
    (warning,) = warnings
    assert warning.startswith(f"sink {name} gave up, everything else goes on: {reason}")
    assert outbox.failed


def test_a_sink_that_hangs_holds_nothing_up(odd, attempts):
    warnings = []
    begun = time.monotonic()
    outbox = Outbox(["hangs"], odd, attempts[0].parents[2], warnings.append, patience_s=2)
    for _ in range(3000):
        outbox.send(attempts[0])
    assert time.monotonic() - begun < 2
    assert outbox.close() == {}
    assert warnings == ["sink hangs gave up, everything else goes on: it took more than 2 s"]


HOSTILE = [
    {"attempt": "1/../../../../../../precious"},
    {"cell_id": "../../../../../../precious"},
    {"cell_id": "x' or '1' = '1"},
    {"matrix": "../../../precious"},
    {"cell": RECORD["cell"] | {"task": "../../../../precious", "model": "/precious"}},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_nothing_that_a_record_says_becomes_a_path(tmp_path, changes):
    """Sent twice, since the second time replaces what the first one wrote."""
    pytest.importorskip("tensorboard")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    results = tmp_path / "results" / "quick"
    attempt = put(results, RECORD | {"attempt": 1})
    (attempt / "record.json").write_text(json.dumps(RECORD | {"attempt": 1} | changes))
    warnings = []
    for _ in range(2):
        outbox = Outbox(["tensorboard"], tmp_path / "sinks", results, warnings.append)
        outbox.send(attempt)
        outbox.close()
    assert warnings == []
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("events.out.*")]
    expected = "sinks/tensorboard/quick/toy/cell/attempt-1/events.out.tfevents.0"
    assert written == ([] if {"attempt", "cell_id"} & set(changes) else [expected])


def test_only_what_lies_below_a_folder_is_removed(tmp_path):
    inside, outside = tmp_path / "root" / "a", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to(outside)
    for wrong in (outside, tmp_path / "root", tmp_path / "root" / "link", inside / ".." / ".." / "outside"):
        with pytest.raises(ValueError, match="does not lie below"):
            remove_below(tmp_path / "root", wrong)
    assert outside.exists()
    remove_below(tmp_path / "root", inside)
    assert not inside.exists()


def test_the_parents_side_imports_no_torch_and_no_sink():
    code = "import sys, nmbench.sinks.outbox; print([m for m in ('torch', 'numpy', 'tensorboard') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_feeds_its_sinks_and_is_not_moved_by_one_that_fails(project, odd):
    out = project.run("run", "--sink", "notes", "--sink", "refuses", "--sinks", str(odd))
    assert "2 done now, 0 before, 0 failed" in out
    assert out.count("sink refuses gave up") == 1
    lines = (odd / "notes" / "notes.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines if line != "closed"] == ["ok", "ok"]
    assert all("sink" not in record["command"] for record in project.records())


def test_ctrl_c_still_sends_the_cells_that_it_ended(project, odd):
    project.matrix(train="{ pause = 0.3, steps = 400 }")
    process = project.start("run", "--workers", "1", "--sink", "notes")
    wait(lambda: list(project.folder.glob("work/toys/*/*/heartbeat.json")))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    lines = (project.folder / "sinks" / "notes" / "notes.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["interrupted", "closed"]


def test_export_sends_what_is_there_and_tells_of_failure(trained, odd, nmbench):
    def run(*arguments):
        done = nmbench("export", "toys", *arguments, cwd=trained.folder)
        return done.returncode, done.stdout + done.stderr

    assert run("--sink", "notes") == (0, "toys: 2 of 2 records to notes\n")
    status, text = run("--sink", "dies", "--sink", "notes")
    assert (status, "sink dies gave up" in text, "2 of 2 records to notes" in text) == (1, True, True)
    assert run()[0] == 2
    assert "there is no such sink" in run("--sink", "nothing")[1]
    shutil.rmtree(trained.folder / "results")
    assert run("--sink", "notes")[0] == 2
