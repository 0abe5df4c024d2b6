"""SR-STE's term is the same, and there once, under mmengine's accumulation, averaging and mixed precision.

pytest tests/tasks/detection/test_detection_term.py
"""

from __future__ import annotations

import pytest
import torch

from nmbench.sparsity import NMPattern, nm_mask
from nmbench_tasks.detection import engine, recipe

LAMBDA = 0.5
NAME = "neck.fpn_convs.0.conv.weight"


@pytest.fixture
def mixed_precision_on_cpu(monkeypatch):
    """mmengine's AmpOptimWrapper as it is, told that a CPU will do: bfloat16 autocast and a loss scale of 1024."""
    engine.load()
    from mmengine.optim.optimizer import amp_optimizer_wrapper

    scales = []

    def scaler():
        scales.append(torch.amp.GradScaler("cpu", init_scale=1024.0))
        return scales[-1]

    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, "GradScaler", scaler)
    monkeypatch.setattr(recipe, "_on_gpu", lambda device: True)
    return scales


def gradient_of_first_step(attempt, spec, lambda_w):
    """What the optimizer updates with, the weight before that, and how many steps there were."""
    seen = []

    def watch(model, run):
        bind = run.bind

        def bind_and_look(optimizer):
            bind(optimizer)
            weight = dict(model.named_parameters())[NAME]  # the dense one
            optimizer.register_step_pre_hook(
                lambda *_: seen.append((weight.grad.detach().clone(), weight.detach().clone()))
            )

        run.bind = bind_and_look

    attempt(spec, "sr-ste", f"work-{lambda_w}", watch=watch, lambda_w=lambda_w)
    return seen[0][0], seen[0][1], len(seen)


def check(attempt, spec):
    with_term, weight, steps = gradient_of_first_step(attempt, spec, LAMBDA)
    without, same_weight, _ = gradient_of_first_step(attempt, spec, 0.0)
    assert torch.equal(weight, same_weight)
    assert steps == 3
    kept = nm_mask(weight, NMPattern.parse("2:4"))
    assert torch.allclose(with_term - without, LAMBDA * torch.where(kept, 0.0, weight), atol=1e-6)
    assert without.abs().sum() > 0


@pytest.mark.parametrize("over", [{}, {"accumulate": 2}, {"ema": 0.1}, {"clip": 1e-3}, {"accumulate": 2, "ema": 0.1}])
def test_the_term_is_added_once_in_units_of_the_mean_loss(attempt, spec_of, over):
    check(attempt, spec_of(epochs=1, model="retinanet-r18-narrow", **over))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_and_under_a_loss_scale(attempt, spec_of, mixed_precision_on_cpu, accumulate):
    check(attempt, spec_of(epochs=1, model="retinanet-r18-narrow", amp=True, accumulate=accumulate))
    assert len(mixed_precision_on_cpu) == 2
    assert mixed_precision_on_cpu[0].get_scale() == 1024.0


def test_the_loss_scale_is_part_of_a_resume_point(attempt, spec_of, mixed_precision_on_cpu, save_always):

    spec = spec_of(model="retinanet-r18-narrow", amp=True)

    class Stopped(Exception):
        pass

    def beat(step=None, **_):
        if step == 4:
            mixed_precision_on_cpu[0].update(64.0)
        if step == 5:
            raise Stopped

    with pytest.raises(Stopped):
        attempt(spec, beat=beat)
    attempt(spec)
    assert mixed_precision_on_cpu[1].get_scale() == 64.0
