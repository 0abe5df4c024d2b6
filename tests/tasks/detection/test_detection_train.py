"""Training through mmengine's Runner: resume to the bit, one callback a step, twins alike, phases, what is left alone.

pytest tests/tasks/detection/test_detection_train.py
"""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from task_helpers import Interrupted, interrupt_at, same

from nmbench.run import NonFiniteError
from nmbench.sparsity import sparsify
from nmbench.task import DataError
from nmbench_tasks.detection import Detection
from nmbench_tasks.detection.configs import ConfigError


# 3 steps an epoch: in the middle of the first epoch, at its end, in the second
@pytest.mark.parametrize(
    ("method", "update", "over"),
    [
        ("dense", 2, {}),
        ("sr-ste", 4, {}),
        ("sr-ste", 5, {"accumulate": 2, "ema": 0.1}),
        ("one-shot", 4, {"model": "retinanet-r18-narrow"}),
        ("sr-ste", 4, {"task": "segmentation"}),
        ("sr-ste", 4, {"recipe": "config", "model": "CONFIG", "lr": 1e-3}),
    ],
)
def test_a_killed_run_goes_on_and_ends_bit_equal(attempt, spec_of, save_always, config_file, method, update, over):
    if over.get("model") == "CONFIG":
        over = over | {"model": config_file()}
    spec = spec_of(**over)
    expected, handle, whole = attempt(spec, method, "whole")
    assert whole.updates == 6
    with pytest.raises(Interrupted):
        attempt(spec, method, beat=interrupt_at(update))
    torch.rand(100)
    resumed, again, run = attempt(spec, method)
    assert same(resumed, expected)
    assert run.curve == whole.curve  # losses and learning rates
    assert run.updates == 6
    assert again.sad.history == handle.sad.history
    assert again.steps == handle.steps == 6


def test_a_schedule_in_iterations_goes_on_too(attempt, spec_of, save_always, config_file):
    """mmengine's IterBasedTrainLoop knows no epochs: 7 steps of 3 an epoch."""
    name = config_file(train_cfg={"type": "IterBasedTrainLoop", "max_iters": 7})
    spec = spec_of(recipe="config", model=name, lr=1e-3, epochs=0)
    expected, _, whole = attempt(spec, work="whole")
    assert whole.updates == 7
    with pytest.raises(Interrupted):
        attempt(spec, beat=interrupt_at(5))
    resumed, _, run = attempt(spec)
    assert same(resumed, expected)
    assert run.curve == whole.curve


def test_a_finished_run_is_not_trained_again(attempt, save_always):
    expected, *_ = attempt()
    again, *_ = attempt(beat=interrupt_at(7))
    assert same(again, expected)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_step_callback_comes_once_an_optimizer_step(attempt, spec_of, accumulate):
    seen = []

    def watch(model, run):
        bind = run.bind

        def note(optimizer):
            assert isinstance(optimizer, torch.optim.AdamW)
            optimizer.register_step_post_hook(lambda *_: seen.append("optimizer"))
            bind(optimizer)

        run.bind = note

    def beat(step=None, total=None, **_):
        if step:
            assert total == 6
            seen.append("run")

    _, handle, run = attempt(spec_of(accumulate=accumulate), beat=beat, watch=watch)
    assert seen == ["optimizer", "run"] * 6
    assert handle.steps == run.updates == len(handle.sad.history) == 6
    assert handle.sad.total > 0


def test_a_schedule_of_the_method_is_followed_at_each_step(attempt):
    """one-shot at 4: dense for four steps, then the mask is held; so nothing flips after it."""
    model, handle, _ = attempt(method="one-shot", at=4)
    assert sum(handle.sad.history[4:]) == 0
    handle.finalize()
    weight = dict(model.named_parameters())["backbone.layer2.0.conv2.weight"]
    assert (weight == 0).float().mean() == pytest.approx(0.5, abs=0.01)


def test_the_runner_does_not_initialise_again(attempt, spec_of):
    """With a learning rate of zero nothing but batch statistics may change."""
    seen = {}
    spec = spec_of(recipe="task", lr=0.0, weight_decay=0.0)
    model, *_ = attempt(spec, "dense", watch=lambda model, run: seen.update(copy.deepcopy(model).state_dict()))
    after = dict(model.named_parameters())
    assert all(torch.equal(seen[name], after[name]) for name in after)


def test_workers_do_not_change_the_result(attempt, spec_of):
    none, *_ = attempt(spec_of(epochs=1), work="none")
    two, *_ = attempt(spec_of(epochs=1, workers=2), work="two")
    assert same(none, two)


def test_the_loss_falls(attempt, spec_of):
    """The same six images again and again."""
    _, _, run = attempt(spec_of(epochs=6))
    losses = [loss for loss, _ in run.curve]
    assert sum(losses[-6:]) < 0.8 * sum(losses[:6])


def test_the_learning_rate_warms_up_and_ends_near_zero(attempt, spec_of):
    _, _, run = attempt(spec_of(epochs=4, lr=1e-3, warmup_epochs=1.0))
    rates = [rate for _, rate in run.curve]
    assert rates[0] == pytest.approx(1e-3 / 4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) == 2
    assert rates[-1] < 1e-4


def test_it_leaves_the_model_as_it_was_built(attempt, built, spec_of):
    model, handle, _ = attempt()
    handle.finalize()
    plain = built(spec_of())
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]
    copy.deepcopy(model)


def test_everything_that_is_written_lies_in_the_checkpoint_folder(attempt, save_always, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["phase-0"]


def test_frozen_layers_stay_as_they_were_and_dense(attempt, spec_of, config_file, built):
    name = config_file(frozen_stages=1)
    spec = spec_of(model=name)
    before = built(spec).state_dict()
    frozen = {"backbone.conv1.weight", "backbone.layer1.0.conv1.weight", "backbone.layer1.1.conv2.weight"}
    model, handle, run = attempt(spec)
    after = dict(model.named_parameters())
    assert {n for n in frozen if torch.equal(after[n], before[n])} == frozen
    assert not any(after[name].requires_grad for name in frozen)
    assert not torch.equal(after["backbone.layer2.0.conv1.weight"], before["backbone.layer2.0.conv1.weight"])
    roles = {layer.name: layer.role for layer in handle.layers}
    assert {roles[name] for name in frozen} == {"dense"}
    assert roles["backbone.layer2.0.conv1.weight"] == "sparse"
    assert any("5 frozen weights" in note for note in run.notes)


def test_the_averaged_weights_are_what_is_left(attempt, spec_of):
    """mmengine's average begins as the weights after the first step; with hardly any momentum it stays there."""
    name = "backbone.layer2.0.conv2.weight"
    models, first = [], []

    def beat(step=None, **_):
        if step == 1:
            first.append(dict(models[-1].named_parameters())[name].detach().clone())

    def watch(model, run):
        models.append(model)

    averaged, _, _ = attempt(spec_of(ema=1e-9), "dense", beat=beat, watch=watch)
    plain, _, _ = attempt(spec_of(), "dense", "plain", beat=beat, watch=watch)
    assert torch.equal(first[0], first[1])
    assert torch.allclose(averaged.state_dict()[name], first[0], atol=1e-6)
    assert not torch.allclose(plain.state_dict()[name], first[0], atol=1e-3)


def test_asp_trains_twice(run_of, built, spec_of):
    spec = spec_of(epochs=1)
    model = built(spec)
    handle = sparsify(model, "2:4", "asp", layers=list(Detection().candidates(model)))
    for phase in range(2):
        handle.start_phase(phase)
        run = run_of(spec, f"work{phase}", handle)
        Detection().train(model, run)
        assert run.updates == 3
    assert handle.steps == 6
    weight = dict(model.named_parameters())["backbone.layer1.0.conv2.weight"]
    assert (weight == 0).float().mean() == pytest.approx(0.5)


def test_a_loss_that_is_not_finite_stops_the_run(attempt, spec_of):
    with pytest.raises((NonFiniteError, ValueError), match=r"nan|NaN|inf"):
        attempt(spec_of(lr=1e30, clip=1e30), "dense")


@pytest.mark.parametrize(
    ("over", "error", "text"),
    [
        ({"batch": 8}, DataError, "6 training images"),
        ({"batch": 3, "accumulate": 2}, ConfigError, "shared evenly"),
        ({"recipe": "config"}, ConfigError, "set recipe = 'task'"),
    ],
)
def test_settings_that_cannot_be(attempt, spec_of, over, error, text):
    with pytest.raises(error, match=text):
        attempt(spec_of(**over))


def test_training_leaves_no_trace_of_setting_up_in_the_generators(attempt, spec_of):
    """The first draw of training is the same whatever was drawn before."""
    draws = []

    def watch(model, run):
        random.seed(len(draws))
        np.random.seed(len(draws))
        torch.manual_seed(len(draws))
        model.register_forward_pre_hook(
            lambda *_: draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
        )

    attempt(spec_of(epochs=1), work="a", watch=watch)
    attempt(spec_of(epochs=1), work="b", watch=watch)
    assert draws[:3] == draws[3:]
