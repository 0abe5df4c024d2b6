"""The way back to plain classes, bit for bit."""

import copy

import pytest
import torch
from attach_toys import IMAGES, Attention, Tied, bare, everything
from hypothesis import given
from hypothesis import strategies as st
from sparsity_toys import batch, convnet, mlp, reference_mask, sgd, weights
from torch import nn

from nmbench.sparsity import Outcome, audit, sparsify
from nmbench.sparsity.attach import is_attached


@pytest.mark.parametrize("method", ["dense", "ste", "sr-ste", "one-shot", "asp"])
@pytest.mark.parametrize("make", [mlp, convnet, Tied, Attention])
def test_finalize_leaves_plain_classes_without_hooks(make, method):
    model = make()
    before, names = bare(model), everything(model)
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", method)
    handle.bind(optimizer)
    assert bare(model) != before
    assert everything(model) == names
    handle.finalize()
    assert bare(model) == before
    assert everything(model) == names
    assert not is_attached(model)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert type(model) is make().__class__


def test_hooks_of_others_survive():
    model = mlp()
    seen = []
    model.register_forward_hook(lambda *_: seen.append("out"))
    model[0].register_load_state_dict_post_hook(lambda *_: seen.append("load"))
    handle = sparsify(model, "2:4")
    model.register_forward_pre_hook(lambda *_: seen.append("in"))
    handle.finalize()
    model(batch(0)[0])
    model.load_state_dict(model.state_dict())
    assert seen == ["in", "out", "load"]


@pytest.mark.parametrize("method", ["ste", "sr-ste", "one-shot"])
@pytest.mark.parametrize(("make", "x"), [(mlp, batch(0)[0]), (convnet, IMAGES), (Attention, torch.randn(2, 5, 8))])
def test_baked_weights_give_bit_identical_outputs(path, make, x, method):
    model = make().eval()
    handle = sparsify(model, "2:4", method)
    expected = model(x)
    handle.finalize()
    assert torch.equal(model(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)


def test_finalize_twice_does_nothing_and_the_handle_says_that_it_is_over():
    model = mlp()
    handle = sparsify(model, "2:4")
    handle.finalize()
    before = weights(model)
    handle.finalize()
    assert all(torch.equal(before[k], w) for k, w in weights(model).items())
    for call in (handle.step, handle.before_step, handle.refresh, lambda: handle.bind(sgd(model))):
        with pytest.raises(RuntimeError, match="finalised"):
            call()
    assert handle.sad.total == 0


LAYERS = st.lists(st.sampled_from(["linear", "tanh", "norm", "dropout", "nested"]), min_size=1, max_size=5)


def sequential(kinds, width, seed):
    torch.manual_seed(seed)
    made = {
        "linear": lambda: nn.Linear(width, width, bias=seed % 2 == 0),
        "tanh": nn.Tanh,
        "norm": lambda: nn.LayerNorm(width),
        "dropout": nn.Dropout,
        "nested": lambda: nn.Sequential(nn.Linear(width, width), nn.ReLU()),
    }
    return nn.Sequential(*(made[kind]() for kind in kinds)).eval()


@given(
    LAYERS, st.integers(1, 20), st.sampled_from(["2:4", "1:4", "3:8", "1:16@kernel"]), st.integers(0, 99),
    st.sampled_from(["dense", "ste", "sr-ste", "one-shot", "asp"]),
)  # fmt: skip
def test_attach_and_finalize_round_trip(kinds, width, pattern, seed, method):
    model, x = sequential(kinds, width, seed), torch.randn(3, width)
    names, dense, shape = everything(model), weights(model), bare(model)
    handle = sparsify(model, pattern, method, empty_ok=True)
    assert everything(model) == names
    output = model(x)
    handle.finalize()
    assert everything(model) == names
    assert bare(model) == shape
    kept = audit(model, pattern, handle.layers)
    if method == "dense":
        assert all(torch.equal(dense[k], w) for k, w in weights(model).items())
    else:
        assert kept.outcome == (Outcome.OK if kept.sparse else Outcome.NOTHING)
        sparse = {i.name for i in handle.layers if i.sparse}
        p = handle.pattern
        for name, w in weights(model).items():
            expected = dense[name] * reference_mask(dense[name], p.n, p.m, p.axis) if name in sparse else dense[name]
            assert torch.equal(w, expected)
    if method != "asp":  # whose first pass is dense
        assert torch.equal(model(x), output)
