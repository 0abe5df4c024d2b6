"""What a driver costs: many cells through a real Slurm that train nothing, packed; and what `status` takes.

    python tests/campaign/many.py [--cells 1000] [--pack 20] [--status 10000] [--overhead 2]

A stand-in for `nmbench run --cell` leaves a record for each cell at once, so that what is measured is the driver, the
store and Slurm, and no training.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "engines"), str(Path(__file__).parent.parent)]
from project import Project  # noqa: E402
from slurm_cluster import SlurmCluster, missing  # noqa: E402

from nmbench._util.settings import Settings  # noqa: E402
from nmbench.engines import engine  # noqa: E402
from nmbench.plan.catalogue import Catalogue  # noqa: E402
from nmbench.plan.cell import Cell  # noqa: E402
from nmbench.plan.declarations import Plugin, TaskDeclaration  # noqa: E402
from nmbench.records.schema import Record, Status  # noqa: E402
from nmbench.records.store import Store  # noqa: E402
from nmbench.running.fleet import Fleet  # noqa: E402
from nmbench.running.flight import Terms  # noqa: E402
from nmbench.running.order import Options  # noqa: E402
from nmbench.running.overview import activities  # noqa: E402
from nmbench.running.progress import Progress  # noqa: E402

STAND_IN = """
import sys
from pathlib import Path
from nmbench.plan.cell import Cell
from nmbench.records.schema import Record, Status
from nmbench.records.store import Store

store = Store(Path(sys.argv[1]), "many")
wanted = {word.partition("@")[0] for before, word in zip(sys.argv, sys.argv[1:]) if before == "--cell"}
for seed in range(int(sys.argv[2])):
    cell = Cell("toy", "mlp", "smoke", seed=seed)
    if cell.id in wanted:
        number, path = store.new_attempt(cell)
        record = Record(schema_version=1, cell=cell, cell_id=cell.id, attempt=number, status=Status.OK)
        record.write(path / "record.json")
"""


def cells(count: int) -> list[Cell]:
    return [Cell("toy", "mlp", "smoke", seed=seed) for seed in range(count)]


def fleet(folder: Path, count: int, pack: int) -> None:
    """Time from the first submission to the last record."""
    declared = TaskDeclaration(
        name="toy", metrics=(), models=("mlp",), scales={"smoke": Settings.declared({"gpus": 1})}
    )
    known = Catalogue({"toy": Plugin("toy", "toy:Toy", "toys", "1", declaration=declared)}, {}, [])
    script = folder / "stand_in.py"
    script.write_text(STAND_IN)
    store = Store(folder / "results", "many")
    terms = Terms((sys.executable, str(script), str(store.root), str(count)), pack=pack, poll_s=10.0)
    begun, used = time.monotonic(), time.process_time()
    records = Fleet(store, known, Options(), Progress(), engine("slurm", {"time": "30"}), terms).run(cells(count))
    good = sum(record.status is Status.OK for record in records)
    took, work = time.monotonic() - begun, time.process_time() - used
    print(f"{good} of {count} cells in jobs of {pack}: {took:.0f} s, {1e3 * took / count:.0f} ms a cell", flush=True)
    print(f"the driver itself: {work:.1f} s of processor time, {1e3 * work / count:.1f} ms a cell", flush=True)


def status(folder: Path, count: int) -> None:
    """What `nmbench status` does for many cells: records of done ones, and a look for what is going on."""
    store = Store(folder / "status", "many")
    for number, cell in enumerate(cells(count)):
        k, path = store.new_attempt(cell)
        if number % 10:
            record = Record(schema_version=1, cell=cell, cell_id=cell.id, attempt=k, status=Status.OK)
            (path / "record.json").write_text(record.model_dump_json(exclude_unset=True))
        else:
            (store.take_work(cell, k) / "heartbeat.json").write_text('{"stage": "train", "step": 1}')
    begun, used = time.monotonic(), time.process_time()
    found = activities(store)
    looked = time.monotonic() - begun
    done = sum(store.state(cell, brief=True).done for cell in cells(count))
    took, work = time.monotonic() - begun, time.process_time() - used
    print(
        f"status of {count} cells, {done} done and {len(found)} running: {took:.2f} s, "
        f"{work:.2f} s of processor time; of which {looked:.2f} s for what is going on",
        flush=True,
    )


def overhead(folder: Path, name: str, *engine_options: str) -> None:
    """One cell, less what it took itself: start of Python, queue, polling, settling. To its record, and to the end."""
    (folder / name).mkdir()
    project = Project(folder / name)
    project.matrix()
    begun = time.time()
    process = project.start("run", "--device", "cpu", "--only", "dense", *engine_options)
    out, _ = process.communicate(timeout=900)
    took = time.time() - begun
    assert process.returncode == 0, out
    (record,) = project.folder.glob("results/toys/*/*/attempt-1/record.json")
    own = project.ok("dense")["timings"]["total_s"]
    to_record = record.stat().st_mtime - begun - own
    print(
        f"{name}: {to_record:.1f} s to the record, {took - own:.1f} s to the end, beside {own:.1f} s of the cell",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--pack", type=int, default=20)
    parser.add_argument("--status", type=int, default=10_000)
    parser.add_argument("--overhead", type=int, default=0, help="so many times one cell by each engine")
    parser.add_argument("--ray", help="address of a Ray that is running, for --overhead")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/nmbench-many"))
    parser.add_argument("--port", type=int, default=17600)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    if options.status:
        status(options.folder, options.status)
    if why := missing():
        print(why)
        return 2
    cluster = SlurmCluster(options.folder / "slurm", port=options.port)
    try:
        cluster.start()
        if options.cells:
            fleet(options.folder, options.cells, options.pack)
        engines = {"local": [], "slurm": ["--on", "slurm", "--engine", "time=20"]}
        if options.ray:
            engines["ray"] = ["--on", "ray", "--engine", f"address={options.ray}"]
        for number in range(options.overhead):
            for name, given in engines.items():
                overhead(options.folder, f"{name} {number}", *given)
    finally:
        cluster.stop()
        shutil.rmtree(options.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
