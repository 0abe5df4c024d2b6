"""A forward pass never uses a mask of other weights than the current ones, and never makes more masks than it must."""

import pytest
import torch
from sparsity_toys import batch, loss_of, masked, mlp, reference_mask, seen, sgd, train, weights
from torch import nn

from nmbench.sparsity import sparsify
from nmbench.sparsity.fast import native as _native
from nmbench.sparsity.weight import SparseWeight

X = batch(0)[0]


class Often(nn.Module):
    """One layer that runs 12 times in a forward pass, as in an iterative estimator."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        for _ in range(12):
            x = torch.tanh(self.cell(x))
        return self.head(x)


def expected(model):
    """What the network must give: by hand, from the parameters as they are now."""
    w = weights(model)
    for name in ("0.weight", "2.weight"):
        w[name] = w[name] * reference_mask(w[name], 2, 4)
    x = X.to(w["0.weight"].dtype)
    hidden = torch.tanh(nn.functional.linear(x, w["0.weight"], w["0.bias"]))
    return nn.functional.linear(hidden, w["2.weight"], w["2.bias"])


def fresh(model, seed=7):
    """Other values for every parameter, as a weight average would be."""
    made = torch.Generator().manual_seed(seed)
    return {n: torch.randn(p.shape, generator=made).to(p.dtype) for n, p in model.named_parameters()}


def copy_through_data(model):
    for name, value in fresh(model).items():
        dict(model.named_parameters())[name].data.copy_(value)


def swap_pointers(model):
    for name, value in fresh(model).items():
        dict(model.named_parameters())[name].data = value


def edit_in_place(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))


def edit_one_element_through_data(model):
    weight = dict(model.named_parameters())["0.weight"]
    weight.data[-1, -1] = 9.0


def permute_through_data(model):
    """The same numbers in other places: a sum of the weights would not see it."""
    weight = dict(model.named_parameters())["0.weight"]
    weight.data.copy_(weight.detach().flip(1))


def load_root(model):
    model.load_state_dict(fresh(model))


def load_submodule(model):
    model[0].load_state_dict({k.removeprefix("0."): v for k, v in fresh(model).items() if k.startswith("0.")})


def load_assign(model):
    model.load_state_dict(fresh(model), assign=True)


def replace_parameter(model):
    model[0].weight = nn.Parameter(fresh(model)["0.weight"])


def initialise(model):
    nn.init.kaiming_uniform_(model[0].weight)
    model[2].reset_parameters()


def forgotten_step(model):
    """An optimizer that was never bound, and nobody calls step()."""
    optimizer = sgd(model, lr=1.0)
    train(model, optimizer, range(2))


CHANGES = [
    *(copy_through_data, swap_pointers, edit_in_place, edit_one_element_through_data, permute_through_data),
    *(load_root, load_submodule, load_assign, replace_parameter, initialise, forgotten_step),
]


@pytest.mark.parametrize("mode", ["train", "eval", "train, then eval()", "no_grad", "inference_mode"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_forward_pass_after_a_change(path, change, mode):
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    model.train(mode != "eval")
    grad = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}.get(mode, torch.enable_grad)
    before = weights(model)
    for _ in range(2):
        with grad():
            model(X)
    change(model)
    assert any(not torch.equal(before[k], w) for k, w in weights(model).items())
    if mode == "train, then eval()":
        model.eval()
    for _ in range(2):
        with grad():
            assert torch.equal(model(X), expected(model))
    assert all(torch.equal(m, reference_mask(weights(model)[k], 2, 4)) for k, m in handle.masks.items())


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_there_and_back(path, change):
    """An average is swapped in for evaluation, and out again for training."""
    model = mlp()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", "ste")
    handle.bind(optimizer)
    train(model, optimizer, range(2))
    own = {n: p.detach().clone() for n, p in model.named_parameters()}
    change(model)
    with torch.no_grad():
        assert torch.equal(model(X), expected(model))
        for name, parameter in model.named_parameters():
            parameter.data.copy_(own[name])
        assert torch.equal(model(X), expected(model))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_dtype(path, dtype):
    model = mlp()
    sparsify(model, "2:4", "ste")
    model(X)
    model.to(dtype=dtype)
    assert model(X.to(dtype)).dtype == dtype
    assert torch.equal(model(X.to(dtype)), expected(model))


def test_a_change_between_two_uses_in_one_forward_is_seen(path):
    """An in-place edit in the middle of a forward pass, as spectral normalisation would make."""

    class Editing(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(8, 8)

        def forward(self, x):
            first = self.cell(x)
            with torch.no_grad():
                self.cell._parameters["weight"].mul_(-2.0).add_(0.1)
            return first, self.cell(x)

    model = Editing()
    handle = sparsify(model, "2:4", "ste")
    _, second = model(X)
    assert torch.equal(second, nn.functional.linear(X, masked(handle, "cell.weight"), model.cell.bias))


def test_held_masks_stay_through_a_swap_and_follow_a_load():
    model = mlp()
    handle = sparsify(model, "2:4", "one-shot")
    held = {k: m.clone() for k, m in handle.masks.items()}
    copy_through_data(model)
    w = weights(model)
    x = torch.tanh(nn.functional.linear(X, w["0.weight"] * held["0.weight"], w["0.bias"]))
    assert torch.equal(model(X), nn.functional.linear(x, w["2.weight"] * held["2.weight"], w["2.bias"]))
    load_root(model)
    assert torch.equal(handle.masks["0.weight"], reference_mask(fresh(model)["0.weight"], 2, 4))


# -- at most once ---------------------------------------------------------------------------------------------------
needs_native = pytest.mark.skipif(_native.library() is None, reason="without the compiled pass, once a forward")


@needs_native
@pytest.mark.parametrize("pattern", ["2:4", "1:16@kernel"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_one_mask_a_step_however_often_the_layer_runs(accumulate, pattern):
    model = Often()
    optimizer = sgd(model)
    handle = sparsify(model, pattern, "sr-ste")
    handle.bind(optimizer)
    start = dict(handle.mask_updates)
    for step in range(4):
        optimizer.zero_grad()
        for part in range(accumulate):
            loss_of(model, 10 * step + part).backward()
        with torch.no_grad():
            model(X)
        optimizer.step()
    assert {k: n - start[k] for k, n in handle.mask_updates.items()} == dict.fromkeys(start, 4)


@needs_native
@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last), "2:4"),
        (lambda: nn.Conv2d(8, 8, 3).to(memory_format=torch.channels_last), "2:4@kernel"),
        (lambda: nn.ConvTranspose2d(8, 8, 3).to(memory_format=torch.channels_last), "2:4"),
    ],
)
def test_one_mask_a_step_in_every_memory_format(make, pattern):
    model = nn.Sequential(make())
    handle = sparsify(model, pattern, "ste")
    start = handle.mask_updates["0.weight"]
    for _ in range(5):
        model(torch.randn(1, 8, 5, 5))
    assert handle.mask_updates["0.weight"] == start
    model[0]._parameters["weight"].data.mul_(torch.randn(8, 8, 3, 3))
    assert torch.equal(seen(model[0]), masked(handle, "0.weight"))


def test_without_the_compiled_pass_one_mask_a_forward_and_one_a_step(monkeypatch):
    monkeypatch.setattr(_native, "library", lambda: None)
    model = Often()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", "sr-ste")
    handle.bind(optimizer)
    start = dict(handle.mask_updates)
    train(model, optimizer, range(4))
    assert {k: n - start[k] for k, n in handle.mask_updates.items()} == dict.fromkeys(start, 8)


def counted(monkeypatch):
    made = []
    original = SparseWeight.masked

    def masked(self, *args):
        made.append(self.name)
        return original(self, *args)

    monkeypatch.setattr(SparseWeight, "masked", masked)
    return made


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("method", ["ste", "one-shot"])
def test_one_masked_weight_a_forward(path, monkeypatch, grad, method):
    model = Often()
    sparsify(model, "2:4", method)
    made = counted(monkeypatch)
    for _ in range(3):
        made.clear()
        with torch.set_grad_enabled(grad):
            model(X)
        assert sorted(made) == ["cell.weight", "head.weight"]


def test_tied_layers_make_one_masked_weight(monkeypatch):
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    model[2].weight = model[0].weight
    sparsify(model, "2:4", "ste")
    made = counted(monkeypatch)
    model(X)
    assert made == ["0.weight"]


def test_a_masked_weight_that_is_held_is_not_overwritten(path):
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    with torch.no_grad():
        kept = seen(model[0])
        copied = kept.clone()
        edit_in_place(model)
        model(X)
        assert torch.equal(kept, copied)
        assert torch.equal(seen(model[0]), masked(handle, "0.weight"))
