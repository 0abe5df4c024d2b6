"""What is given wrongly is said on one line, before anything is pruned."""

import warnings

import numpy as np
import pytest
import torch
from pruning_toys import Images, images, made
from torch import nn

from nmbench.sparsity import NothingSparseError, sparsify
from nmbench.sparsity.permutation import permute
from nmbench.sparsity.pruning import CalibrationError, Pruner, prune


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))


NAN = torch.tensor([[1.0, float("nan")] * 4])

CALIBRATION = {
    "none": (None, "pruner 'wanda' needs calibration data"),
    "no batch": ([], "0 batches without one example"),
    "no example": ([torch.zeros(0, 8)], "1 batches without one example"),
    "NaN": ([torch.zeros(2, 8), NAN], "batch 1 holds NaN or infinity"),
    "no iterable": (3, "an iterable of batches is wanted, not 3"),
    "other width": ([torch.zeros(2, 9)], r"batch 0 does not fit the model \(RuntimeError: .*forward=lambda"),
    "labels beside": ([(torch.zeros(2, 8), torch.zeros(2))], "batch 0 does not fit the model"),
    "numpy": ([np.ones((2, 8), np.float32)], "batches of torch tensors are wanted, not of ndarray"),
    "a later batch": ([torch.ones(2, 8), torch.zeros(2, 9)], "batch 1 does not fit the model"),
}


@pytest.mark.parametrize("case", CALIBRATION)
def test_calibration_that_cannot_be_used(case):
    data, message = CALIBRATION[case]
    model = small()
    before = model[0].weight.clone()
    with pytest.raises(CalibrationError, match=message) as caught:
        prune(model, "2:4", "wanda", data)
    assert "\n" not in str(caught.value)
    assert torch.equal(model[0].weight, before)


def test_inputs_of_a_layer_that_overflow_are_named():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2))
    nn.init.constant_(model[0].weight, 1e30)
    with pytest.raises(CalibrationError, match=r"^1\.weight: what the calibration data give it holds NaN or infinity$"):
        prune(model, "2:4", "wanda", torch.full((2, 8), 1e10))


def test_a_pruner_with_gradients_wants_a_loss():
    with pytest.raises(CalibrationError, match="the model's output is no loss, and this pruner needs gradients"):
        prune(small(), "2:4", "pruner-zero", torch.randn(4, 8))
    with pytest.raises(CalibrationError, match=r"batch 0 gives no loss \(KeyError: 'x'\)"):
        prune(small(), "2:4", "pruner-zero", torch.randn(4, 8), loss=lambda model, batch: {}["x"])
    loss = {"loss": lambda model, batch: model(batch).sum()}
    assert prune(small(), "2:4", "pruner-zero", torch.randn(4, 8), **loss).audit.ok


def test_a_singular_hessian_is_said_once_for_all_layers():
    model = made(Images)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = prune(model, "2:4", "sparsegpt", images(1)[0][:1], damp=0.0)
    said = [str(w.message) for w in caught if "singular" in str(w.message)]
    assert len(said) == 1
    assert "and" in said[0]
    assert "is singular, so it was damped by" in said[0]
    assert sum(layer.damp is not None for layer in report.layers) > 1
    assert report.audit.ok


def test_a_pruner_that_makes_nan_is_stopped():
    class Broken(Pruner):
        name = "broken"

        def prune(self, weight, stats, columns):
            return weight / 0 * 0, weight > 0

    with pytest.raises(ValueError, match=r"^0\.weight: pruner 'broken' made a weight that is NaN or infinite$"):
        prune(small(), "2:4", Broken(), torch.randn(4, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pattern": "5:4"}, "N must lie between 1 and M"),
        ({"pruner": "wander"}, "unknown pruner 'wander'; did you mean 'wanda'"),
        ({"damp": 1}, "pruner 'wanda' has no setting 'damp'"),
        ({"layers": ["1"]}, "'1' names no convolution or linear weight"),
        ({"blocks": ["body"]}, "blocks: 'body' is no part of it"),
        ({"blocks": [nn.Linear(2, 2)]}, "blocks: 'Linear' is no part of it"),
    ],
)
def test_other_arguments(arguments, message):
    given = {"pattern": "2:4", "pruner": "wanda", "calibration": torch.randn(4, 8), **arguments}
    with pytest.raises(ValueError, match=message):
        prune(small(), **given)


def test_a_model_that_takes_no_pattern_or_is_attached():
    with pytest.raises(NothingSparseError, match=r"no weight takes 2:16\. 0\.weight: its grouped dimension is 8"):
        prune(small(), "2:16", "wanda", torch.randn(4, 8))
    model = small()
    sparsify(model, "2:4")
    with pytest.raises(ValueError, match="finalize"):
        prune(model, "2:4", "magnitude")


@pytest.mark.parametrize("pruner", [None, object()])
def test_what_is_no_pruner(pruner):
    with pytest.raises(ValueError, match="the name of one, or a Pruner, is wanted"):
        prune(small(), "2:4", pruner, [torch.ones(2, 8)])


def test_inputs_that_a_permutation_cannot_be_traced_with():
    with pytest.raises(ValueError, match="the model does not take the example inputs"):
        permute(small(), "2:4", torch.zeros(2, 9))
