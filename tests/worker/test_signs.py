"""Heartbeats: also while a stage can give none, and never at the price of a training."""

import subprocess
import sys
import time

from nmbench.running.job import OVERTAKEN, Beat
from nmbench.worker.signs import Clock, Heart


def test_a_stage_that_can_give_no_sign_beats_by_itself(tmp_path):
    file = tmp_path / "heartbeat.json"
    heart = Heart(file)
    heart(stage="prepare")
    first = file.stat().st_mtime_ns
    with heart.beating():
        end = time.monotonic() + 30
        while file.stat().st_mtime_ns == first and time.monotonic() < end:
            time.sleep(0.1)
    assert file.stat().st_mtime_ns > first
    assert Beat.read(file).stage == "prepare"


def test_a_heartbeat_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    heart = Heart(tmp_path / "gone" / "heartbeat.json")
    for stage in ("train", "evaluate"):
        heart(stage=stage)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_process_whose_work_folder_was_taken_over_ends(tmp_path):
    (tmp_path / "attempt-1").mkdir()
    program = (
        "import sys, pathlib\n"
        "from nmbench.worker.signs import Heart\n"
        "heart = Heart(pathlib.Path(sys.argv[1]) / 'attempt-1' / 'heartbeat.json')\n"
        "heart(stage='train')\n"
        "pathlib.Path(sys.argv[1], 'attempt-1').rename(pathlib.Path(sys.argv[1], 'attempt-2'))\n"
        "heart(stage='evaluate')\n"
        "print('it went on')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (OVERTAKEN, "another run took this cell over\n")


def test_what_is_no_heartbeat_is_none(tmp_path):
    file = tmp_path / "heartbeat.json"
    for text in ("[]", "null", "{", "[" * 100_000, '{"step": "many"}'):
        file.write_text(text)
        assert Beat.read(file) is None
    assert Beat.read(tmp_path) is None


def test_a_clock_sums_up_a_stage_that_comes_again():
    clock = Clock(Heart(None))
    for _ in range(2):
        with clock.stage("train"):
            time.sleep(0.02)
    assert 0.04 <= clock.timings()["train_s"] <= clock.timings()["total_s"] + 0.001
