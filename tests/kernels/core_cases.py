"""What test_triton_core.py runs under the interpreter, by a pytest in a process of its own."""

import copy

import pytest
import torch
from torch import nn

from nmbench.sparsity import nm_mask, sparsify
from nmbench.sparsity.fast import fused


def test_steps():
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(5)))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    handle = sparsify(model, "2:4", "sr-ste")
    handle.bind(optimizer)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 16)).square().mean().backward()
        optimizer.step()
    dense = dict(model.named_parameters())
    assert all(torch.equal(mask, nm_mask(dense[name], "2:4")) for name, mask in handle.masks.items())


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("text", ["2:4", "1:16", "3:5", "2:4@kernel"])
def test_graph(text, backend, monkeypatch):
    """Bits as in the eager model, gradients too, in one graph."""
    torch.compiler.reset()
    layers = [nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10)]
    model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
    twin, x = copy.deepcopy(model), torch.randn(4, 16, 4, 4)
    ran, masked = [], fused.masked
    monkeypatch.setattr(fused, "masked", lambda *a: ran.append(1) or masked(*a))
    pair = []
    for one in (model, twin):
        optimizer = torch.optim.SGD(one.parameters(), 0.5)
        handle = sparsify(one, text, "sr-ste", lambda_w=0.1)
        handle.bind(optimizer)
        fast = torch.compile(one, backend=backend, fullgraph=True) if one is model else one
        for _ in range(3):
            optimizer.zero_grad()
            y = fast(x)
            y.square().mean().backward()
            optimizer.step()
        pair.append((y, handle.sad.table, *one.parameters()))
        assert len(ran) == (3 if "kernel" in text else 6)  # a channels_last weight has no flat order
    for a, b in zip(*pair, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
