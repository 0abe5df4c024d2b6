"""The checks of a task's evaluation. Each function is one check; the context is a Bench."""

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nmbench._util.errors import first_line
from nmbench.records import weights as files
from nmbench.testing.battery import Failed, Skip, check, collected
from nmbench.testing.bench import Bench, Trained, digest, drawn, generators, weights

__all__ = ["EVALUATION_CHECKS"]

_IDLE = 6  # weights that are given a second look, which takes an evaluation each


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


@check("every sparse weight takes part in the output of the model that was saved and loaded again")
def sparse_weights_matter(bench: Bench) -> None:
    done = bench.trained()
    model = bench.build(bench.spec())
    path = bench.folder / "saved.safetensors"
    files.save(done.model, path)
    try:
        files.load(model, path)
    except RuntimeError as error:
        raise Failed(f"what it saved does not load into what it builds: {first_line(error)}") from error
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


@check("evaluating twice gives the same metrics")
def evaluating_again_gives_the_same(bench: Bench) -> None:
    done = bench.trained()
    torch.manual_seed(12345)
    random.seed(12345)
    again = _evaluated(bench, done.model, done)
    if again != done.metrics:
        raise Failed(f"the metrics were {done.metrics} and are {again} the second time")


@check("evaluate() leaves weights, modes and random generators as they were")
def evaluating_leaves_no_trace(bench: Bench) -> None:
    done = bench.trained()
    model = done.model
    for module in list(model.modules())[::2]:
        module.training = not module.training  # modes that no plain model.train() would restore
    modes, before, state = [m.training for m in model.modules()], digest(weights(model)), generators()
    _evaluated(bench, model, done)
    if digest(weights(model)) != before:
        raise Failed("evaluate() changes weights or buffers")
    if [m.training for m in model.modules()] != modes:
        raise Failed("evaluate() leaves modules in another mode (nmbench.task.evaluating restores each)")
    if draws := drawn(state):
        raise Failed(f"evaluate() draws from the global generator of {', '.join(draws)}")


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


@check("a model with shuffled weights scores worse on the primary metric")
def shuffled_weights_score_worse(bench: Bench) -> None:
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


def _evaluated(bench: Bench, model: nn.Module, done: Trained) -> dict[str, float]:
    return dict(bench.task.evaluate(model, copy.copy(done.run)))


def _idle(model: nn.Module, names: list[str], unchanged: Callable[[], bool]) -> list[str]:
    """Those weights that `unchanged` does not notice while they are zero."""
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
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point() and not bool(inputs.any()):
        return torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0)).to(inputs.dtype)
    if isinstance(inputs, list | tuple):
        return type(inputs)(_lively(part) for part in inputs)
    return inputs


def _output(model: nn.Module, inputs: tuple[Any, ...]) -> list[float]:
    """A few numbers of everything in the model's output that is a tensor, at any depth."""
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


EVALUATION_CHECKS = collected(globals())
