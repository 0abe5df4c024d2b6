"""What goes on, as files tell it."""

import os
import platform
import time
from pathlib import Path

from nmbench.records.store import Store
from nmbench.running.job import Beat
from nmbench.running.overview import activities


def test_a_process_that_was_killed_and_not_waited_for_does_not_run(tmp_path: Path) -> None:
    store = Store(tmp_path / "results", "m")
    pid = os.fork()
    if not pid:
        os._exit(0)
    while b") Z" not in Path(f"/proc/{pid}/stat").read_bytes():
        time.sleep(0.01)
    for cell, process in (("alive", os.getpid()), ("killed", pid)):
        folder = store.work / cell / "attempt-1"
        folder.mkdir(parents=True)
        beat = Beat(stage="train", node=platform.node(), pid=process)
        (folder / "heartbeat.json").write_text(beat.model_dump_json())
    assert set(activities(store)) == {"alive"}
    os.waitpid(pid, 0)
