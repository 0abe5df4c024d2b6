"""Weights without memory of their own: DTensors, fake, meta and quantised tensors, those inside torch.func."""

import warnings

import pytest
import torch
from attach_toys import plain_twin
from sparsity_toys import batch, convnet, mlp, reference_mask
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.func import functional_call, grad, vmap

from nmbench.sparsity import nm_mask, sparsify
from nmbench.sparsity.attach import is_attached
from nmbench.sparsity.memory import addressable

X = batch(0)[0]
METHODS = ["ste", "sr-ste", "one-shot"]


# -- which memory compiled code may read ----------------------------------------------------------------------------
def released():
    weight = torch.randn(8, 8)
    weight.untyped_storage().resize_(0)
    return weight


def of_inference():
    with torch.inference_mode():
        return torch.randn(8, 8)


class Own(torch.Tensor):
    pass


NOT_ADDRESSABLE = {
    "meta": lambda: torch.empty(8, 8, device="meta"),
    "sparse": lambda: torch.eye(8).to_sparse(),
    "fake": lambda: FakeTensorMode().from_tensor(torch.randn(8, 8)),
    "subclass": lambda: torch.randn(8, 8).as_subclass(Own),
    "released": released,
    "expanded": lambda: torch.randn(8, 1).expand(8, 8),
}


@pytest.mark.parametrize("name", NOT_ADDRESSABLE)
def test_not_addressable(name):
    assert not addressable(NOT_ADDRESSABLE[name]())


def test_addressable():
    assert addressable(torch.randn(8, 8), nn.Parameter(torch.randn(8, 8).t()))
    vmap(lambda row: torch.zeros(()) if addressable(row) else row.sum())(torch.randn(3, 4)).sum()
    assert not any(inside(lambda weight: addressable(weight)) for inside in (in_vmap, in_fake_mode))


def in_vmap(look):
    seen = []
    vmap(lambda weight: seen.append(look(weight)) or weight)(torch.randn(2, 8, 8))
    return seen[0]


def in_fake_mode(look):
    with FakeTensorMode():
        return look(torch.randn(8, 8))


@pytest.mark.parametrize("name", ["subclass", "inference", "expanded"])
def test_nm_mask_of_unusual_memory(name):
    weight = of_inference() if name == "inference" else NOT_ADDRESSABLE[name]()
    assert torch.equal(nm_mask(weight, "2:4"), reference_mask(weight, 2, 4))


@pytest.mark.parametrize("name", ["meta", "fake"])
def test_nm_mask_without_numbers_has_a_shape(name):
    weight = NOT_ADDRESSABLE[name]()
    assert nm_mask(weight, "2:4").shape == weight.shape


# -- models ---------------------------------------------------------------------------------------------------------
def in_fake():
    with FakeTensorMode():
        return mlp()


def on_meta():
    with torch.device("meta"):
        return mlp()


@pytest.mark.parametrize("make", [in_fake, on_meta])
def test_a_model_without_numbers_is_refused_and_left_alone(make):
    model = make()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"0\.weight has no numbers yet"):
            sparsify(model, "2:4")
    assert not is_attached(model)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [mlp, convnet])
def test_per_sample_gradients(path, make, method):
    """vmap over grad over functional_call, as differential privacy and influence functions do it."""
    model = make()
    sparsify(model, "2:4", method)
    x, y = (X, batch(0)[1]) if make is mlp else (torch.randn(5, 3, 8, 8), torch.randn(5, 5))
    parameters = dict(model.named_parameters())

    def loss(values, one, target):
        return nn.functional.mse_loss(functional_call(model, values, (one[None],)), target[None])

    gradients = vmap(grad(loss), (None, 0, 0))(parameters, x, y)
    for i in range(len(x)):
        model.zero_grad()
        nn.functional.mse_loss(model(x[i : i + 1]), y[i : i + 1]).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][i], parameter.grad)


def test_an_ensemble_under_vmap_masks_each_member():
    models = [mlp(seed) for seed in range(3)]
    stacked, _ = torch.func.stack_module_state(models)
    handles = [sparsify(model, "2:4", "ste") for model in models]
    outputs = vmap(lambda values: functional_call(models[0], values, (X,)))(stacked)
    for output, handle, model in zip(outputs, handles, models, strict=True):
        torch.testing.assert_close(output, plain_twin(handle, model)(X))


def test_a_layer_without_outputs_stays_dense_and_says_so():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, that there is nothing to initialise
        model = nn.Sequential(nn.Linear(8, 0), nn.Linear(8, 8))
    empty, other = sparsify(model, "2:4").layers
    assert (empty.role, empty.reason, other.role) == ("dense", "it holds no numbers", "sparse")


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_sparse_csr])
def test_a_mask_of_a_tensor_that_is_not_strided_is_refused_in_words(make):
    with pytest.raises(ValueError, match=r"dense tensor, not one of layout torch\.sparse.*to_dense"):
        nm_mask(make(torch.randn(8, 8)), "2:4")


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_sharded_models_equal_whole_ones(two_ranks, tmp_path):
    """FSDP2 before and after sparsify, tensor parallelism, one mask of a DTensor, FSDP 1."""
    import shards

    two_ranks(shards.ranked)
    cases = {"fsdp-first", "fsdp-after", "tensor-parallel", "mask", "refused", "fsdp-1"}
    assert {path.name for path in tmp_path.iterdir()} == {f"{case}.{rank}" for case in cases for rank in (0, 1)}
