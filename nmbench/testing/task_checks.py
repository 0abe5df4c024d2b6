"""The checks of a task that need its training, in this process. The context is a Bench.

Each function is one check; `TASK_CHECKS` is their order, cheap ones first. See nmbench.testing.isolation for those that
need a process of their own.
"""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nmbench.contract.spec import DataError, SkipCell
from nmbench.records import weights as files
from nmbench.testing.battery import Failed, Skip, check
from nmbench.testing.bench import PATTERN, Bench, Trained, digest, weights
from nmbench.worker.failures import first_lines

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TASK_CHECKS"]

#: seconds of processor time that training at smoke scale may take
SMOKE_S = 20.0
_IDLE = 6  # weights that are given a second look, which takes an evaluation each
_DAMAGED = 8  # files of each ending that are damaged at once


@check("declares a smoke scale, models, and distinct metrics with a primary one")
def declarations_are_complete(bench: Bench) -> None:
    task = bench.task
    if "smoke" not in task.scales:
        raise Failed("it declares no scale 'smoke', with which everything here runs")
    names = [metric.name for metric in task.metrics]
    if len(set(names)) < len(names):
        raise Failed(f"two metrics share a name: {', '.join(names)}")
    try:
        json.dumps({name: dict(settings) for name, settings in task.scales.items()})
    except TypeError as error:
        raise Failed(f"the scales are not plain JSON values: {error}") from error
    for scale, model in dict(task.default_models).items():
        if model not in task.models and not task.open_models:
            raise Failed(f"the default model of scale {scale}, {model!r}, is not among its models")
    if task.metrics[0].margin <= 0:
        raise Failed(f"the primary metric {names[0]!r} has no margin: no sparse model could ever be 'not worse'")


@check("prepare() called again changes nothing, and names the same data")
def preparing_again_changes_nothing(bench: Bench) -> None:
    first = bench.data()
    stamps = {path: path.stat().st_mtime_ns for path in bench.data_root.rglob("*") if path.is_file()}
    second = bench.task.prepare(bench.spec(), bench.data_root)
    if second.fingerprint != first.fingerprint:
        raise Failed("the fingerprint of the data differs between two calls of prepare()")
    later = {path: path.stat().st_mtime_ns for path in bench.data_root.rglob("*") if path.is_file()}
    changed = [path.name for path in stamps if later.get(path) != stamps[path] and not path.name.endswith(".lock")]
    if changed:
        raise Failed(f"prepare() wrote again what was whole: {', '.join(sorted(changed)[:3])}")


@check("equal seeds build equal models, other seeds other ones")
def initial_weights_follow_the_seed(bench: Bench) -> None:
    one, again, other = (digest(weights(bench.build(bench.spec(seed)))) for seed in (0, 0, 1))
    if one != again:
        raise Failed("build() gave two different models for one seed")
    if one == other:
        raise Failed("build() gave the same weights for seeds 0 and 1")


@check("every declared metric is returned, finite, and within the range of its unit")
def metrics_are_returned(bench: Bench) -> None:
    found = bench.trained().metrics
    for metric in bench.task.metrics:
        if metric.name not in found:
            raise Failed(f"evaluate() does not return the declared metric {metric.name!r}")
        value = float(found[metric.name])
        if not math.isfinite(value):
            raise Failed(f"the metric {metric.name!r} is {value}")
        if metric.unit == "%" and not 0 <= value <= 100:
            raise Failed(f"the metric {metric.name!r} is {value:g} %")


@check("a model with shuffled weights scores worse on the primary metric")
def shuffled_weights_score_worse(bench: Bench) -> None:
    import torch

    done, metric = bench.trained("dense", "dense"), bench.task.metrics[0]
    model, generator = copy.deepcopy(done.model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            flat = parameter.detach().reshape(-1)
            parameter.copy_(flat[torch.randperm(flat.numel(), generator=generator)].reshape(parameter.shape))
    shuffled = _evaluated(bench, model, done)[metric.name]
    trained = done.metrics[metric.name]
    worse = shuffled < trained if metric.higher_is_better else shuffled > trained
    if math.isfinite(shuffled) and not worse:
        direction = "higher" if metric.higher_is_better else "lower"
        raise Failed(
            f"{metric.name}: {trained:g} trained, {shuffled:g} with shuffled weights, and {direction} is better"
        )


@check("training twice with one seed gives the same weights and metrics")
def equal_seeds_give_equal_results(bench: Bench) -> None:
    one, two = bench.trained(), bench.trained(again=1)
    if one.batches != two.batches:
        raise Failed(f"two trainings of one seed saw other batches, from {_first_difference(one, two)} on")
    if digest(weights(one.model)) != digest(weights(two.model)):
        raise Failed("two trainings of one seed ended with other weights")
    if one.metrics != two.metrics:
        raise Failed(f"two trainings of one seed have other metrics: {one.metrics} and {two.metrics}")


@check("training with another seed gives another result")
def other_seeds_give_other_results(bench: Bench) -> None:
    one, other = bench.trained(), bench.trained(seed=1)
    if one.batches == other.batches:
        raise Failed("the batches of seeds 0 and 1 are the same, augmentation and order included")
    if digest(weights(one.model)) == digest(weights(other.model)):
        raise Failed("seeds 0 and 1 ended with the same weights")


@check("a sparse model and its dense twin start from the same weights and see the same batches")
def twins_see_the_same(bench: Bench) -> None:
    sparse, dense = bench.trained(), bench.trained("dense", "dense")
    if sparse.init != dense.init:
        raise Failed("the initial weights differ between the sparse model and its dense twin")
    if not dense.batches:
        raise Skip("the inputs of the model's forward pass hold no tensors, so batches cannot be compared")
    if sparse.batches != dense.batches:
        raise Failed(f"the twins' batches differ from {_first_difference(sparse, dense)} on")


@check("run.bind() got the optimizer that steps, and run.step() is called once for each of its steps")
def each_optimizer_step_is_told(bench: Bench) -> None:
    done = bench.trained()
    if not done.run.updates:
        raise Failed("train() never called run.step()")
    if not done.handle.steps:
        raise Failed("train() never called run.bind() with the optimizer that steps: the method took no part")
    if done.handle.steps != done.run.updates or done.optimizer_steps != done.run.updates:
        raise Failed(
            f"{done.optimizer_steps} optimizer steps, of which the method saw {done.handle.steps}, "
            f"and {done.run.updates} calls of run.step()"
        )


@check("the weights that the task names are sparse after training, and stay so when saved")
def candidates_end_sparse(bench: Bench) -> None:
    from nmbench.sparsity import audit

    done = bench.trained()
    sparse = [layer for layer in done.handle.layers if layer.sparse]
    if not sparse:
        raise Failed("no weight of the model is sparse: candidates() names none that a 2:4 pattern fits")
    report = audit(done.model, PATTERN, done.handle.layers)
    if not report.ok:
        broken = [layer.name for layer in report.layers if layer.violations]
        raise Failed(f"the pattern {PATTERN} is broken in {', '.join(broken[:3])}")


@check("a pattern with N equal to M trains exactly what dense trains")
def equal_n_and_m_is_dense(bench: Bench) -> None:
    full, dense = bench.trained("4:4", "ste"), bench.trained("dense", "dense")
    if digest(weights(full.model)) != digest(weights(dense.model)):
        raise Failed("4:4, which prunes nothing, ended with other weights than dense")


@check("a training that was stopped and resumed ends with the weights of an uninterrupted one")
def resuming_changes_nothing(bench: Bench) -> None:
    whole = bench.trained()
    total = whole.run.updates
    if total < 4:
        raise Skip(f"{total} steps are too few to stop in between")
    resumed, begun_at = bench.resumed(stop_after=total // 2 + 1, save_after=total // 2)
    if resumed is None:
        raise Failed("training ended before half of its steps")
    if begun_at == 0 and resumed.run.updates == total and resumed.optimizer_steps == total:
        raise Skip(
            "it asks for no resume point (run.checkpoint_due) or reads none, so it starts again from the beginning"
        )
    if resumed.run.updates != total:
        raise Failed(f"the resumed training ended after {resumed.run.updates} steps in all, not {total}")
    if digest(weights(resumed.model)) != digest(weights(whole.model)):
        raise Failed(f"resumed from step {begun_at}, it ended with other weights than the uninterrupted training")


@check("evaluate() leaves weights, modes and random generators as they were")
def evaluating_leaves_no_trace(bench: Bench) -> None:
    done = bench.trained()
    model = done.model
    for module in list(model.modules())[::2]:
        module.training = not module.training  # modes that no plain model.train() would restore
    modes, before, state = [m.training for m in model.modules()], digest(weights(model)), _random_state()
    _evaluated(bench, model, done)
    if digest(weights(model)) != before:
        raise Failed("evaluate() changes weights or buffers")
    if [m.training for m in model.modules()] != modes:
        raise Failed("evaluate() leaves modules in another mode (nmbench.task.evaluating restores each)")
    if _random_state() != state:
        raise Failed("evaluate() draws from the global random generators")


@check("evaluating twice gives the same metrics")
def evaluating_again_gives_the_same(bench: Bench) -> None:
    import torch

    done = bench.trained()
    torch.manual_seed(12345)
    random.seed(12345)
    again = _evaluated(bench, done.model, done)
    if again != done.metrics:
        raise Failed(f"the metrics were {done.metrics} and are {again} the second time")


@check("the metrics do not depend on the evaluation batch size")
def batch_size_does_not_matter(bench: Bench) -> None:
    done = bench.trained()
    setting = "eval_batch"
    if setting not in done.spec.train:
        raise Skip(f"the task has no setting {setting!r}")
    other = copy.copy(done.run)
    size = int(done.spec.train[setting])
    other.spec = bench.spec(**{setting: max(1, size // 3)})
    again = bench.task.evaluate(done.model, other)
    for name, value in done.metrics.items():
        if not math.isclose(value, again[name], rel_tol=1e-3, abs_tol=1e-3):
            raise Failed(f"{name} is {value:g} with {setting} {size} and {again[name]:g} with {max(1, size // 3)}")


@check("every sparse weight takes part in the output of the model that was saved and loaded again")
def sparse_weights_matter(bench: Bench) -> None:
    done = bench.trained()
    model = bench.build(bench.spec())
    path = bench.folder / "saved.safetensors"
    files.save(done.model, path)
    try:
        files.load(model, path)
    except RuntimeError as error:
        raise Failed(f"what it saved does not load into what it builds: {first_lines(error)}") from error
    model.eval()
    inputs = _lively(bench.task.example_inputs(bench.spec()))
    before = _output(model, inputs)
    if not before:
        raise Skip("the output for example_inputs() holds no numbers")
    sparse = [layer.name for layer in done.handle.layers if layer.sparse]
    idle = _idle(model, sparse, lambda: _output(model, inputs) == before)
    # a detector's noise image may never lead into some part of it: the evaluation data decide
    metrics = _evaluated(bench, model, done) if idle else {}
    idle = _idle(model, idle[:_IDLE], lambda: _evaluated(bench, model, done) == metrics)
    if idle:
        raise Failed(f"zeroing {', '.join(idle[:3])} changes nothing: what is evaluated are not these weights")


@check("training at smoke scale takes seconds")
def smoke_is_short(bench: Bench) -> None:
    taken = bench.trained().cpu_s
    if taken > SMOKE_S:
        raise Failed(f"training at smoke scale took {taken:.0f} s of processor time; at most {SMOKE_S:.0f}")


@check("damaged data are made good or refused as DataError, never met with another exception")
def broken_data_are_told(bench: Bench) -> None:
    info = bench.data()
    files: dict[str, list[Any]] = {}
    for path in sorted(info.path.rglob("*")):
        if path.is_file() and path.name != ".lock" and path.stat().st_size > 1:
            files.setdefault(path.suffix, []).append(path)
    if not files or not info.path.resolve().is_relative_to(bench.data_root.resolve()):
        raise Skip("prepare() writes no files below the data folder")
    kept = {path: path.read_bytes() for own in files.values() for path in own[:_DAMAGED]}
    for path, content in kept.items():
        path.write_bytes(content[: len(content) // 2])
    try:
        made_good = bench.task.prepare(bench.spec(), bench.data_root)
        if made_good.fingerprint == info.fingerprint and all(path.read_bytes() == kept[path] for path in kept):
            return
        bench.task.train(bench.build(bench.spec()), _run_on(bench, made_good))
    except (DataError, SkipCell):
        return
    except Exception as error:
        raise Failed(f"files cut in half end in {type(error).__name__}: {str(error).splitlines()[:1]}") from error
    finally:
        for path, content in kept.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    raise Failed(f"{len(kept)} files were cut in half, and prepare() and train() did not notice")


def _run_on(bench: Bench, info: Any) -> Any:
    from nmbench.contract.run import Run

    return Run(bench.spec(), info, None, bench.folder / "work" / "damaged")


def _evaluated(bench: Bench, model: nn.Module, done: Trained) -> dict[str, float]:
    return dict(bench.task.evaluate(model, copy.copy(done.run)))


def _first_difference(one: Trained, two: Trained) -> str:
    for place, (a, b) in enumerate(zip(one.batches, two.batches, strict=False)):
        if a != b:
            return f"forward pass {place + 1}"
    return f"forward pass {min(len(one.batches), len(two.batches)) + 1}, where one of them ends"


def _random_state() -> tuple[Any, ...]:
    import numpy as np
    import torch

    numbers = np.random.get_state(legacy=False)
    return random.getstate(), repr(numbers), numbers["state"]["key"].tobytes(), torch.get_rng_state().numpy().tobytes()


def _idle(model: nn.Module, names: list[str], unchanged: Callable[[], bool]) -> list[str]:
    """Those weights that `unchanged` does not notice while they are zero."""
    import torch

    parameters, found = dict(model.named_parameters()), []
    for name in names:
        kept = parameters[name].detach().clone()
        with torch.no_grad():
            parameters[name].zero_()
            if unchanged():
                found.append(name)
            parameters[name].copy_(kept)
    return found


def _lively(inputs: Any) -> Any:
    """`inputs` with noise in place of tensors that are zero everywhere: those would hide what a weight does."""
    import torch

    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point() and not bool(inputs.any()):
        return torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)).to(inputs.dtype)
    if isinstance(inputs, list | tuple):
        return type(inputs)(_lively(part) for part in inputs)
    return inputs


def _output(model: nn.Module, inputs: tuple[Any, ...]) -> list[float]:
    """A few numbers of everything in the model's output that is a tensor, at any depth."""
    import torch

    numbers: list[float] = []

    def walk(value: Any, depth: int = 0) -> None:
        if isinstance(value, torch.Tensor):
            flat = value.detach().double().reshape(-1)
            numbers.extend([float(flat.numel()), float(flat.nansum()), float(flat.square().nansum())])
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                walk(value[key], depth + 1)
        elif isinstance(value, list | tuple):
            for part in value:
                walk(part, depth + 1)
        elif depth < 8 and hasattr(value, "__dict__"):
            walk(dict(vars(value)), depth + 1)

    with torch.no_grad():
        walk(model(*copy.deepcopy(inputs)))
    return numbers


TASK_CHECKS = (
    declarations_are_complete,
    preparing_again_changes_nothing,
    initial_weights_follow_the_seed,
    metrics_are_returned,
    each_optimizer_step_is_told,
    candidates_end_sparse,
    sparse_weights_matter,
    evaluating_again_gives_the_same,
    evaluating_leaves_no_trace,
    batch_size_does_not_matter,
    shuffled_weights_score_worse,
    twins_see_the_same,
    equal_seeds_give_equal_results,
    other_seeds_give_other_results,
    equal_n_and_m_is_dense,
    resuming_changes_nothing,
    smoke_is_short,
    broken_data_are_told,
)
