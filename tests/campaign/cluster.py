"""Cells on a real Slurm, told at length: python tests/campaign/cluster.py [STORY ...] [--kills N] [--folder F]

Stories are those of tests/engines/scenarios.py and long_scenarios.py; without a name the long ones. `--kills N` kills N
times something at random (a worker, a scheduler on its node, the driver, a job) until a matrix is done, and compares it
with a local run: no finished cell is lost or trained twice, and metrics are equal.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "engines"), str(Path(__file__).parent.parent)]
import long_scenarios  # noqa: E402
import scenarios  # noqa: E402
from slurm_cluster import SlurmCluster, missing  # noqa: E402

MOST_S = 3600.0


def _victims(cluster: SlurmCluster, project: scenarios.Project) -> dict[str, list[int]]:
    jobs = cluster.jobs("RUNNING").values()
    inside = [pid for job in jobs for pid in cluster.processes(job)]
    lines = {pid: _line(pid) for pid in inside}
    return {
        "worker": [pid for pid, line in lines.items() if "nmbench.worker" in line],
        "scheduler": [pid for pid, line in lines.items() if "--cell" in line],
        "job": [int(job) for job in jobs],
    }


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ")
    except OSError:
        return ""


def kills(cluster: SlurmCluster, folder: Path, count: int, seed: int) -> None:
    """Kill at random moments until it is done."""
    draw = random.Random(seed)
    matrix = {"method": '["sr-ste", "asp"]', "seeds": "[0, 1, 2]", "train": "{ pause = 0.3, steps = 60 }"}
    project, plain = scenarios.new(folder, **matrix), scenarios.new(folder, "local", **matrix)
    end, left = time.monotonic() + MOST_S, count
    driver = scenarios.start(project)
    while time.monotonic() < end:
        if driver.poll() is not None:
            states = project.run("status")
            if "9 ok" in states.splitlines()[-1]:
                break
            driver = scenarios.start(project)
        time.sleep(draw.uniform(2, 12))
        victims = {kind: found for kind, found in _victims(cluster, project).items() if found} | {
            "driver": [driver.pid]
        }
        if left and len(victims) > 1:
            kind = draw.choice(sorted(victims))
            victim = draw.choice(victims[kind])
            print(f"{time.strftime('%H:%M:%S')} kill {count - left + 1}: {kind} {victim}", flush=True)
            if kind == "job":
                cluster.ask(*draw.choice([["scancel"], ["scontrol", "requeue"]]), str(victim))
            else:
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                if kind == "driver":
                    driver.wait()
            left -= 1
    assert left == 0, f"it was done after {count - left} kills"
    scenarios.locally(plain)
    _compare(project, plain)


def _compare(project: scenarios.Project, plain: scenarios.Project) -> None:
    ok = [record for record in project.records() if record["status"] == "ok"]
    expected = {record["cell_id"]: record for record in plain.records()}
    assert len(ok) == len({record["cell_id"] for record in ok}) == len(expected), "a finished cell was trained twice"
    for record in ok:
        for key in ("metrics", "sad", "curve", "audit"):
            assert record[key] == expected[record["cell_id"]][key], (record["cell_id"], key)
    attempts = len(list(project.folder.glob("results/toys/*/*/attempt-*")))
    for file in project.folder.glob("results/toys/*/*/attempt-*/*.json"):
        json.loads(file.read_text())
    print(f"{len(ok)} cells, {attempts} attempts: each cell once, equal to the local run bit for bit", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = {story.__name__: story for story in (*scenarios.QUICK, *long_scenarios.LONG)}
    parser.add_argument("stories", nargs="*", choices=[*known, []])
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/nmbench-cluster"))
    parser.add_argument("--port", type=int, default=17200)
    options = parser.parse_args()
    if why := missing():
        print(why)
        return 2
    wanted = options.stories or ([] if options.kills else [story.__name__ for story in long_scenarios.LONG])
    accounting = "submit_limit" in wanted
    if accounting and (why := missing("slurmdbd", "mariadbd")):
        print(f"submit_limit: left out, {why}")
        wanted, accounting = [name for name in wanted if name != "submit_limit"], False
    shutil.rmtree(options.folder, ignore_errors=True)
    cluster = SlurmCluster(options.folder / "slurm", port=options.port, accounting=accounting)
    failed = 0
    try:
        cluster.start()
        for name in wanted:
            begun = time.monotonic()
            try:
                with scenarios.own_folder(options.folder / name) as folder:
                    known[name](cluster, folder)
                outcome = "holds"
            except Exception as error:
                outcome, failed = f"FAILS: {type(error).__name__}: {str(error)[-1500:]}", failed + 1
            print(f"{name}: {outcome} ({time.monotonic() - begun:.0f} s)", flush=True)
            cluster.clear()
        if options.kills:
            (options.folder / "kills").mkdir()
            kills(cluster, options.folder / "kills", options.kills, options.seed)
    finally:
        cluster.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
