"""Runs one cell, inside the worker: prepare, build, train, finish. Every rank trains; rank 0 writes the record.

Whatever happens, one record is written (unless the process dies, and then the scheduler writes it).
"""

import os
import statistics
import threading
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmbench._util import random as rng
from nmbench._util.files import write_json
from nmbench._util.machine import describe
from nmbench.contract import samples
from nmbench.contract.resume import claim
from nmbench.contract.run import InvalidResult, Run, finite
from nmbench.plan.describe import load_task, spec_of
from nmbench.records import weights
from nmbench.records.attempt import BATCHES, PER_EXAMPLE, RECORD, TEXTS, TRACEBACK, WEIGHTS
from nmbench.records.schema import Data, Environment, Failure, MetricInfo, Record, Reused, Status, Timings, Weights
from nmbench.running import stops
from nmbench.running.job import Job, Prepared, TrainingJob
from nmbench.sparsity.pattern import NMPattern
from nmbench.worker import measure, measurements, pruning, training
from nmbench.worker.distillation import Teacher
from nmbench.worker.failures import first_lines, keep_traceback, kind
from nmbench.worker.ranks import RankFailure, Ranks, device_of, here, start
from nmbench.worker.signs import Clock, Heart, end_if_overtaken
from nmbench.worker.tracing import trace_batches

#: what a dense run is observed with, so that its SAD can stand beside that of the sparse runs
SHADOW_PATTERN = NMPattern(2, 4)


class _Attempt:
    """One rank's share of an attempt. The record is filled step by step, so that a step that fails loses nothing."""

    def __init__(self, job: TrainingJob, record: Record, ranks: Ranks, clock: Clock) -> None:
        self.job, self.cell, self.record, self.ranks, self.clock = job, job.cell, record, ranks, clock

    def run(self) -> None:
        """All that every rank does."""
        _set_up_torch(self.job.threads)
        self.prepare()
        self.build()
        self.train()

    def prepare(self) -> None:
        """The task and its data."""
        with self.clock.stage("import"):
            self.task = load_task(self.job.reference)
        self.spec = spec_of(self.cell, self.task, device_of(self.job.device, self.ranks))
        self.trains = not training.is_untrained(self.spec)
        self.record.metric_info = [MetricInfo(**vars(metric)) for metric in self.task.metrics if self.trains]
        with self.clock.stage("prepare"), self.clock.heart.beating():
            self.data = self.task.prepare(self.spec, self.job.data_dir) if self.trains else training.NO_DATA
        counts = {name: int(finite(count, f"the count {name!r}")) for name, count in self.data.counts.items()}
        self.record.data = Data(fingerprint=self.data.fingerprint, counts=counts)
        self.record.notes = list(self.data.notes)

    def build(self) -> None:
        """The model with its initial weights, and the method that makes it sparse."""
        with self.clock.stage("build"):
            rng.seed_all(self.cell.seed, "init")
            model = self.task.build(self.spec)
            if self.cell.init is not None:
                training.load_init(model, self.cell.init, self.job.init)
            self.model = model.to(self.spec.device)
        self.teacher = None
        if self.cell.distill:
            twin, data = self.job.first_phase, self.data.fingerprint
            self.teacher, self.record.taught = Teacher.of(self.task, self.model, self.cell, twin, data)
        self.tracer = None
        if self.job.trace and self.ranks.rank == 0:
            self.tracer = trace_batches(self.model, self.job.attempt_dir / BATCHES)
        self.pruning, self.permutation = pruning.Pruning.of(self.cell), pruning.Permutation(self.cell)
        self.handle = self._sparsify()

    def _sparsify(self) -> Any:
        from nmbench.sparsity import default_candidates, methods, sparsify
        from nmbench.sparsity.pruning.recipe import PERMUTE

        names = self.task.candidates(self.model)
        layers = default_candidates(self.model) if names is None else list(names)
        pattern = self.cell.pattern or SHADOW_PATTERN
        if self.pruning is not None:
            return sparsify(self.model, pattern, "dense", layers=layers)
        hyper = {key: value for key, value in self.cell.hyper.items() if key != PERMUTE}
        if self.permutation.before_pass(methods.load(self.cell.method)(**hyper), 0):
            self.permutation.apply(self.task, self.model, self.spec, pattern, layers)
        return sparsify(self.model, pattern, self.cell.method, layers=layers, **hyper)

    def train(self) -> None:
        """All training passes, from where an interrupted attempt stood."""
        state = self._state_folder()
        resumed = any(state.glob("phase-*/last.pt")) or any(state.glob("phase-*.pt"))
        twin = None if resumed else self._adopt()

        def begin(phase: int) -> Run:
            if self.permutation.before_pass(self.handle.method, phase):
                self.permutation.of_attached(self.task, self.model, self.spec, self.handle)
            self.handle.start_phase(phase)
            teacher = None if phase == 0 and self.handle.method.starts_dense else self.teacher
            if teacher is not None:
                teacher.teach(self.model)
            place = self.ranks.rank, self.ranks.size
            return Run(self.spec, self.data, self.handle, state, phase, self.clock.heart, *place, teacher)

        method = pruning.DenseFirst() if self.pruning else self.handle.method
        trains = self.trains and (self.pruning is None or self.pruning.trains)
        task = self.task if trains else training.Untrained()
        with self.clock.stage("train"):
            self.runs = training.train(task, self.model, begin, method, state, twin)
        self.record.memory = measure.memory(self.spec.device)
        self.record.memory.method_bytes = max(run.method_bytes for run in self.runs)
        if self.teacher is not None:
            self.teacher.end(self.runs[-1])
            self.record.memory.method_bytes += self.teacher.bytes
        if self.tracer is not None:
            self.tracer.remove()
        if self.pruning is not None:
            with self.clock.stage("prune"), self.clock.heart.beating():
                if self.permutation.wanted:
                    self.permutation.of_attached(self.task, self.model, self.spec, self.handle)
                self.pruning.collect(self.task, self.model, self.runs[-1], self.handle)
        self.ranks.part()
        intervals = [seconds for run in self.runs for seconds in run.intervals]
        self.record.timings = Timings(
            steps=sum(run.updates for run in self.runs),
            step_ms_median=round(1e3 * statistics.median(intervals), 4) if intervals else None,
            train_total_s=round(sum(run.elapsed for run in self.runs), 3),
            resumed=resumed,
        )

    def _state_folder(self) -> Path:
        """Resume state; that of other code or data is removed."""
        validity = {"code": self.job.code, "data": self.data.fingerprint, "torch": version("torch")}
        claim(self.job.work_dir, validity | {"cell": self.cell.id}, self.ranks.rank)
        return self.job.work_dir

    def _adopt(self) -> Record | None:
        """Take the dense twin's weights, if the scheduler found them; its record, or None where it is to be trained."""
        if self.job.first_phase is None or (self.pruning is not None and not self.pruning.trains):
            return None
        try:
            twin = training.adopt(self.model, self.job.first_phase, self.data.fingerprint)
        except training.NotReusable as error:
            self.record.notes.append(f"The dense pass was trained again: {error}")
            return None
        self.record.reused = Reused(phase=0, cell_id=twin.cell_id, attempt=twin.attempt)
        self.record.notes.append("The first training pass is that of the dense twin; no flips were counted in it.")
        return twin

    def finish(self) -> None:
        """Finalize, audit, evaluate, cost; on rank 0."""
        record, task, model, handle = self.record, self.task, self.model, self.handle
        self.permutation.told(self.runs[-1])
        record.curve = measure.curve(self.runs)
        handle.snapshot()
        record.sad = measure.sad(handle)
        handle.finalize()
        if self.pruning is not None:
            with self.clock.stage("prune"), self.clock.heart.beating():
                self.pruning.prune(model, handle, self.runs[-1])
        self._audit()
        if sum(run.updates for run in self.runs) and handle.steps == 0:
            raise InvalidResult("train() never called run.bind(optimizer): the method took no part in training")
        if self.trains:
            with self.clock.stage("evaluate"):
                values = task.evaluate(model, self.runs[-1])
            record.metrics = dict(measure.metrics(task, values))
        self._keep()
        with self.clock.stage("cost"):
            record.cost = measure.costs(task, model, handle, self.spec, self.cell)
        measurements.take(measurements.Trained(task, self.spec, model, handle, self.runs, record))
        weights.save(model, self.job.attempt_dir / WEIGHTS)
        record.weights = Weights(sha256=weights.digest(self.job.attempt_dir / WEIGHTS))

    def _audit(self) -> None:
        """Do the weights keep the pattern, and do they multiply as they are? Raises InvalidResult if not."""
        from nmbench.sparsity import audit

        handle, cell = self.handle, self.cell
        lines = handle.layers if cell.is_dense else measure.operands(self.task, self.model, handle, self.spec)
        report = audit(self.model, handle.pattern, lines)
        self.record.audit = measure.audit(report, cell)
        if cell.is_dense or report.ok:
            return
        if self.pruning is None and not handle.method.sparse:  # cells that a pruner prunes are attached as dense ones
            self.record.notes.append("The method leaves a dense model: it is the training that is sparse.")
            return
        names = [layer.name for layer in report.layers if layer.violations or layer.undone]
        where = f" ({', '.join(names[:3])})" if names else ""
        raise InvalidResult(f"{report.outcome}{where}; see the audit")

    def _keep(self) -> None:
        """What the task stored besides its metrics: small things in the record, the rest in files beside it."""
        last, attempt = self.runs[-1], self.job.attempt_dir
        if last.per_example:
            write_json(attempt / PER_EXAMPLE, last.per_example, indent=None)
        if last.texts:
            write_json(attempt / TEXTS, last.texts, indent=None)
        if last.samples:
            samples.write(last.samples, attempt / samples.FILE)
        if last.baselines:
            self.record.baselines = {name: dict(values) for name, values in last.baselines.items()}
        if last.facts:
            self.record.facts = dict(last.facts)
        self.record.notes += list(dict.fromkeys(text for run in self.runs for text in run.notes))


def _set_up_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    # as use_deterministic_algorithms(True, warn_only=True), which imports inductor; the executor sets that one's flag
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = False


def execute(job: TrainingJob, job_file: Path) -> None:
    """Run the cell of `job` as rank 0 and write its record into the attempt folder."""
    clock = Clock(Heart(job.work_dir / "heartbeat.json"))
    record = job.record.model_copy(deep=True)
    ending = threading.Lock()
    ranks = Ranks()

    def write(status: Status, failure: Failure | None = None) -> None:
        record.status = status
        if failure is not None:
            record.error = failure
        _write(record, job, clock)

    def another_failed(failure: RankFailure) -> None:
        ending.acquire()  # for good: the process ends here
        write(failure.status, Failure(kind=failure.status, message=failure.message, traceback=None))
        os._exit(0)

    status, failure = Status.OK, None
    try:
        ranks = start(job.ranks, job_file, job.work_dir, another_failed)
        attempt = _Attempt(job, record, ranks, clock)
        attempt.run()
        attempt.finish()
    except BaseException as error:
        stops.ignore()
        end_if_overtaken(job.work_dir)
        keep_traceback(job.attempt_dir / TRACEBACK)
        status, message, name = kind(error), first_lines(error), type(error).__name__
        if isinstance(error, stops.Stopped):
            name = error.stop
        if (other := ranks.failed_before(time.time())) is not None:
            status, message, name = other.status, other.message, other.status
        failure = Failure(kind=name, message=message, traceback=TRACEBACK)
    stops.ignore()
    with ending:
        write(status, failure)


def _write(record: Record, job: TrainingJob, clock: Clock) -> None:
    """Write the record; if a value in it cannot be written, then one that says so, since none would be a crash."""
    known: dict[str, Any] = record.timings.model_dump(exclude_unset=True) if record.timings else {}
    record.timings = Timings(**(clock.timings() | known), alone=job.alone)
    record.environment = Environment(**describe(job.threads, job.code, job.device))
    try:
        record.write(job.attempt_dir / RECORD)
    except (ValueError, TypeError) as error:
        message = f"its record holds a value that cannot be written: {first_lines(error)}"
        failure = Failure(kind=type(error).__name__, message=message, traceback=None)
        kept = job.record.model_copy(update={"timings": record.timings, "environment": record.environment})
        kept.model_copy(update={"status": Status.INVALID, "error": failure}).write(job.attempt_dir / RECORD)


def execute_rank(job: TrainingJob) -> int:
    """Train the cell of `job` as the rank that the environment names; the exit status. It writes no result."""
    ranks = here()
    try:
        _Attempt(job, job.record, ranks, Clock(Heart(None))).run()
    except BaseException as error:
        traceback.print_exc()
        failure = RankFailure(status=kind(error), message=first_lines(error), time=time.time())
        failure.write(job.work_dir, ranks.rank)
        return 1
    return 0


def prepare(job: Job) -> Prepared:
    """Make or verify the data of `job`'s cell."""
    try:
        spec = spec_of(job.cell, task := load_task(job.reference), "cpu")
        data = training.NO_DATA if training.is_untrained(spec) else task.prepare(spec, job.data_dir)
    except Exception as error:
        return Prepared(status=kind(error), message=first_lines(error))
    return Prepared(data=Data(fingerprint=data.fingerprint, counts=dict(data.counts)))
