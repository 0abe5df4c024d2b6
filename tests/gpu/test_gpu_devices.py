"""A model on a GPU that is not the current one: masks, products and choices are those of its own GPU."""

import pytest
import torch
from gpu import baked, data
from torch import nn

from nmbench.kernels import convert, linear, registry
from nmbench.kernels.conversion.accuracy import allowed, reference, worst
from nmbench.kernels.problem import linear_problem
from nmbench.sparsity import NMPattern, nm_mask, sparsify

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
OTHER = torch.device("cuda", 1)


@pytest.mark.parametrize("rows", [4, 128])
@pytest.mark.parametrize("name", ["cusparselt", "cutlass", "triton", "dense"])
def test_products(name: str, rows: int) -> None:
    weight, x = baked((256, 512), "2:4", torch.float16).to(OTHER), data((rows, 512), torch.float16).to(OTHER)
    problem = linear_problem((256, 512), (rows, 512), NMPattern(2, 4), torch.float16, OTHER)
    with torch.cuda.device(OTHER):
        reason = registry.load(name).refusal(problem)
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    assert torch.cuda.current_device() == 0
    y = linear(x, weight, pattern="2:4", backend=name)
    right = reference(x, weight, None, problem)
    assert y.device == OTHER
    assert worst(y, right) <= allowed(right, 1e-2, y.dtype)
    assert torch.cuda.current_device() == 0


def test_convert_and_training() -> None:
    model = nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024)).to(OTHER, torch.float16)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    handle = sparsify(model, "2:4", "sr-ste")
    handle.bind(optimizer)
    x = torch.randn(64, 1024, device=OTHER, dtype=torch.float16)
    for _ in range(2):
        model(x).square().mean().backward()
        optimizer.step()
    dense = dict(model.named_parameters())
    assert all(torch.equal(mask.cpu(), nm_mask(dense[k].detach().cpu(), "2:4")) for k, mask in handle.masks.items())
    handle.finalize()
    fast, report = convert(model, x, cache=False, launch="graph")
    torch.testing.assert_close(fast(x).float(), model(x).float(), rtol=5e-2, atol=5e-2)
    assert len(report.rows) == 2
