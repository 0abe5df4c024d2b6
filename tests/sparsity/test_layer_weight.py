"""`layer.weight` is the parameter outside a forward pass, so whatever treats it as torch documents it works."""

import copy

import pytest
import torch
from sparsity_toys import batch, convnet, loss_of, masked, mlp, reference_mask, seen, sgd, train, weights
from torch import nn
from torch.nn.utils import parametrizations, prune

from nmbench.sparsity import audit, sparsify

X = batch(0)[0]


def by_hand(handle, model):
    """The output of `mlp`, from its parameters as they are now."""
    first, second = (masked(handle, name, model) for name in ("0.weight", "2.weight"))
    hidden = torch.tanh(nn.functional.linear(X, first, model[0].bias))
    return nn.functional.linear(hidden, second, model[2].bias)


@pytest.mark.parametrize("method", ["dense", "ste", "sr-ste", "one-shot"])
def test_outside_it_is_the_parameter_and_inside_the_masked_weight(path, method):
    model = mlp()
    handle = sparsify(model, "2:4", method)
    assert model[0].weight is dict(model.named_parameters())["0.weight"]
    inside = seen(model[0])
    assert torch.equal(inside, model[0].weight if method == "dense" else masked(handle, "0.weight"))
    assert isinstance(model[0].weight, nn.Parameter)


def write_by_init(model):
    for layer in (model[0], model[2]):
        nn.init.kaiming_uniform_(layer.weight)
    model[0].reset_parameters()


def write_in_place(model):
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(12, 8))
        model[2].weight.clamp_(-0.1, 0.1)


def write_through_data(model):
    model[0].weight.data += torch.randn(12, 8)
    model[2].weight.data = torch.randn(4, 12)


def write_by_assignment(model):
    model[0].weight = nn.Parameter(torch.randn(12, 8))


def write_by_load_assign(model):
    model.load_state_dict({name: torch.randn(p.shape) for name, p in model.named_parameters()}, assign=True)


WRITES = [write_by_init, write_in_place, write_through_data, write_by_assignment, write_by_load_assign]


@pytest.mark.parametrize("write", WRITES, ids=lambda f: f.__name__)
def test_what_is_written_through_it_is_kept(path, write):
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    before = weights(model)["0.weight"]
    model(X)
    write(model)
    assert not torch.equal(weights(model)["0.weight"], before)
    assert torch.equal(model(X), by_hand(handle, model))


def test_a_plain_tensor_cannot_be_assigned_as_with_any_module():
    model = mlp()
    sparsify(model, "2:4")
    with pytest.raises(TypeError, match="cannot assign"):
        model[0].weight = torch.randn(12, 8)


def test_its_gradient_and_its_norm_are_the_parameters():
    model = mlp()
    sparsify(model, "2:4", "ste")
    loss_of(model, 0).backward()
    assert model[0].weight.is_leaf
    assert model[0].weight.grad is dict(model.named_parameters())["0.weight"].grad is not None
    norm = nn.utils.clip_grad_norm_([model[0].weight, model[2].weight], 0.01)
    assert norm > 0.01
    assert torch.cat([model[i].weight.grad.flatten() for i in (0, 2)]).norm() < 0.0101


@pytest.mark.parametrize("rule", ["isinstance", "identity", "attribute"])
def test_parameter_groups_made_after_it_hold_every_weight(rule):
    model = convnet()
    handle = sparsify(model, "2:4", "ste")
    layers = [m for m in model.modules() if hasattr(m, "weight")]
    if rule == "isinstance":
        decayed = [m.weight for m in layers if isinstance(m.weight, nn.Parameter)]
    elif rule == "identity":
        own = {id(m.weight) for m in layers}
        decayed = [p for p in model.parameters() if id(p) in own]
    else:
        decayed = [m.weight for m in layers]
    optimizer = torch.optim.SGD([{"params": decayed, "weight_decay": 0.1}], lr=0.1)
    handle.bind(optimizer)
    before = weights(model)
    train(model, optimizer, range(2), shape=(4, 3, 8, 8), out=5)
    assert all(not torch.equal(before[k], w) for k, w in weights(model).items() if w.dim() > 1)


@pytest.mark.parametrize("direct", [lambda layer: layer(X), lambda layer: layer.forward(X)])
def test_one_layer_by_itself_is_masked(path, direct):
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    expected = nn.functional.linear(X, masked(handle, "0.weight"), model[0].bias)
    assert torch.equal(direct(model[0]), expected)


def test_a_part_called_by_itself_masks_what_it_reads_of_its_children(path):
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x):
            return nn.functional.linear(x, self.inner.weight, self.inner.bias)

    model = nn.Sequential(Part())
    handle = sparsify(model, "2:4", "ste")
    assert torch.equal(model[0](X), nn.functional.linear(X, masked(handle, "0.inner.weight"), model[0].inner.bias))


REPARAMETRISED = {
    "prune": lambda layer: prune.random_unstructured(layer, "weight", 0.25),
    "spectral_norm": nn.utils.spectral_norm,
    "weight_norm": nn.utils.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
    "parametrized weight_norm": parametrizations.weight_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("name", REPARAMETRISED)
@pytest.mark.parametrize("after", [True, False])
def test_the_mask_follows_the_parameter_where_torch_moves_it(name, after):
    """The product is sparse while it trains, and finalize() changes no output."""
    model = mlp()
    if not after:
        REPARAMETRISED[name](model[0])
    if not after and "parametrized" in name:
        handle = sparsify(model, "2:4", "sr-ste", lambda_w=0.1)
        assert "parametrization" in next(i.reason for i in handle.layers if i.name.startswith("0."))
        return
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=0.1)
    model(X)
    if after:
        REPARAMETRISED[name](model[0])
    optimizer = sgd(model, weight_decay=0.0)
    handle.bind(optimizer)
    seen_products = []
    original = nn.functional.linear

    def linear(x, weight, bias):
        seen_products.append(weight.detach().clone())
        return original(x, weight, bias)

    before = [p.detach().clone() for p in model.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "linear", linear)
        train(model, optimizer, range(4))
    assert handle.steps == 4
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for weight in seen_products:
        assert (weight.reshape(len(weight), -1, 4) != 0).sum(2).max() <= 2
    model.eval()
    expected = model(X)
    handle.finalize()
    torch.testing.assert_close(model(X), expected)
    assert audit(model, "2:4", handle.layers).ok


def test_pruning_that_is_removed_again_leaves_the_weight_masked():
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    prune.random_unstructured(model[0], "weight", 0.25)
    model(X)
    prune.remove(model[0], "weight")
    assert torch.equal(model(X), by_hand(handle, model))
    handle.finalize()
    assert type(model[0]) is nn.Linear
    assert audit(model, "2:4", handle.layers).ok


def test_a_parametrization_that_fills_the_zeros_is_seen_by_the_audit():
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    parametrizations.orthogonal(model[0])
    model(X)
    handle.finalize()
    assert not audit(model, "2:4", handle.layers).ok


def test_data_parallel_is_refused_in_words():
    model = mlp()
    sparsify(model, "2:4")
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        model[0]._replicate_for_data_parallel()  # what nn.DataParallel calls on each module, where there are GPUs


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: torch.optim.swa_utils.AveragedModel(m).module])
def test_a_copy_writes_through_its_own_weight(copied):
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    twin = copied(model)
    with torch.no_grad():
        twin[0].weight.mul_(-3.0)
    expected = weights(twin)["0.weight"] * reference_mask(weights(twin)["0.weight"], 2, 4)
    assert torch.equal(seen(twin[0]), expected)
    assert torch.equal(model(X), by_hand(handle, model))
