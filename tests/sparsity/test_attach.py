"""A sparse model is the same model: names, keys, copies and pickles."""

import copy
import io

import pytest
import torch
from attach_toys import IMAGES, Attention, Tied, everything, plain_twin
from sparsity_toys import batch, convnet, loss_of, masked, mlp, reference_mask, sgd, train, weights
from torch import nn

from nmbench.sparsity import sparsify
from nmbench.sparsity.attach import is_attached, weights_of


# -- names and keys -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [mlp, convnet, Attention, Tied])
@pytest.mark.parametrize("method", ["dense", "sr-ste", "one-shot"])
def test_names_order_keys_and_objects_are_unchanged(make, method):
    model = make()
    before = everything(model)
    handle = sparsify(model, "2:4", method)
    assert everything(model) == before
    handle.finalize()
    assert everything(model) == before


def test_the_outputs_are_those_of_the_masked_weights(path):
    for model, x in (
        (mlp(), batch(0)[0]),
        (convnet(), IMAGES),
        (Attention(), torch.randn(2, 5, 8)),
        (Tied(), batch(0)[0]),
    ):
        handle = sparsify(model, "2:4", "ste")
        assert torch.equal(model(x), plain_twin(handle, model)(x))


def test_a_dense_checkpoint_loads_into_a_sparse_model_and_back(tmp_path):
    dense, other = mlp(1), mlp(2)
    handle = sparsify(other, "2:4", "ste")
    torch.save(dense.state_dict(), tmp_path / "dense.pt")
    assert other.load_state_dict(torch.load(tmp_path / "dense.pt")) == ([], [])
    assert torch.equal(other(batch(0)[0]), plain_twin(handle, dense)(batch(0)[0]))
    torch.save(other.state_dict(), tmp_path / "sparse.pt")
    back = mlp(3)
    back.load_state_dict(torch.load(tmp_path / "sparse.pt"))
    assert torch.equal(back(batch(0)[0]), dense(batch(0)[0]))


def test_optimizer_groups_and_state_are_those_of_the_dense_model():
    dense, sparse = mlp(), mlp()
    od, os_ = torch.optim.Adam(dense.parameters()), torch.optim.Adam(sparse.parameters())  # made before sparsify
    handle = sparsify(sparse, "2:4", "ste")
    handle.bind(os_)
    train(dense, od, range(2))
    od2 = torch.optim.Adam(sparse.parameters())
    od2.load_state_dict(od.state_dict())
    assert [len(g["params"]) for g in od2.param_groups] == [4]
    assert all(a is b for a, b in zip(os_.param_groups[0]["params"], sparse.parameters(), strict=True))


def test_param_groups_keep_their_settings():
    """No weight decay on biases, a smaller rate on one layer: groups by name work as before, and each gets its term."""
    model = mlp()
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=1.0)
    named = dict(model.named_parameters())
    optimizer = torch.optim.SGD(
        [{"params": [named["0.weight"]], "lr": 0.1}, {"params": [named["2.weight"]], "lr": 0.01}], lr=1.0
    )
    handle.bind(optimizer)
    before = weights(model)
    (loss_of(model, 0) * 0).backward()
    optimizer.step()
    for name, lr in (("0.weight", 0.1), ("2.weight", 0.01)):
        torch.testing.assert_close(
            weights(model)[name], before[name] * (1 - lr * ~reference_mask(before[name], 2, 4)), rtol=1e-6, atol=1e-7
        )


# -- copies and pickles ---------------------------------------------------------------------------------------------
def saved_and_loaded(model):
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, saved_and_loaded])
@pytest.mark.parametrize("method", ["dense", "sr-ste", "one-shot"])
@pytest.mark.parametrize("make", [mlp, Tied])
def test_a_copy_evaluates_the_same_and_stands_alone(copied, method, make):
    model = make()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", method)
    handle.bind(optimizer)
    out = 8 if make is Tied else 4
    train(model, optimizer, range(2), out=out)
    x = batch(0)[0]
    expected = model(x)
    twin = copied(model)
    assert is_attached(twin)
    assert torch.equal(twin(x), expected)
    assert not {id(w) for w in weights_of(twin)} & {id(w) for w in weights_of(model)}
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in model.parameters()}
    train(model, optimizer, range(2, 5), out=out)  # the original moves on ...
    assert torch.equal(twin(x), expected)
    changed = model(x)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert torch.equal(model(x), changed)  # ... and so does the copy
    assert not torch.equal(twin(x), expected)


def test_a_copy_of_a_copy_of_one_layer():
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    layer = copy.deepcopy(copy.deepcopy(model[0]))
    x = batch(0)[0]
    assert torch.equal(layer(x), nn.functional.linear(x, masked(handle, "0.weight"), weights(model)["0.bias"]))


def test_an_averaged_model_masks_its_own_average():
    model = mlp()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", "ste")
    handle.bind(optimizer)
    average = torch.optim.swa_utils.AveragedModel(model)
    for step in range(4):
        train(model, optimizer, [step])
        average.update_parameters(model)
    x = batch(0)[0]
    first = dict(average.module.named_parameters())
    hidden = torch.tanh(
        nn.functional.linear(x, first["0.weight"] * reference_mask(first["0.weight"], 2, 4), first["0.bias"])
    )
    expected = nn.functional.linear(
        hidden, first["2.weight"] * reference_mask(first["2.weight"], 2, 4), first["2.bias"]
    )
    assert torch.equal(average(x), expected)
