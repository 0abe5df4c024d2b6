"""Training: resume to the bit, one hook call a step, gradient accumulation; and what evaluate leaves alone."""

import math

import pytest
import torch
from task_helpers import Interrupted, interrupt_at, same

from nmbench.run import NonFiniteError
from nmbench.task import DataError
from nmbench_tasks.classification import Classification


def trained(run, built):
    model = built(run.spec)
    Classification().train(model, run)
    return model


def test_a_run_resumed_in_mid_epoch_ends_bit_equal(make_run, spec_of, built, save_always):
    """mobilenet_v2 has dropout: its masks come from the global generator, which a resumed run must set again."""
    spec = spec_of(model="mobilenet_v2")  # six steps an epoch
    whole = make_run(spec, work="whole")
    expected = trained(whole, built)
    with pytest.raises(Interrupted):
        trained(make_run(spec, beat=interrupt_at(9)), built)
    resumed = make_run(spec)
    torch.rand(100)
    assert same(trained(resumed, built), expected)
    assert resumed.curve == whole.curve
    assert resumed.updates == whole.updates == 12
    assert same(trained(make_run(spec, interrupt_at(13)), built), expected), "a finished run is not trained again"


def test_accumulation_averages_over_its_batches(make_run, spec_of, built):
    """Without batch normalisation, two batches of 10 make the step of one batch of 20."""

    def linear(run):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
        Classification().train(model, run)
        return model

    once = linear(make_run(spec_of(batch=20, lr=1e-3), work="once"))
    twice_run = make_run(spec_of(batch=10, accumulate=2, lr=1e-3), work="twice")
    twice = linear(twice_run)
    assert twice_run.updates == 12
    assert torch.allclose(once[1].weight, twice[1].weight, atol=1e-6)
    assert not torch.equal(once[1].weight, built(twice_run.spec).fc.weight)


def test_too_few_images_for_a_step(make_run, spec_of, built):
    with pytest.raises(DataError, match="120 training images"):
        trained(make_run(spec_of(batch=64, accumulate=2)), built)


def test_a_loss_that_is_not_finite_stops_the_run(make_run, spec_of, built):
    with pytest.raises(NonFiniteError):
        trained(make_run(spec_of(lr=1e20)), built)


class Fixed(torch.nn.Module):
    """The same logits for every image."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_metrics_and_the_values_per_example(make_run):
    run = make_run()
    metrics = Classification().evaluate(Fixed([float(9 - c) for c in range(10)]), run)
    assert metrics["top1"] == pytest.approx(10.0)  # the first class is always the answer
    assert metrics["top5"] == pytest.approx(50.0)
    log_sum = math.log(sum(math.exp(c) for c in range(10)))
    assert metrics["loss"] == pytest.approx(log_sum - 4.5, rel=1e-5)
    assert run.per_example["correct"] == [1.0] * 6 + [0.0] * 54  # in data-set order, which is by class


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_equal_or_undefined_logits_are_not_counted_as_right(make_run, value):
    run = make_run()
    metrics = Classification().evaluate(Fixed([value] * 10), run)
    assert metrics["top1"] == metrics["top5"] == 0.0
    assert sum(run.per_example["correct"]) == 0
