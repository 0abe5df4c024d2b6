"""Prepared data appear whole or not at all, whoever asks, however often, and whatever is killed or harmed."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from nmbench.contract.data import made_once

KEY = {"version": 1, "of": ["x"]}


def make(folder: Path) -> dict[str, int]:
    for split in ("train", "val"):
        (folder / split).mkdir()
        for i in range(3):
            (folder / split / f"{i}.txt").write_text(f"{split} {i}")
    return {"count": 6}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def made(tmp_path) -> Path:
    assert made_once(tmp_path / "data" / "set", KEY, make)["count"] == 6
    return tmp_path / "data" / "set"


def test_data_that_are_whole_are_not_written_again(made):
    assert made_once(made, KEY, lambda folder: pytest.fail("it was written again"))["count"] == 6


def harm(kind: str, folder: Path) -> None:
    victim, manifest = folder / "val" / "1.txt", folder / "manifest.json"
    match kind:
        case "remove":
            victim.unlink()
        case "add":
            (folder / "val" / "stray").write_bytes(b"x")
        case "truncate":
            os.truncate(victim, 2)
        case "folder":
            shutil.rmtree(folder / "val")
        case "manifest":
            manifest.write_text(manifest.read_text()[:-20])
        case "no manifest":
            manifest.unlink()
        case "key":
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"key": {"version": 0}}))


@pytest.mark.parametrize("kind", ["remove", "add", "truncate", "folder", "manifest", "no manifest", "key"])
def test_damage_is_found_and_made_good(made, kind):
    before = contents(made)
    harm(kind, made)
    assert contents(made) != before
    made_once(made, KEY, make)
    assert contents(made) == before


def ask(folder: Path, barrier, told, writes) -> None:
    def slow(target: Path) -> dict[str, int]:
        writes.put(os.getpid())
        time.sleep(0.3)
        return make(target)

    barrier.wait()
    told.put(made_once(folder, KEY, slow)["count"])


def two_at_once(tmp_path: Path) -> list[int]:
    """Ids of the processes that wrote, of two that ask at once."""
    context = multiprocessing.get_context("fork")
    barrier, told, writes = context.Barrier(2), context.Queue(), context.Queue()
    started = [
        context.Process(target=ask, args=(tmp_path / "set", barrier, told, writes), daemon=True) for _ in range(2)
    ]
    for process in started:
        process.start()
    assert [told.get(timeout=60) for _ in started] == [6, 6]
    for process in started:
        process.join(timeout=60)
    wrote = [writes.get(timeout=5)]
    while not writes.empty():
        wrote.append(writes.get())
    return wrote


def test_two_processes_at_once_write_it_once(tmp_path):
    assert len(two_at_once(tmp_path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.lock", "set"]


def test_two_machines_whose_locks_do_not_meet_make_it_twice_and_neither_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("nmbench.contract.data.locked", lambda path: contextlib.nullcontext())
    two_at_once(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def killed(folder: Path) -> None:
    def dies(target: Path) -> dict[str, int]:
        make(target)
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    made_once(folder, KEY, dies)


def test_a_killed_writer_leaves_no_data_set_and_the_next_one_clears_up(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=killed, args=(tmp_path / "set",))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    made_once(tmp_path / "set", KEY, make)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".set.lock", "set"]
