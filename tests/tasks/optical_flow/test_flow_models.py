"""RAFT under the shared core: what is sparse, and that a weight is masked once a step, not once a use."""

import pytest
import torch
import torchvision
from torch import nn

from nmbench.sparsity import audit, sparsify
from nmbench.task import Spec
from nmbench_tasks.optical_flow import OpticalFlow

TASK = OpticalFlow()
GRU = "update_block.recurrent_block.convgru1.convz.weight"


def spec(model="raft_small", scale="smoke", **over) -> Spec:
    return Spec("optical-flow", model, scale, 0, {**OpticalFlow.scales[scale], **over})


def images():
    return torch.rand(2, 1, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", OpticalFlow.models)
def test_at_least_95_percent_of_torchvision_s_model_end_sparse(name):
    """By an audit over all parameters of the finalised model, biases and normalisation included."""
    model = TASK.build(spec(name))
    assert str(model) == str(getattr(torchvision.models.optical_flow, name)())
    names = list(TASK.candidates(model))
    convolutions = [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    assert sorted(names) == sorted(convolutions)
    handle = sparsify(model, "2:4", "sr-ste", layers=names)
    if name == "raft_small":
        groups = handle.masks[GRU]  # of 242 inputs
        assert (groups[:, :240].unflatten(1, (60, 4)).sum(2) == 2).all()
        assert groups[:, 240:].all()  # a group of two keeps both
    handle.finalize()
    report = audit(model, "2:4", handle.layers)
    assert report.ok
    assert report.weights / sum(p.numel() for p in model.parameters()) >= 0.95
    assert 0.5 <= report.density <= 0.52  # short groups keep up to two of fewer than four
    dense = {layer.name: layer.reason for layer in handle.layers if not layer.sparse}
    assert all("below M" in reason for reason in dense.values()), dense  # three colours, two components of the flow


def test_a_mask_is_made_once_a_step_not_once_a_use():
    model, uses = TASK.build(spec()), []
    handle = sparsify(model, "2:4", layers=TASK.candidates(model))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    handle.bind(optimizer)
    model.get_submodule(GRU.removesuffix(".weight")).register_forward_hook(lambda *_: uses.append(1))
    before = handle.mask_updates
    for _ in range(2):
        optimizer.zero_grad()
        model(*images(), num_flow_updates=3)[-1].mean().backward()
        optimizer.step()
    sparse = [layer.name for layer in handle.layers if layer.sparse]
    assert {name: handle.mask_updates[name] - before[name] for name in sparse} == dict.fromkeys(sparse, 2)
    assert len(uses) == 2 * 3


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


@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_only_the_last_context_convolution_is_scaled(gain):
    torch.manual_seed(5)
    ours = TASK.build(spec(scale="quick", context_gain=gain)).state_dict()
    torch.manual_seed(5)
    theirs = torchvision.models.optical_flow.raft_small(weights=None).state_dict()
    changed = {name for name in theirs if not torch.equal(ours[name], theirs[name])}
    scaled = {"context_encoder.conv.weight", "context_encoder.conv.bias"}
    assert changed == (set() if gain == 1.0 else scaled)
    for name in scaled:
        torch.testing.assert_close(ours[name], gain * theirs[name])
