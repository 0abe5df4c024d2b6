"""Runs one cell, inside the worker: prepare, build, sparsify, train, finalize, audit, evaluate, cost, record.

Whatever happens, one record is written (unless the process dies, and then the scheduler writes it).
"""

from __future__ import annotations

import os
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmbench import measure, rng
from nmbench.cell import DENSE, Cell
from nmbench.environment import describe
from nmbench.measure import InvalidResult
from nmbench.plugins import load_task
from nmbench.record import SCHEMA_VERSION, Record
from nmbench.run import NonFiniteError, Run
from nmbench.store import write_json
from nmbench.task import DataError, DivergedError, SkipCell, Spec, Task

if TYPE_CHECKING:
    from torch import nn

    from nmbench.sparsity import Handle

__all__ = ["SHADOW_PATTERN", "execute", "prepare"]

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

    def __init__(self, heart: _Heart) -> None:
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


def _spec(cell: Cell, task: Task, device: str) -> Spec:
    settings = {**task.scales[cell.scale], **cell.train}
    return Spec(cell.task, cell.model, cell.scale, cell.seed, settings, device)


def _load_init(model: nn.Module, path: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"init: {path} cannot be read as safetensors ({error})") from error
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        second = [line.strip() for line in str(error).splitlines()][1:2]
        raise DataError(f"init: {path} does not fit this model: {' '.join(second)}") from error


def _sparsify(task: Task, model: nn.Module, cell: Cell) -> Handle:
    from nmbench.sparsity import default_candidates, sparsify

    names = task.candidates(model)
    layers = default_candidates(model) if names is None else list(names)
    pattern = SHADOW_PATTERN if cell.pattern == DENSE else cell.pattern
    return sparsify(model, pattern, cell.method, layers=layers, **cell.hyper)


def _train(task: Task, model: nn.Module, handle: Handle, spec: Spec, data: Any, work: Path, heart: _Heart) -> list[Run]:
    """All training passes. A finished pass is kept in the work folder, so that a resumed attempt skips it."""
    import torch

    runs = []
    for phase in range(handle.method.phases):
        done = work / f"phase-{phase}.pt"
        handle.start_phase(phase)
        run = Run(spec, data, handle, work, phase, heart)
        runs.append(run)
        if done.exists():
            state = torch.load(done, map_location="cpu", weights_only=True)
            model.load_state_dict(state["model"])
            run.load_state_dict(state["run"])
            continue
        task.train(model, run)
        run.finish()
        if phase + 1 < handle.method.phases:
            temporary = done.with_suffix(".tmp")
            torch.save({"model": model.state_dict(), "run": run.state_dict()}, temporary)
            temporary.replace(done)
    return runs


def _trace_batches(model: nn.Module, path: Path) -> Any:
    """Append a checksum of the inputs of every training forward pass to `path` (for tests: twins see alike)."""
    import zlib

    import torch

    def hook(module: nn.Module, args: Any) -> None:
        if module.training:
            total = 0
            for value in args:
                if isinstance(value, torch.Tensor):
                    total = zlib.crc32(value.detach().cpu().contiguous().numpy().tobytes(), total)
            with path.open("a") as file:
                file.write(f"{total:08x}\n")

    return model.register_forward_pre_hook(hook)


def _set_up_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def _run_cell(job: dict[str, Any], cell: Cell, record: Record, clock: _Clock) -> None:
    """Fill `record` step by step, so that what is known stays known when a later step fails."""
    attempt, work = Path(job["attempt_dir"]), Path(job["work_dir"])
    _set_up_torch(int(job["threads"]))
    task = clock.stage("import", lambda: load_task(job["reference"]))
    record["metric_info"] = [vars(metric) for metric in task.metrics]
    spec = _spec(cell, task, job["device"])
    data = clock.stage("prepare", lambda: task.prepare(spec, Path(job["data_dir"])))
    record["data"] = {"fingerprint": data.fingerprint, "counts": dict(data.counts)}

    def build() -> Any:
        rng.seed_all(cell.seed, "init")
        model = task.build(spec)
        if cell.init:
            _load_init(model, cell.init["path"])
        tracer = _trace_batches(model, attempt / "batches.txt") if job.get("trace") else None
        return model.to(spec.device), tracer

    model, tracer = clock.stage("build", build)
    handle = _sparsify(task, model, cell)
    resumed = any(work.glob("phase-*/last.*")) or any(work.glob("phase-*.pt"))
    runs = clock.stage("train", lambda: _train(task, model, handle, spec, data, work, clock.heart))
    steps = sum(run.updates for run in runs)
    record["curve"] = measure.curve(runs)
    handle.snapshot()
    record["sad"] = measure.sad(handle)
    handle.finalize()
    if tracer is not None:
        tracer.remove()
    record["audit"] = measure.audit(model, handle, cell)
    if steps and handle.steps == 0:
        raise InvalidResult("train() never called run.bind(optimizer): the method took no part in training")
    if not record["audit"]["ok"]:
        raise InvalidResult("the trained weights break the pattern in some groups; see the audit")
    values = clock.stage("evaluate", lambda: task.evaluate(model, runs[-1]))
    record["metrics"] = measure.metrics(task, values)
    if runs[-1].per_example:
        write_json(attempt / "per_example.json", runs[-1].per_example, indent=None)
    record["cost"] = clock.stage("cost", lambda: measure.costs(task, model, handle, spec, cell))
    _save_weights(model, attempt / "weights.safetensors")
    intervals = [t for run in runs for t in run.intervals]
    record["timings"] = {
        "steps": steps,
        "step_ms_median": round(1e3 * statistics.median(intervals), 4) if intervals else None,
        "train_total_s": round(sum(run.elapsed for run in runs), 3),
        "resumed": resumed,
    }


def _save_weights(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_model

    temporary = path.with_suffix(".tmp")
    save_model(model, str(temporary))
    temporary.replace(path)


def _kind(error: BaseException) -> str:
    """The status that stands for an exception."""
    from nmbench.plugins import PluginError

    names = {cls.__name__ for cls in type(error).__mro__}
    table = [
        ("interrupted", (KeyboardInterrupt,)),
        ("data", (DataError,)),
        ("skipped", (SkipCell,)),
        ("diverged", (DivergedError,)),
        ("nan", (NonFiniteError,)),
        ("invalid", (InvalidResult,)),
        ("import", (ImportError, PluginError)),
        ("oom", (MemoryError,)),
    ]
    for kind, classes in table:
        if isinstance(error, classes):
            return kind
    if "NonFiniteWeightError" in names:
        return "nan"
    if "OutOfMemoryError" in names or "can't allocate memory" in str(error):
        return "oom"
    return "error"


def _first_lines(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()][:2]
    text = "; ".join(lines) or type(error).__name__
    return text if _kind(error) in ("data", "skipped", "invalid", "nan") else f"{type(error).__name__}: {text}"


def execute(job: dict[str, Any]) -> None:
    """Run the cell of `job` and write `record.json` into its attempt folder."""
    cell = Cell.from_dict(job["cell"])
    attempt = Path(job["attempt_dir"])
    heart = _Heart(Path(job["work_dir"]) / "heartbeat.json")
    clock = _Clock(heart)
    record: Record = {**job["head"], "status": "ok", "notes": []}
    try:
        _run_cell(job, cell, record, clock)
    except BaseException as error:
        record["status"] = _kind(error)
        (attempt / "traceback.txt").write_text(_without_home(traceback.format_exc()))
        record["error"] = {
            "kind": type(error).__name__,
            "message": _without_home(_first_lines(error)),
            "traceback": "traceback.txt",
        }
    timings = {f"{name}_s": round(value, 3) for name, value in clock.seconds.items()}
    timings["total_s"] = round(time.perf_counter() - clock.begun, 3)
    record["timings"] = {**timings, **record.get("timings", {}), "alone": bool(job.get("alone"))}
    record["environment"] = describe(int(job["threads"]), job.get("code", ""), job["device"])
    assert record["schema_version"] == SCHEMA_VERSION
    write_json(attempt / "record.json", record)


def _without_home(text: str) -> str:
    """No user names in what may be committed: the home and working folders become ~ and a dot."""
    text = text.replace(os.getcwd() + os.sep, "").replace(os.getcwd(), ".")
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Make or verify the data of `job`'s cell; {"status", "message", "fingerprint", "counts"}."""
    cell = Cell.from_dict(job["cell"])
    try:
        task = load_task(job["reference"])
        data = task.prepare(_spec(cell, task, "cpu"), Path(job["data_dir"]))
    except Exception as error:
        return {"status": _kind(error), "message": _first_lines(error)}
    return {"status": "ok", "message": "", "fingerprint": data.fingerprint, "counts": dict(data.counts)}
