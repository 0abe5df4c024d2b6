"""Records on disk become a frame; what cannot be read is named. `pytest tests/records/test_frame.py`"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from nmbench.records import reading
from nmbench.records.attempt import read_record
from nmbench.records.columns import COLUMNS
from nmbench.records.frame import frame, load, newest
from nmbench.records.schema import SCHEMA_VERSION

CELL = '{"task": "t", "model": "m", "scale": "s", "pattern": "dense", "method": "dense", "seed": 0}'


def test_one_row_an_attempt_with_typed_columns(results):
    results.twin(value=81.5)
    results.add("2:4", "sr-ste", seed=1, value=80.25, cell={"hyper": {"b": 2, "a": 1}, "train": {"epochs": 3}})
    rows = frame(results.folder)
    assert list(rows["path"]) == sorted(rows["path"])
    row = rows[rows["pattern"] == "2:4"].iloc[0]
    assert (row["hyper"], row["train"], row["init"]) == ('{"a":1,"b":2}', '{"epochs":3}', "")
    assert (row["seed"], row["primary_metric"], row["primary_value"]) == (1, "top1", 80.25)
    assert row["metric.top1"] == 80.25
    assert row["sad_per_weight"] == pytest.approx(row["sad_total"] / (128 * 64 * 9 + 96 * 96))
    assert row["density"] == 0.5
    assert row["training_passes"] == 1
    assert (row["torch"], row["python"], row["cpu"]) == ("2.11.0", "3.11.9", "Example CPU 3000")
    assert rows["sad_total"].dtype == "Int64"
    assert rows["alone"].dtype == "boolean"
    assert rows["data_fingerprint"].iloc[0] == "d" * 64


def test_one_setting_is_one_text_however_it_was_typed(results):
    old = {"path": "/home/someone/w", "sha256": "ab" * 32}
    results.add(cell={"train": {"epochs": 3.0}, "init": old})
    results.add(seed=1, cell={"train": {"epochs": 3}, "init": {"file": "v", "sha256": "ab" * 32}})
    rows = frame(results.folder)
    assert rows[["train", "init"]].drop_duplicates().values.tolist() == [['{"epochs":3}', "ab" * 8]]


def test_a_failed_record_leaves_its_numbers_absent(results):
    results.fail("oom", "out of memory")
    row = frame(results.folder).iloc[0]
    assert (row["status"], row["error_kind"], row["error_message"]) == ("oom", "oom", "out of memory")
    assert pd.isna(row["primary_value"])
    assert pd.isna(row["macs_dense"])


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1])
def test_large_integers_keep_every_digit(results, number):
    results.add(cost={"macs_dense": number})
    assert frame(results.folder)["macs_dense"].iloc[0] == number


def test_links_to_folders_are_not_walked_except_to_attempts(results):
    file = results.add()
    (results.folder / "again").symlink_to(results.folder)
    (file.parent.parent / "attempt-2").symlink_to(file.parent)
    (results.folder / "attempt-3").write_text("no folder")
    place = file.parent.parent.relative_to(results.folder).as_posix()
    assert list(frame(results.folder)["path"]) == [f"{place}/attempt-1", f"{place}/attempt-2"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the file is empty"),
        ('{"schema_version": 1, "cell', "broken JSON at line 1"),
        ("[1, 2]", "no schema_version"),
        ('{"schema_version": 99}', "newer than this nmbench reads"),
        ('{"schema_version": 1, "cell": ' + CELL + ', "cell_id": "0123456789abcdef"}', "status: Field required"),
        ('{"schema_version": 1, "cell": [], "cell_id": "x", "status": "ok"}', "cell: it is not an object"),
        ('{"schema_version": 1, "cell": {"task": "t"}, "cell_id": "x", "status": "ok"}', "the cell has no model"),
        ("[" * 100_000, "nested too deeply"),
        ("\0" * 4096, "the file is empty"),
        ('{"schema_version": ' + "9" * 5000 + "}", "a number in it is too long"),
    ],
)
def test_an_unreadable_record_is_named_with_its_reason(results, text, reason):
    good = results.twin()
    results.put(text, {"task": "t", "model": "m", "pattern": "2:4", "method": "ste", "seed": 0}, "broken")
    loaded = load(results.folder)
    assert len(loaded.frame) == len(loaded.records) == 1
    assert good.exists()
    (broken,) = loaded.unreadable
    assert broken.path == "t/m-2-4-ste-s0-broken/attempt-1/record.json"
    assert reason in broken.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cell_id": ""}, "cell_id"),
        ({"cell_id": "../../../precious"}, "cell_id"),
        ({"attempt": "1/../../precious"}, "attempt"),
        ({"attempt": 0}, "attempt"),
        ({"status": "fine"}, "status"),
        ({"cell": {"seed": True}}, "the cell has no seed"),
        ({"cell": {"seed": 2**64}}, "64-bit"),
        ({"cell": {"task": ["t"]}}, "the cell has no task"),
        ({"cell": {"train": ["x"]}}, "train is not an object"),
        ({"cell": {"hyper": {"x": "\udcff"}}}, "cell: "),
        ({"cell": {"hyper": {"x": float("nan")}}}, "cell: "),
    ],
)
def test_a_record_without_a_valid_identity_is_unreadable(results, factory, changes, reason):
    results.put(json.dumps(factory[1](**changes)), factory[1]()["cell"], "broken")
    loaded = load(results.folder)
    assert loaded.frame.empty
    (broken,) = loaded.unreadable
    assert reason in broken.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cost": {"macs_dense": "many"}}, "cost.macs_dense"),
        ({"sad": {"step": [1, -1], "flips": [1, 1]}}, "negative"),
        ({"sad": {"step": [1, 2], "flips": [2**63, 1]}}, "64-bit"),
        ({"sad": {"step": [1, 2], "flips": [2**64, 1]}}, "64-bit"),
        ({"timings": {"alone": "yes"}}, "timings.alone"),
        ({"metrics": [1]}, "metrics"),
        ({"metrics": {"top1": float("nan")}}, "metrics.top1"),
        ({"metric_info": ["top1"]}, "metric_info.0"),
        ({"sad": {"step": [1, 2], "flips": [1]}}, "differ in length"),
        ({"curve": {"step": ["a"], "loss": [1.0]}}, "curve.step.0"),
        ({"audit": {"layers": [{"name": "a", "shape": ["x"]}]}}, "audit.layers.0.shape"),
        ({"sad": {"per_layer": {"a": "many"}}}, "sad.per_layer.a"),
        ({"sad": {"layers": {"step": [1, 2], "flips": {"a": [1]}}}}, "sad.layers differ in length"),
        ({"sad": {"weights": -1, "total": 3}}, "sad.weights"),
        ({"sad": {"step": [1, 2], "flips": [3, -1]}}, "sad.flips"),
        ({"sad": {"layers": {"step": [1], "flips": {"a": [2**63]}}}}, "sad.layers.flips.a"),
        ({"cost": {"macs_dense": 2**63}}, "cost.macs_dense"),
        ({"metric_info": [{"name": "top1", "margin": float("nan")}]}, "metric_info.0.margin"),
        ({"data": {"counts": {"train": "all"}}}, "data.counts.train"),
        ({"baselines": {"zero": 1.0}}, "baselines.zero"),
        ({"plugin": 1}, "plugin"),
        ({"notes": "one"}, "notes"),
        ({"error": {"message": "\udcff"}}, "half a character"),
        ({"speed": {"rows": [{"batch": 0}]}}, "speed.rows.0.batch"),
        ({"measurements": [{"name": "energy"}]}, "measurements.0.value"),
    ],
)
def test_a_section_of_the_wrong_kind_is_left_out_and_named(results, changes, reason):
    """The rest of the record counts."""
    results.add(**changes)
    loaded = load(results.folder)
    assert (len(loaded.frame), loaded.unreadable) == (1, [])
    (problem,) = loaded.problems
    (section,) = changes
    assert problem.reason.startswith(f"{section} is left out: ")
    assert reason in problem.reason


def test_what_was_left_out_is_written_back_as_it_was(results):
    file = results.add(cost={"macs_dense": "many"}, later_key={"x": [1]})
    kept = json.loads(file.read_text())
    record = read_record(file)
    record.notes.append("seen")
    record.write(file)
    assert json.loads(file.read_text()) == {**kept, "notes": ["seen"]}


def test_bytes_that_are_no_text_are_unreadable(results):
    results.add().write_bytes(b"\xff\xfe\x00")
    assert load(results.folder).unreadable[0].reason == "not UTF-8 text"


def test_a_record_that_is_a_folder_is_unreadable_and_leaks_no_path(results, tmp_path):
    file = results.add()
    file.unlink()
    file.mkdir()
    (broken,) = load(results.folder).unreadable
    assert broken.reason
    assert str(tmp_path) not in broken.reason


def test_records_are_migrated_step_by_step(results, monkeypatch):
    """A record of version 0 passes every migration on its way; none is applied to one that is newer."""
    results.twin()
    results.add(schema_version=-1)
    monkeypatch.setitem(reading._MIGRATIONS, -1, lambda old: {**old, "schema_version": 0, "command": "first"})
    monkeypatch.setitem(
        reading._MIGRATIONS, 0, lambda old: {**old, "schema_version": 1, "command": f"{old['command']}, second"}
    )
    loaded = load(results.folder)
    assert loaded.unreadable == []
    assert [one.command.split(" --")[0] for one in loaded.records] == ["first, second", "nmbench run quick"]


HISTORIC = Path(__file__).parent / "historic"


def test_records_of_the_past_still_load_with_the_values_they_had():
    """Each was written by nmbench as it was then, and stays as it is; a new schema version adds one here."""
    loaded = load(HISTORIC)
    assert (loaded.unreadable, loaded.problems) == ([], [])
    golden = pd.read_csv(HISTORIC / "frame.csv", dtype={name: one.dtype for name, one in COLUMNS.items()})
    found = loaded.frame.fillna({"init": pd.NA}).replace("", pd.NA)
    assert found[found.columns.difference(golden.columns)].isna().all(axis=None), "columns that came later"
    pd.testing.assert_frame_equal(found[golden.columns], golden, check_dtype=False)


def test_a_record_is_written_back_as_it_was(tmp_path):
    for file in HISTORIC.glob("*/attempt-1/record.json"):
        read_record(file).write(tmp_path / "record.json")
        assert json.loads((tmp_path / "record.json").read_text()) == json.loads(file.read_text())


def test_every_schema_version_is_among_the_records_of_the_past():
    versions = {json.loads(file.read_text())["schema_version"] for file in HISTORIC.glob("*/attempt-1/record.json")}
    assert versions == set(range(1, SCHEMA_VERSION + 1))


def test_every_column_is_documented_and_typed(results):
    results.twin()
    rows = frame(results.folder)
    assert list(rows.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert {name: str(rows[name].dtype) for name in COLUMNS} == {name: one.dtype for name, one in COLUMNS.items()}
    assert all(column.description for column in COLUMNS.values())


def test_attempts_without_a_record_are_counted(results):
    results.add(attempt=1).unlink()
    results.add(attempt=2)
    loaded = load(results.folder)
    assert (len(loaded.frame), loaded.unfinished, loaded.unreadable) == (1, 1, [])


def test_nothing_below_the_folder_is_an_empty_typed_frame(tmp_path):
    loaded = load(tmp_path / "missing")
    assert loaded.frame.empty
    assert loaded.frame["seed"].dtype == "Int64"
    assert newest(loaded.frame).empty


def test_the_newest_ok_attempt_counts_else_the_newest(results):
    results.add(attempt=1, value=1.0)
    results.add(attempt=2, value=2.0)
    results.fail("oom", method="sr-ste", attempt=3)
    results.fail("oom", method="ste", attempt=9)
    results.fail("nan", method="ste", attempt=10)
    kept = newest(frame(results.folder)).set_index("method")
    assert kept.loc["sr-ste", "primary_value"] == 2.0
    assert kept.loc["ste", "status"] == "nan"


def test_a_missing_dependency_is_one_line_with_the_command():
    code = """if True:
        import sys
        sys.modules["pandas"] = None
        import nmbench
        try:
            nmbench.frame
        except ImportError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "the report needs pandas: pip install 'nmbench[report]'\n"


def test_the_report_needs_no_torch():
    code = "import sys, nmbench.report.write; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
