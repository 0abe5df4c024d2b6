"""What a run writes besides results has bounds, and a disk that is full costs no training."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest

from nmbench.contract.resume import read_state, write_state
from nmbench.records.attempt import LOG
from nmbench.running import local


def test_a_flood_in_the_log_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_LOG_MOST", 1000)
    worker = local._Worker(SimpleNamespace(attempt_dir=tmp_path), None, [], None)
    worker.bound_log()  # there is none yet
    with (tmp_path / LOG).open("ab", buffering=0) as log:
        log.write(b"begun\n" + b"x" * 5000)
        worker.bound_log()
        log.write(b"\nlast words\n")
    assert (tmp_path / LOG).read_bytes().startswith(b"begun\n")
    assert (tmp_path / LOG).stat().st_size < 600
    assert local._last_line(tmp_path / LOG) == "last words"


def test_state_that_finds_no_room_is_an_oserror_and_leaves_the_old(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "last.pt"
    write_state(path, {"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=r"last\.pt"):
            write_state(path, {"weight": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_state(path) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.pt"]
