"""Where no weight takes the pattern it is said, and nothing is called ok."""

import pytest
import torch
from sparsity_toys import mlp, reference_mask, sgd
from torch import nn
from torch.nn.utils import parametrizations

from nmbench.sparsity import NothingSparseError, Outcome, audit, sparsify
from nmbench.sparsity.attach import is_attached


class Experts(nn.Module):
    """Three fused experts; up lies as (experts, in, out), down as (experts, in, out) too."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(3, 8, 16)), nn.Parameter(torch.randn(3, 16, 8))

    def forward(self, x):
        return torch.relu(x @ self.up) @ self.down


NOTHING = {
    "narrow": (lambda: nn.Sequential(nn.Linear(3, 4)), "its grouped dimension is 3, below M = 4"),
    "LSTM": (lambda: nn.LSTM(16, 16), r"not a convolution or linear weight \(LSTM\)"),
    "experts": (Experts, r"not a convolution or linear weight \(Experts\)"),
    "parametrized": (lambda: parametrizations.weight_norm(nn.Linear(16, 8)), "a parametrization computes the weight"),
    "no matrix": (lambda: nn.BatchNorm2d(4), "no parameter of two or more dimensions"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_sparsify_raises_says_why_and_leaves_the_model_alone(name):
    make, reason = NOTHING[name]
    model = make()
    with pytest.raises(NothingSparseError, match=f"no weight takes 2:4.*{reason}"):
        sparsify(model, "2:4")
    assert not is_attached(model)
    assert not model._forward_pre_hooks


def test_a_rule_that_chooses_nothing_is_an_error_and_an_empty_list_is_not():
    with pytest.raises(NothingSparseError, match=r"0\.weight and 1 more: left out by the choice of layers"):
        sparsify(mlp(), "2:4", layers=lambda name, module: False)
    nothing = {"layers": lambda name, module: False}
    for settings in ({"layers": []}, {"method": "dense", **nothing}, {"empty_ok": True, **nothing}):
        handle = sparsify(mlp(), "2:4", **settings)
        assert not any(line.sparse for line in handle.layers)


def test_an_audit_of_nothing_is_not_ok():
    model = mlp()
    handle = sparsify(model, "1:64", empty_ok=True)
    handle.finalize()
    report = audit(model, "1:64", handle.layers)
    assert (report.ok, report.outcome, report.density) == (False, Outcome.NOTHING, 0.0)
    assert str(report.outcome) == "nothing to check"
    assert audit({"bias": torch.zeros(4)}, "2:4").outcome is Outcome.NOTHING


def test_fused_experts_are_grouped_along_the_dimension_that_is_named(path):
    model = Experts()
    handle = sparsify(model, "2:4", "sr-ste", layers={"up": 1, "dow*": 1}, lambda_w=0.1)
    assert [(i.name, i.grouping.dim) for i in handle.layers] == [("up", 1), ("down", 1)]
    assert torch.equal(handle.masks["up"], reference_mask(model.up, 2, 4))
    optimizer = sgd(model)
    handle.bind(optimizer)
    for _ in range(2):
        model(torch.randn(3, 4, 8)).square().mean().backward()
        optimizer.step()
    output = model(x := torch.randn(3, 4, 8))
    handle.finalize()
    assert torch.equal(model(x), output)
    report = audit(model, "2:4", handle.layers)
    assert (report.ok, report.density) == (True, 0.5)


def test_the_error_for_such_a_weight_says_how_to_name_it():
    with pytest.raises(ValueError, match=r'not a convolution or linear weight \(Experts\); .*layers=\{"up": 1\}'):
        sparsify(Experts(), "2:4", layers=["up"])


@pytest.mark.parametrize("dim", [3, -1, True, "in"])
def test_a_dimension_that_is_not_there_is_refused(dim):
    with pytest.raises(ValueError, match=r"up of shape \(3, 8, 16\) has no dimension"):
        sparsify(Experts(), "2:4", layers={"up": dim})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_setting_that_is_not_finite_is_refused_with_its_name(value):
    with pytest.raises(ValueError, match="lambda_w"):
        sparsify(mlp(), "2:4", "sr-ste", lambda_w=value)
