"""Training through mmengine's Runner: resume to the bit, twins alike, what is left alone."""

import copy

import pytest
import torch
from task_helpers import Interrupted, interrupt_at, same

from nmbench.run import NonFiniteError
from nmbench.task import DataError
from nmbench_tasks.detection.configs import ConfigError


# 3 steps an epoch: in the middle of the first epoch, at its end, in the second
# 3 steps an epoch: 7 of a schedule in iterations, mmengine's IterBasedTrainLoop, which knows no epochs
@pytest.mark.parametrize(
    ("over", "update", "steps"),
    [
        ({"accumulate": 2, "ema": 0.1}, 5, 6),
        ({"task": "segmentation"}, 4, 6),
        ({"recipe": "config", "lr": 1e-3, "epochs": 0}, 5, 7),
    ],
)
def test_a_killed_run_goes_on_and_ends_bit_equal(attempt, spec_of, save_always, config_file, over, update, steps):
    if "recipe" in over:
        over = over | {"model": config_file(train_cfg={"type": "IterBasedTrainLoop", "max_iters": 7})}
    spec = spec_of(**over)
    expected, handle, whole = attempt(spec, work="whole")
    with pytest.raises(Interrupted):
        attempt(spec, beat=interrupt_at(update))
    torch.rand(100)
    resumed, again, run = attempt(spec)
    assert same(resumed, expected)
    assert run.curve == whole.curve  # losses and learning rates
    assert again.sad.history == handle.sad.history
    assert again.steps == handle.steps == run.updates == whole.updates == steps
    assert same(attempt(spec, beat=interrupt_at(steps + 1))[0], expected), "a finished run is not trained again"


def test_the_runner_does_not_initialise_again(attempt, spec_of):
    """With a learning rate of zero nothing but batch statistics may change."""
    seen = {}
    spec = spec_of(recipe="task", lr=0.0, weight_decay=0.0)
    model, *_ = attempt(spec, "dense", watch=lambda model, run: seen.update(copy.deepcopy(model).state_dict()))
    after = dict(model.named_parameters())
    assert all(torch.equal(seen[name], after[name]) for name in after)


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
