"""audit trusts no mask and no handle: it looks at the weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sparsity_toys import convnet, mlp, reference_mask, sgd, train, weights
from torch import nn

from nmbench.sparsity import audit, nm_mask, sparsify
from nmbench.sparsity.audits import groups_over
from nmbench.sparsity.mask import Grouping

METHODS = ["ste", "sr-ste", "one-shot", "asp"]


def finalised(make=convnet, pattern="2:4", method="ste", steps=3, **shape):
    model = make()
    optimizer = sgd(model, lr=0.01)
    handle = sparsify(model, pattern, method)
    handle.bind(optimizer)
    train(model, optimizer, range(steps), **({"shape": (4, 3, 8, 8), "out": 5} if make is convnet else {}))
    handle.finalize()
    return model, handle


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8", "1:16@kernel"])
@pytest.mark.parametrize("method", METHODS)
def test_before_finalize_not_after_it_ok(method, pattern):
    model, optimizer = convnet(), None
    optimizer = sgd(model, lr=0.01)
    handle = sparsify(model, pattern, method)
    handle.bind(optimizer)
    train(model, optimizer, range(2), shape=(4, 3, 8, 8), out=5)
    if method != "one-shot":  # which holds its zeros while it trains
        assert not audit(model, pattern, handle.layers).ok
    handle.finalize()
    report = audit(model, pattern, handle.layers)
    assert report.ok
    assert report.violations == 0
    assert [i.name for i in report.sparse] == [i.name for i in handle.layers if i.sparse]


@pytest.mark.parametrize("name", ["2.weight", "4.weight"])
def test_a_planted_violation_is_found_and_named(name):
    model, handle = finalised()
    assert audit(model, "2:4").ok
    weight = weights(model)[name]
    pruned = (weight == 0).nonzero()[0]
    with torch.no_grad():
        dict(model.named_parameters())[name][tuple(pruned)] = 1e-30
    report = audit(model, "2:4")
    assert not report.ok
    assert {layer.name: layer.violations for layer in report.layers if layer.violations} == {name: 1}
    first = report.layers[0]
    assert (first.role, first.groups, first.density, first.reason.partition(" M")[0]) == (
        *("dense", 0, 1.0),
        "its grouped dimension is 3, below",
    )
    assert not audit(model.state_dict(), "2:4", handle.layers).ok


def test_a_short_group_may_hold_n_like_any_other():
    """6 input channels under 2:4: groups of 4 and 2; in the short one both may stay."""
    weight = torch.tensor([[1.0, 0.0, 2.0, 0.0, 3.0, 4.0]])
    assert audit({"w": weight}, "2:4").ok
    assert not audit({"w": weight}, "1:4").ok
    (line,) = audit({"w": weight}, "1:4").layers
    assert (line.groups, line.violations, line.nonzeros, line.weights) == (2, 2, 4, 6)


def test_counts_and_density():
    model, handle = finalised(mlp)
    report = audit(model, "2:4", handle.layers)
    assert (report.weights, report.nonzeros, report.density) == (144, 72, 0.5)
    first = report.layers[0]
    assert (first.name, first.shape, first.groups, first.density) == ("0.weight", (12, 8), 24, 0.5)


@pytest.mark.parametrize("target", [mlp(), mlp().state_dict()], ids=["model", "state dict"])
@pytest.mark.parametrize("layers", [lambda: ["0"], lambda: "0.weight", lambda: iter(["0.weight"])])
def test_layers_by_name_and_by_iterator(target, layers):
    """An iterator is read once; read twice, it would leave nothing to check and everything would pass."""
    report = audit(target, "2:4", layers())
    assert [layer.name for layer in report.sparse] == ["0.weight"]
    assert not report.ok


@pytest.mark.parametrize("target", [mlp(), mlp().state_dict()], ids=["model", "state dict"])
def test_a_layer_that_is_not_there_is_named(target):
    with pytest.raises(ValueError, match=r"'7\.weight'"):
        audit(target, "2:4", ["7.weight"])


def test_transposed_and_grouped_convolutions_are_checked_along_their_own_reduction():
    model = nn.Sequential(nn.ConvTranspose2d(12, 16, 3, groups=2), nn.Conv2d(16, 16, 3, groups=2))
    handle = sparsify(model, "2:4")
    handle.finalize()
    assert audit(model, "2:4").ok
    assert audit(model.state_dict(), "2:4", handle.layers).ok
    assert not audit(model.state_dict(), "2:4").ok  # without the lines, dimension 1 is taken


@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 3), st.integers(1, 9), st.data())
def test_violations_are_the_groups_that_hold_too_many(rows, size, inner, m, data):
    n = data.draw(st.integers(1, m))
    from nmbench.sparsity import NMPattern

    weight = (torch.rand(rows, size, inner, generator=torch.Generator().manual_seed(size)) < 0.5).float()
    over = sum(
        int(weight[r, s : s + m, i].sum()) > n for r in range(rows) for i in range(inner) for s in range(0, size, m)
    )
    groups = rows * inner * -(-size // m)
    assert groups_over(weight, NMPattern(n, m), Grouping()) == (groups, over)
    assert groups_over(weight * nm_mask(weight, NMPattern(n, m)), NMPattern(n, m), Grouping())[1] == 0
    assert torch.equal(nm_mask(weight, NMPattern(n, m)), reference_mask(weight, n, m))
