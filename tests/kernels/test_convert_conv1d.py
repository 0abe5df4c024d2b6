"""GPT-2's linear layers under `convert`: transformers' `Conv1D`. `pytest tests/kernels/test_convert_conv1d.py`"""

import copy

import pytest
import torch
from convert_toys import Compressed, converted
from torch import nn

from nmbench.kernels import SparseLinear, apply_choices, convert, load_converted, registry, save_converted
from nmbench.kernels.registry import Found
from nmbench.sparsity import sparsify

pytestmark = pytest.mark.usefixtures("own_cache")


class Conv1D(nn.Module):
    """As transformers has it: a weight of (in, out)."""

    def __init__(self, outputs, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.1)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


Conv1D.__module__ = "transformers.pytorch_utils"


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = nn.Sequential(Conv1D(32, 16), nn.GELU(), Conv1D(16, 32)).eval()
    sparsify(made, "2:4", "one-shot").finalize()
    return made


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    known = {**registry.backends(), "compressed": Found("compressed", Compressed())}
    monkeypatch.setattr(registry, "backends", lambda: known)


X = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0))


def test_it_runs_as_a_sparse_linear_layer_and_the_model_given_stays(model):
    fast, report = converted(model, X, backends=["compressed"])
    assert [type(module) for module in fast] == [SparseLinear, nn.GELU, SparseLinear]
    assert [row.layers for row in report.rows] == [("0",), ("2",)]
    torch.testing.assert_close(fast(X), model(X))
    assert [type(module) for module in model] == [Conv1D, nn.GELU, Conv1D]


def test_it_travels_in_a_file_and_by_choices(model, tmp_path):
    fast, report = converted(model, X, backends=["compressed"])
    save_converted(tmp_path / "model.safetensors", fast)
    fresh = copy.deepcopy(model)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(load_converted(tmp_path / "model.safetensors", fresh)(X), model(X))
    torch.testing.assert_close(apply_choices(model, report.choices)(X), model(X))


def test_what_would_lose_something_stays(model):
    model[0].register_forward_hook(lambda *_: None)
    tied = nn.Linear(16, 16)
    model.append(tied)
    model.append(Conv1D(16, 16))
    model[4].weight = tied.weight
    fast, report = converted(model, X, backends=["compressed"])
    assert [type(module) for module in fast] == [Conv1D, nn.GELU, SparseLinear, nn.Linear, Conv1D]
    torch.testing.assert_close(fast(X), model(X))
    assert "no sparse kernel for Conv1D" in report.rows[0].reason


def test_a_forward_pass_of_its_own_and_a_weight_that_is_no_parameter_stay(model):
    model[0].forward = lambda x: torch.addmm(model[0].bias, x.view(-1, 16), model[0].weight).view(*x.shape[:-1], -1) + 5
    model.append(Conv1D(16, 16))
    weight = model[3].weight.detach()
    del model[3].weight
    model[3].register_buffer("weight", weight)
    fast, _ = converted(model, X, backends=["compressed"])
    assert [type(module) for module in fast] == [Conv1D, nn.GELU, SparseLinear, Conv1D]
    torch.testing.assert_close(fast(X), model(X))


def test_a_model_that_is_refused_in_place_is_as_it_was():
    dense = nn.Sequential(Conv1D(32, 16), nn.GELU())
    with pytest.raises(ValueError, match="keeps to an N:M pattern"):
        convert(dense, X, inplace=True)
    with pytest.raises(ValueError, match="entry"):
        apply_choices(dense, {"0": {}}, inplace=True)
    assert type(dense[0]) is Conv1D
