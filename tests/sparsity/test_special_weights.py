"""Tied, frozen and attention weights, embeddings and their like."""

import copy

import pytest
import torch
from attach_toys import Tied, plain_twin
from sparsity_toys import batch, mlp, reference_mask, sgd, train, weights
from torch import nn

from nmbench.sparsity import audit, sparsify


def test_tied_weights_share_one_mask_and_one_term(path):
    model = Tied()
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle.bind(optimizer)
    assert list(handle.masks) == ["a.weight"]
    assert handle.sad.weights == 64
    before = weights(model)["a.weight"]
    (model(batch(0)[0]) * 0).sum().backward()
    optimizer.step()
    torch.testing.assert_close(weights(model)["a.weight"], before * (1 - 0.1 * ~reference_mask(before, 2, 4)))
    handle.finalize()
    assert model.a.weight is model.b.weight
    assert audit(model, "2:4").ok


@pytest.mark.parametrize("embedding_first", [True, False])
def test_an_embedding_tied_to_a_linear_layer_stays_dense_and_says_so(embedding_first):
    model = nn.Module()
    parts = {"embedding": nn.Embedding(12, 8), "head": nn.Linear(8, 12)}
    for name in parts if embedding_first else reversed(parts):
        model.add_module(name, parts[name])
    model.head.weight = model.embedding.weight
    model.body = nn.Linear(8, 8)
    handle = sparsify(model, "2:4")
    tied, body = handle.layers
    assert (tied.role, body.role) == ("dense", "sparse")
    assert "an embedding" in tied.reason
    assert "tied to" in tied.reason
    assert ("head" if embedding_first else "embedding") in tied.reason
    (alone,) = sparsify(nn.Sequential(nn.Embedding(8, 8)), "2:4", empty_ok=True).layers
    assert (alone.role, alone.reason) == ("dense", "an embedding")


@pytest.mark.parametrize("method", ["ste", "sr-ste", "one-shot"])
def test_frozen_layers_stay(method):
    model = mlp()
    model[0].requires_grad_(False)
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", method)
    before = weights(model)
    handle.bind(optimizer)
    train(model, optimizer, range(3))
    assert torch.equal(weights(model)["0.weight"], before["0.weight"])
    assert not torch.equal(weights(model)["2.weight"], before["2.weight"])
    assert handle.sad.per_layer["0.weight"] == 0
    assert torch.equal(model(batch(0)[0]), plain_twin(handle, model)(batch(0)[0]))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_multihead_attention_uses_the_masked_projections(path, training, fast, need_weights):
    """In training and, in eval mode without gradients, on the fused path."""
    model = nn.MultiheadAttention(8, 2, batch_first=True).train(training)
    handle = sparsify(model, "2:4", "ste")
    assert [i.name for i in handle.layers if i.sparse] == ["in_proj_weight", "out_proj.weight"]
    x = torch.randn(2, 5, 8)
    twin = plain_twin(handle, model)
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        with torch.set_grad_enabled(training):
            ours, theirs = (m(x, x, x, need_weights=need_weights)[0] for m in (model, twin))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("layer", "dim", "groups"),
    [
        (nn.ConvTranspose2d(6, 8, 3), 0, 1),
        (nn.ConvTranspose2d(12, 8, 3, groups=2), 0, 2),
        (nn.ConvTranspose1d(12, 8, 3, groups=2), 0, 2),
        (nn.Conv2d(12, 8, 3, groups=2), 1, 1),
        (nn.Conv3d(6, 8, 3), 1, 1),
    ],
    ids=str,
)
def test_each_kind_of_convolution_is_grouped_along_its_own_reduction(path, layer, dim, groups):
    expected = reference_mask(layer.weight, 2, 4, dim=dim, groups=groups)
    handle = sparsify(copy.deepcopy(layer), "2:4", "ste")
    assert torch.equal(handle.masks["weight"], expected)
