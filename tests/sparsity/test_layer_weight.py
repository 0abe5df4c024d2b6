"""`layer.weight` is the parameter outside a forward pass, so whatever treats it as torch documents it works."""

import pytest
import torch
from sparsity_toys import batch, convnet, loss_of, masked, mlp, seen, sgd, train, weights
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
