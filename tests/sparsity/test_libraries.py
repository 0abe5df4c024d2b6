"""Other people's libraries on a sparse model; each is skipped where it is not installed."""

import copy
import warnings

import pytest
import torch
from sparsity_toys import batch, loss_of, masked, mlp, seen, sgd, train, weights
from torch import nn

from nmbench.sparsity import audit, multiplied, sparsify

X = batch(0)[0]


def library(name):
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


# -- peft -----------------------------------------------------------------------------------------------------------
def adapted(model):
    peft = library("peft")
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights=False)
    return peft.inject_adapter_in_model(config, model)


def test_a_lora_merge_is_not_lost():
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    model = adapted(model)
    layer = model[0]
    before, delta = weights(model)["0.base_layer.weight"], layer.get_delta_weight("default").detach()
    layer.merge()
    torch.testing.assert_close(weights(model)["0.base_layer.weight"], before + delta)
    x = torch.nn.functional.linear(X, masked_by_hand(before + delta), layer.base_layer.bias)
    torch.testing.assert_close(layer(X), x)
    layer.unmerge()
    torch.testing.assert_close(weights(model)["0.base_layer.weight"], before)
    handle.finalize()


def masked_by_hand(weight):
    from sparsity_toys import reference_mask

    return weight * reference_mask(weight, 2, 4)


def test_lora_beside_a_sparse_layer_multiplies_sparse():
    model = mlp()
    handle = sparsify(model, "2:4", "ste")
    model = adapted(model)
    lora_x = model[0](X) - nn.functional.linear(X, masked(handle, "0.weight", mlp()), model[0].base_layer.bias)
    torch.testing.assert_close(lora_x, X @ model[0].get_delta_weight("default").T, rtol=1e-3, atol=1e-5)


# -- optimizers -----------------------------------------------------------------------------------------------------
def trained(make, step=lambda optimizer: optimizer.step()):
    model = mlp()
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=0.5)
    optimizer = make(model)
    handle.bind(optimizer)
    for number in range(3):
        optimizer.zero_grad()
        loss_of(model, number).backward()
        step(optimizer)
    return model, handle


def test_accelerate():
    accelerate = library("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = mlp()
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=0.5)
    wrapped, optimizer = accelerator.prepare(model, sgd(model))
    handle.bind(optimizer)
    for number in range(3):
        optimizer.zero_grad()
        accelerator.backward(loss_of(wrapped, number))
        optimizer.step()
    expected, other = trained(sgd)
    torch.testing.assert_close(weights(model), weights(expected))
    assert handle.steps == other.steps == 3


def test_schedule_free():
    schedulefree = library("schedulefree")
    model = mlp()
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=0.5)
    optimizer = schedulefree.AdamWScheduleFree(model.parameters(), lr=0.01)
    handle.bind(optimizer)
    optimizer.train()
    train(model, optimizer, range(3))
    optimizer.eval()  # swaps the average in, through .data
    assert handle.steps == 3
    assert torch.equal(seen(model[0]), masked(handle, "0.weight"))
    wrapped = schedulefree.ScheduleFreeWrapper(sgd(model))
    handle.bind(wrapped)
    wrapped.train()
    train(model, wrapped, range(2))
    assert handle.steps == 5


# -- models ---------------------------------------------------------------------------------------------------------
def test_timm_standardised_convolutions_stay_dense():
    timm = library("timm")
    model = timm.create_model("resnetv2_50x1_bit", num_classes=4)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        handle = sparsify(model, "2:4", "one-shot")
    handle.finalize()
    assert any("its own forward changes the weight" in str(w.message) for w in told)
    assert sum(line.undone for line in handle.layers) > 40
    assert not audit(model, "2:4", handle.layers).ok


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_timm_models_multiply_sparse(name):
    timm = library("timm")
    model = timm.create_model(name, num_classes=4, **({"img_size": 32} if "vit" in name else {}))
    handle = sparsify(model, "2:4", "one-shot")
    handle.finalize()
    assert multiplied(model, (torch.randn(1, 3, 32, 32),), handle.layers) == handle.layers
    assert audit(model, "2:4", handle.layers).ok


def test_gpt2_is_grouped_along_the_inputs_of_its_transposed_layers():
    transformers = library("transformers")
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=64, n_positions=16)
    model = transformers.GPT2Model(config).eval()
    handle = sparsify(model, "2:4", "one-shot")
    assert {i.grouping.dim for i in handle.layers if i.sparse} == {0}
    assert len([i for i in handle.layers if i.sparse]) == 4
    tokens = torch.arange(8)[None]
    output = model(tokens).last_hidden_state
    handle.finalize()
    torch.testing.assert_close(model(tokens).last_hidden_state, output)
    weight = model.h[0].mlp.c_fc.weight  # (in, out)
    assert (weight.T.reshape(64, 4, 4) != 0).sum(2).max() == 2
    assert multiplied(model, (tokens,), handle.layers) == handle.layers


# -- torchao --------------------------------------------------------------------------------------------------------
def test_quantised_weights_say_so_before_and_after():
    library("torchao")
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    before = copy.deepcopy(model)
    quantize_(before[0], Int8WeightOnlyConfig())
    first = sparsify(before, "2:4").layers[0]
    assert first.role == "dense"
    assert "not a plain tensor" in first.reason
    handle = sparsify(model, "2:4", "one-shot")
    quantize_(model[1], Int8WeightOnlyConfig(), filter_fn=lambda module, name: isinstance(module, nn.Linear))
    with pytest.raises(ValueError, match="finalize"):
        handle.step()
