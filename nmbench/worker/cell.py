"""Runs one cell, inside the worker: prepare, build, sparsify, train, finalize, audit, evaluate, cost, record.

Whatever happens, one record is written (unless the process dies, and then the scheduler writes it).
"""

from __future__ import annotations

import os
import statistics
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmbench._util import random as rng
from nmbench._util.files import replacing, write_json
from nmbench._util.machine import describe
from nmbench.contract import samples
from nmbench.contract.run import Run
from nmbench.contract.task import DataError, SkipCell, Spec, Task
from nmbench.plan.cell import Cell, InitialWeights
from nmbench.plan.describe import load_task
from nmbench.records import weights
from nmbench.records.schema import SCHEMA_VERSION, Record
from nmbench.worker import measure, reuse
from nmbench.worker.failures import first_lines, kind, without_home
from nmbench.worker.measure import InvalidResult
from nmbench.worker.ranks import Ranks, failure_file, here, start
from nmbench.worker.tracing import trace_batches

if TYPE_CHECKING:
    from torch import nn

    from nmbench.sparsity import Handle

__all__ = ["SHADOW_PATTERN", "execute", "execute_rank", "prepare", "spec_of"]

#: what a dense run is observed with, so that its SAD can stand beside that of the sparse runs
SHADOW_PATTERN = "2:4"


class _Heart:
    """Writes the heartbeat that the scheduler watches; at most twice a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = 0.0
        self._said: dict[str, Any] = {}

    def __call__(self, **said: Any) -> None:
        changed = said.get("stage") not in (None, self._said.get("stage"))
        self._said |= said
        now = time.monotonic()
        if changed or now - self._last > 0.5:
            self._last = now
            import json

            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._said))
            temporary.replace(self.path)


class _Clock:
    """Seconds by stage."""

    def __init__(self, heart: Callable[..., None]) -> None:
        self.heart = heart
        self.seconds: dict[str, float] = {}
        self.begun = time.perf_counter()

    def stage(self, name: str, work: Callable[[], Any]) -> Any:
        self.heart(stage=name)
        start = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def spec_of(cell: Cell, task: Task, device: str) -> Spec:
    """What the task is told of the cell: the scale's settings with the cell's own on top."""
    settings = {**task.scales[cell.scale], **cell.train}
    return Spec(cell.task, cell.model, cell.scale, cell.seed, settings, device)


def _load_init(model: nn.Module, init: InitialWeights, path: str) -> None:
    from safetensors import SafetensorError

    try:
        weights.load(model, path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"init: {init.file} cannot be read as safetensors ({error})") from error
    except RuntimeError as error:
        second = [line.strip() for line in str(error).splitlines()][1:2]
        raise DataError(f"init: {init.file} does not fit this model: {' '.join(second)}") from error


def _sparsify(task: Task, model: nn.Module, cell: Cell) -> Handle:
    from nmbench.sparsity import default_candidates, sparsify

    names = task.candidates(model)
    layers = default_candidates(model) if names is None else list(names)
    pattern = cell.pattern or SHADOW_PATTERN
    return sparsify(model, pattern, cell.method, layers=layers, **cell.hyper)


def _train(
    task: Task,
    model: nn.Module,
    handle: Handle,
    spec: Spec,
    data: Any,
    work: Path,
    beat: Callable[..., None],
    ranks: Ranks,
    twin: Record | None,
) -> list[Run]:
    """All training passes. A finished pass is kept in the work folder, so that a resumed attempt skips it.

    twin: record of the dense twin, whose weights `model` has already: its training is the first pass.
    """
    import torch

    runs = []
    for phase in range(handle.method.phases):
        done = work / f"phase-{phase}.pt"
        handle.start_phase(phase)
        run = Run(spec, data, handle, work, phase, beat, ranks.rank, ranks.size)
        runs.append(run)
        if done.exists():
            state = torch.load(done, map_location="cpu", weights_only=True)
            model.load_state_dict(state["model"])
            run.load_state_dict(state["run"])
            continue
        if phase == 0 and twin is not None:
            run.adopt(reuse.steps(twin), float(twin["timings"]["train_total_s"]))
        else:
            task.train(model, run)
            run.finish()
        if phase + 1 < handle.method.phases and ranks.rank == 0:
            with replacing(done) as temporary:
                torch.save({"model": model.state_dict(), "run": run.state_dict()}, temporary)
    return runs


def _set_up_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


@dataclass
class _Trained:
    """A cell after its training, on rank 0."""

    task: Task
    spec: Spec
    model: nn.Module
    handle: Handle
    runs: list[Run]


def _train_cell(job: dict[str, Any], cell: Cell, record: Record, clock: _Clock, ranks: Ranks) -> _Trained:
    """Fill `record` step by step, so that what is known stays known when a later step fails. Every rank does this."""
    attempt, work = Path(job["attempt_dir"]), Path(job["work_dir"])
    _set_up_torch(int(job["threads"]))
    task = clock.stage("import", lambda: load_task(job["reference"]))
    record["metric_info"] = [vars(metric) for metric in task.metrics]
    spec = spec_of(cell, task, _device(job["device"], ranks))
    data = clock.stage("prepare", lambda: task.prepare(spec, Path(job["data_dir"])))
    record["data"] = {"fingerprint": data.fingerprint, "counts": dict(data.counts)}
    record["notes"] = list(data.notes)

    def build() -> Any:
        rng.seed_all(cell.seed, "init")
        model = task.build(spec)
        if cell.init:
            _load_init(model, cell.init, job["init"])
        traced = job.get("trace") and ranks.rank == 0
        return model.to(spec.device), trace_batches(model, attempt / "batches.txt") if traced else None

    model, tracer = clock.stage("build", build)
    handle = _sparsify(task, model, cell)
    resumed = any(work.glob("phase-*/last*")) or any(work.glob("phase-*.pt"))
    twin = None if resumed else _adopt(model, job, record)
    runs = clock.stage("train", lambda: _train(task, model, handle, spec, data, work, clock.heart, ranks, twin))
    record["memory"] = measure.memory(spec.device)
    if tracer is not None:
        tracer.remove()
    ranks.part()
    intervals = [t for run in runs for t in run.intervals]
    record["timings"] = {
        "steps": sum(run.updates for run in runs),
        "step_ms_median": round(1e3 * statistics.median(intervals), 4) if intervals else None,
        "train_total_s": round(sum(run.elapsed for run in runs), 3),
        "resumed": resumed,
    }
    return _Trained(task, spec, model, handle, runs)


def _adopt(model: nn.Module, job: dict[str, Any], record: Record) -> Record | None:
    """Take the dense twin's weights, if the scheduler found them; its record, or None where it is to be trained."""
    if not job.get("first_phase"):
        return None
    try:
        twin = reuse.load(model, Path(job["first_phase"]["attempt_dir"]), record["data"]["fingerprint"])
    except reuse.NotReusable as error:
        record["notes"].append(f"The dense pass was trained again: {error}")
        return None
    record["reused"] = {"phase": 0, "cell_id": twin["cell_id"], "attempt": twin["attempt"]}
    record["notes"].append("The first training pass is that of the dense twin; no flips were counted in it.")
    return twin


def _finish_cell(job: dict[str, Any], cell: Cell, record: Record, clock: _Clock, trained: _Trained) -> None:
    """Finalize, audit, evaluate, cost."""
    attempt = Path(job["attempt_dir"])
    task, model, handle, runs = trained.task, trained.model, trained.handle, trained.runs
    record["curve"] = measure.curve(runs)
    handle.snapshot()
    record["sad"] = measure.sad(handle)
    handle.finalize()
    record["audit"] = measure.audit(model, handle, cell)
    if record["timings"]["steps"] and handle.steps == 0:
        raise InvalidResult("train() never called run.bind(optimizer): the method took no part in training")
    if not record["audit"]["ok"]:
        raise InvalidResult("the trained weights break the pattern in some groups; see the audit")
    values = clock.stage("evaluate", lambda: task.evaluate(model, runs[-1]))
    record["metrics"] = measure.metrics(task, values)
    _keep(runs, record, attempt)
    record["cost"] = clock.stage("cost", lambda: measure.costs(task, model, handle, trained.spec, cell))
    weights.save(model, attempt / "weights.safetensors")


def _device(device: str, ranks: Ranks) -> str:
    """Each rank has a GPU of its own. Raises SkipCell if there are fewer than ranks."""
    if device != "cuda" or ranks.size == 1:
        return device
    import torch

    if (found := torch.cuda.device_count()) < ranks.size:
        raise SkipCell(f"the setting gpus is {ranks.size}, but {found} can be seen; give train = {{ gpus = {found} }}")
    torch.cuda.set_device(ranks.rank)
    return f"cuda:{ranks.rank}"


def _keep(runs: list[Run], record: Record, attempt: Path) -> None:
    """What the task stored besides its metrics: small things in the record, the rest in files beside it."""
    last = runs[-1]
    if last.per_example:
        write_json(attempt / "per_example.json", last.per_example, indent=None)
    if last.texts:
        write_json(attempt / "texts.json", last.texts, indent=None)
    if last.samples:
        samples.write(last.samples, attempt / samples.FILE)
    if last.baselines:
        record["baselines"] = last.baselines
    if last.facts:
        record["facts"] = last.facts
    record["notes"] += list(dict.fromkeys(text for run in runs for text in run.notes))


def execute(job: dict[str, Any], job_file: Path) -> None:
    """Run the cell of `job` as rank 0 and write `record.json` into its attempt folder."""
    cell = Cell.from_dict(job["cell"])
    attempt, work = Path(job["attempt_dir"]), Path(job["work_dir"])
    clock = _Clock(_Heart(work / "heartbeat.json"))
    record: Record = {**job["head"], "status": "ok", "notes": []}
    ending = threading.Lock()
    ranks = Ranks()

    def write() -> None:
        timings = {f"{name}_s": round(value, 3) for name, value in clock.seconds.items()}
        timings["total_s"] = round(time.perf_counter() - clock.begun, 3)
        record["timings"] = {**timings, **record.get("timings", {}), "alone": bool(job.get("alone"))}
        record["environment"] = describe(int(job["threads"]), job.get("code", ""), job["device"])
        assert record["schema_version"] == SCHEMA_VERSION
        write_json(attempt / "record.json", record)

    def another_failed(status: str, message: str) -> None:
        ending.acquire()  # for good: the process ends here
        record.update(status=status, error={"kind": status, "message": message, "traceback": None})
        write()
        os._exit(0)

    try:
        ranks = start(int(job.get("ranks", 1)), job_file, work, another_failed)
        trained = _train_cell(job, cell, record, clock, ranks)
        _finish_cell(job, cell, record, clock, trained)
    except BaseException as error:
        (attempt / "traceback.txt").write_text(without_home(traceback.format_exc()))
        status, message, name = kind(error), without_home(first_lines(error)), type(error).__name__
        if (other := ranks.failed_before(time.time())) is not None:
            status, message, name = *other, other[0]
        record["status"] = status
        record["error"] = {"kind": name, "message": message, "traceback": "traceback.txt"}
    with ending:
        write()


def execute_rank(job: dict[str, Any]) -> int:
    """Train the cell of `job` as the rank that the environment names; the exit status. It writes no result."""
    ranks = here()
    clock = _Clock(lambda **_: None)
    try:
        _train_cell(job, Cell.from_dict(job["cell"]), {}, clock, ranks)
    except BaseException as error:
        traceback.print_exc()
        said = {"status": kind(error), "message": without_home(first_lines(error)), "time": time.time()}
        write_json(failure_file(Path(job["work_dir"]), ranks.rank), said)
        return 1
    return 0


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Make or verify the data of `job`'s cell; {"status", "message", "fingerprint", "counts"}."""
    cell = Cell.from_dict(job["cell"])
    try:
        task = load_task(job["reference"])
        data = task.prepare(spec_of(cell, task, "cpu"), Path(job["data_dir"]))
    except Exception as error:
        return {"status": kind(error), "message": first_lines(error)}
    return {"status": "ok", "message": "", "fingerprint": data.fingerprint, "counts": dict(data.counts)}
