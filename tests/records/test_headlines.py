"""Headlines that are kept between commands: believed only where the file is what it was, and never in the way."""

import json
import os

import pytest

from nmbench._util.files import write_json
from nmbench._util.paths import cache_dir
from nmbench.plan.cell import Cell
from nmbench.records import headlines
from nmbench.records.headlines import Headlines
from nmbench.records.schema import Status, UnreadableRecord
from nmbench.sparsity import NMPattern

CELL = Cell("toy", "mlp", "smoke", NMPattern(2, 4), "ste")
METRIC = {"name": "top1", "unit": "%", "higher_is_better": True, "margin": 1.0}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))


def written(folder, value=90.0, **more):
    """A record's file, old enough for any clock."""
    file = folder / "record.json"
    record = {"schema_version": 1, "cell": CELL.to_dict(), "cell_id": CELL.id, "attempt": 1, "status": "ok"}
    write_json(file, record | {"metric_info": [METRIC], "metrics": {"top1": value}} | more)
    return file


def told(folder, file, settled_s=-60.0):
    """What one command sees, which keeps it for the next; by default every file has settled."""
    known = Headlines(folder, settled_s)
    try:
        return known.of(file)
    finally:
        known.keep()


def unread(monkeypatch):
    """From now on no record can be read."""

    def refuse(*_):
        raise AssertionError("it was read")

    monkeypatch.setattr(headlines, "read_record", refuse)


def test_the_next_command_tells_the_same_and_reads_nothing(tmp_path, monkeypatch):
    file = written(tmp_path, error={"kind": "oom", "message": "no memory", "traceback": None}, status="oom")
    first = told(tmp_path, file)
    unread(monkeypatch)
    again = told(tmp_path, file)
    assert again == first
    assert again == (CELL.id, Status.OOM, "no memory")


def test_a_record_that_was_replaced_or_changed_in_place_is_read(tmp_path):
    file = written(tmp_path)
    assert told(tmp_path, file).outcome == "top1 90 %"
    assert told(tmp_path, written(tmp_path, 91.0)).outcome == "top1 91 %"
    about = file.stat()
    with file.open("r+b") as held:  # as long as before, and as old as it can be made to look
        data = held.read().replace(b"91.0", b"92.0")
        held.seek(0)
        held.write(data)
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert told(tmp_path, file).outcome == "top1 92 %"


def test_what_was_written_just_now_is_not_kept(tmp_path, monkeypatch):
    file = written(tmp_path)
    told(tmp_path, file, settled_s=60.0)
    unread(monkeypatch)
    with pytest.raises(AssertionError, match="it was read"):
        told(tmp_path, file)


def test_what_cannot_be_read_or_only_in_part_is_not_kept(tmp_path):
    file = written(tmp_path, metrics={"top1": "many"})
    told(tmp_path, file)
    assert not (cache_dir() / "headlines").exists()
    file.write_text("{")
    for _ in range(2):
        with pytest.raises(UnreadableRecord, match="broken JSON"):
            told(tmp_path, file)


@pytest.mark.parametrize("damage", ["", "{}", "0" * 64 + "\n{}", "cut", "other"])
def test_a_damaged_cache_is_no_cache(tmp_path, damage):
    file = written(tmp_path)
    told(tmp_path, file)
    (kept,) = (cache_dir() / "headlines").iterdir()
    whole = kept.read_text()
    kept.write_text({"cut": whole[:-9], "other": whole.replace("90 %", "99 %")}.get(damage, damage))
    assert told(tmp_path, file).outcome == "top1 90 %"


def test_what_another_version_kept_is_not_believed(tmp_path, monkeypatch):
    file = written(tmp_path)
    told(tmp_path, file)
    unread(monkeypatch)
    monkeypatch.setattr("nmbench.__version__", "0.0.9")
    with pytest.raises(AssertionError, match="it was read"):
        told(tmp_path, file)


@pytest.mark.parametrize("depth", [150, 230, 253, 300])
def test_what_is_nested_deeply_is_told_too(tmp_path, monkeypatch, depth):
    file = written(tmp_path)
    record = json.loads(file.read_text())
    record["metric_info"][0]["more"] = "here"
    file.write_text(json.dumps(record).replace('"here"', depth * "[" + depth * "]"))
    first = told(tmp_path, file)
    assert first.outcome == "top1 90 %"
    unread(monkeypatch)
    assert told(tmp_path, file) == first


def test_a_pipe_in_the_place_of_the_cache_does_not_hold_a_command(tmp_path):
    file = written(tmp_path)
    told(tmp_path, file)
    (kept,) = (cache_dir() / "headlines").iterdir()
    kept.unlink()
    os.mkfifo(kept)
    assert told(tmp_path, file).outcome == "top1 90 %"


def test_without_a_cache_folder_records_are_read(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "taken"))
    assert told(tmp_path, written(tmp_path)).outcome == "top1 90 %"


def test_a_folder_has_one_cache_by_whatever_path(tmp_path, monkeypatch):
    file = written(tmp_path)
    first = told(tmp_path, file)
    unread(monkeypatch)
    monkeypatch.chdir(tmp_path.parent)
    relative = file.relative_to(tmp_path.parent)
    assert told(relative.parent, relative) == first
    assert len(list((cache_dir() / "headlines").iterdir())) == 1
    assert json.loads(next((cache_dir() / "headlines").iterdir()).read_text().partition("\n")[2]).keys() == {
        "record.json"
    }
