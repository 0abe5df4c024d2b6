"""RAFT under the shared core: what is sparse, and that a weight is masked once a step, not once a use."""

import pytest
import torch
from torch import nn

from nmbench.sparsity import audit, sparsify
from nmbench.sparsity.weight import SparseWeight
from nmbench.task import Spec
from nmbench_tasks.optical_flow import OpticalFlow

TASK = OpticalFlow()
GRU = "update_block.recurrent_block.convgru1.convz.weight"


def spec(model="raft_small", **over) -> Spec:
    return Spec("optical-flow", model, "smoke", 0, {**OpticalFlow.scales["smoke"], **over})


def images(batch=1):
    return torch.rand(2, batch, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", OpticalFlow.models)
def test_it_is_torchvision_s_model(name):
    from torchvision.models import optical_flow

    ours, theirs = TASK.build(spec(name)), getattr(optical_flow, name)()
    assert type(ours) is type(theirs)
    assert str(ours) == str(theirs)


def test_another_name():
    with pytest.raises(ValueError, match="raft_small, raft_large"):
        TASK.build(spec("raft_huge"))


@pytest.mark.parametrize("name", OpticalFlow.models)
def test_at_least_95_percent_of_the_weights_end_sparse(name):
    """By an audit over all parameters of the finalised model, biases and normalisation included."""
    model = TASK.build(spec(name))
    names = list(TASK.candidates(model))
    convolutions = [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert sorted(names) == sorted(convolutions)
    handle = sparsify(model, "2:4", "sr-ste", layers=names)
    handle.finalize()
    report = audit(model, "2:4", handle.layers)
    assert report.ok
    sparse = [layer for layer in handle.layers if layer.sparse]
    weights = sum(torch.Size(layer.shape).numel() for layer in sparse)
    every = sum(p.numel() for p in model.parameters())
    assert weights / every >= 0.95
    zeros = sum(int((p == 0).sum()) for n, p in model.named_parameters() if n in {layer.name for layer in sparse})
    assert 0.48 <= zeros / weights <= 0.5  # short groups keep up to two of fewer than four
    dense = {layer.name: layer.reason for layer in handle.layers if not layer.sparse}
    assert all("below M" in reason for reason in dense.values()), dense  # three colours, two components of the flow


def test_the_gru_s_short_last_group_is_sparse():
    model = TASK.build(spec())
    handle = sparsify(model, "2:4", layers=TASK.candidates(model))
    weight = dict(model.named_parameters())[GRU]
    assert weight.shape[1] == 242
    mask = handle.masks[GRU]
    groups = mask[:, :240].unflatten(1, (60, 4)).sum(2)
    assert (groups == 2).all()
    assert mask[:, 240:].all()  # a group of two keeps both
    assert next(layer for layer in handle.layers if layer.name == GRU).sparse


@pytest.mark.parametrize("updates", [2, 12])
def test_masks_and_masked_weights_are_made_once_a_step_not_once_a_use(monkeypatch, updates):
    made = []
    masked = SparseWeight.masked
    monkeypatch.setattr(SparseWeight, "masked", lambda self, *now: (made.append(self.name), masked(self, *now))[1])
    uses = []
    model = TASK.build(spec())
    handle = sparsify(model, "2:4", layers=TASK.candidates(model))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    handle.bind(optimizer)
    module = model.get_submodule(GRU.removesuffix(".weight"))
    module.register_forward_hook(lambda *_: uses.append(1))
    first, second = images()
    before = handle.mask_updates
    for _ in range(3):
        optimizer.zero_grad()
        model(first, second, num_flow_updates=updates)[-1].mean().backward()
        optimizer.step()
    assert len(uses) == 3 * updates
    assert made.count(GRU) == 3
    sparse = [layer.name for layer in handle.layers if layer.sparse]
    assert sorted(made) == sorted(sparse * 3)
    assert {name: handle.mask_updates[name] - before[name] for name in sparse} == dict.fromkeys(sparse, 3)


def test_in_evaluation_too(monkeypatch):
    model = TASK.build(spec()).eval()
    handle = sparsify(model, "2:4", layers=TASK.candidates(model))
    made = []
    masked = SparseWeight.masked
    monkeypatch.setattr(SparseWeight, "masked", lambda self, *now: (made.append(self.name), masked(self, *now))[1])
    before = handle.mask_updates[GRU]
    with torch.no_grad():
        assert len(model(*images(), num_flow_updates=32)) == 32
    assert made.count(GRU) == 1
    assert handle.mask_updates[GRU] <= before + 1


def test_the_gradient_of_a_shared_masked_weight_is_the_sum_over_its_uses():
    """Straight-through: as for a dense model whose weights are the masked ones."""
    sparse = TASK.build(spec())
    handle = sparsify(sparse, "2:4", "ste", layers=TASK.candidates(sparse))
    dense = TASK.build(spec())
    dense.load_state_dict(sparse.state_dict())
    with torch.no_grad():
        for name, mask in handle.masks.items():
            dict(dense.named_parameters())[name].mul_(mask)
    for model in (sparse, dense):
        sum(flow.abs().mean() for flow in model(*images(), num_flow_updates=3)).backward()
    expected = dict(dense.named_parameters())[GRU].grad
    assert expected.abs().max() > 0
    assert torch.allclose(dict(sparse.named_parameters())[GRU].grad, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("scale", OpticalFlow.scales)
def test_example_inputs_fit_the_model(scale):
    first, second, updates = TASK.example_inputs(
        Spec("optical-flow", "raft_small", scale, 0, OpticalFlow.scales[scale])
    )
    assert first.shape == second.shape
    assert first.shape[0] == 1
    if scale == "smoke":
        with torch.no_grad():
            assert TASK.build(spec())(first, second, updates)[-1].shape == (1, 2, 128, 128)


@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_only_the_last_context_convolution_is_scaled(gain):
    import torchvision

    task = OpticalFlow()
    spec = Spec(task.name, "raft_small", "quick", 0, {**task.scales["quick"], "context_gain": gain})
    torch.manual_seed(5)
    ours = task.build(spec).state_dict()
    torch.manual_seed(5)
    theirs = torchvision.models.optical_flow.raft_small(weights=None).state_dict()
    changed = {name for name in theirs if not torch.equal(ours[name], theirs[name])}
    scaled = {"context_encoder.conv.weight", "context_encoder.conv.bias"}
    assert changed == (set() if gain == 1.0 else scaled)
    for name in scaled:
        torch.testing.assert_close(ours[name], gain * theirs[name])
