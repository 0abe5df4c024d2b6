"""A sparse model is the same model: names, keys, copies and pickles."""

import copy
import io

import pytest
import torch
from attach_toys import IMAGES, Attention, Tied, plain_twin
from sparsity_toys import batch, convnet, mlp, sgd, train

from nmbench.sparsity import sparsify
from nmbench.sparsity.attach import is_attached, weights_of


# -- names and keys -------------------------------------------------------------------------------------------------
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
