"""SR-STE's term is the same, and there once, under mmengine's accumulation, averaging and mixed precision."""

import pytest
import torch
from task_helpers import Interrupted

from nmbench.sparsity import NMPattern, nm_mask
from nmbench_tasks.detection import engine

LAMBDA = 0.5
NAME = "neck.fpn_convs.0.conv.weight"


@pytest.fixture
def scales(monkeypatch):
    """The loss scales of mmengine's AmpOptimWrapper, told that a CPU will do: bfloat16 autocast, a scale of 1024."""
    engine.load()
    from mmengine.optim.optimizer import amp_optimizer_wrapper

    made = []

    def scaler():
        made.append(torch.amp.GradScaler("cpu", init_scale=1024.0))
        return made[-1]

    monkeypatch.setattr(amp_optimizer_wrapper, "is_cuda_available", lambda: True)
    monkeypatch.setattr(amp_optimizer_wrapper, "GradScaler", scaler)
    return made


@pytest.fixture
def mixed(spec_of, config_file):
    """mixed(epochs, **settings): a cell by the recipe of a config that asks for mixed precision itself."""

    def make(epochs, **over):
        optimizer = {"type": "AmpOptimWrapper", "optimizer": {"type": "SGD", "lr": 0.01}}
        name = config_file(
            optim_wrapper=optimizer,
            param_scheduler=[],
            train_cfg={"type": "EpochBasedTrainLoop", "max_epochs": epochs},
        )
        return spec_of(model=name, recipe="config", lr=0, epochs=0, **over)

    return make


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


@pytest.mark.parametrize("over", [{"clip": 1e-3}, {"accumulate": 2, "ema": 0.1}])
def test_the_term_is_added_once_in_units_of_the_mean_loss(attempt, spec_of, over):
    check(attempt, spec_of(epochs=1, model="retinanet-r18-narrow", **over))


def test_and_under_a_loss_scale(attempt, mixed, scales):
    check(attempt, mixed(1, accumulate=2))
    assert [one.get_scale() for one in scales] == [1024.0, 1024.0]


def test_the_loss_scale_is_part_of_a_resume_point(attempt, mixed, scales, save_always):
    spec = mixed(2)

    def beat(step=None, **_):
        if step == 4:
            scales[0].update(64.0)
        if step == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        attempt(spec, beat=beat)
    attempt(spec)
    assert scales[1].get_scale() == 64.0
