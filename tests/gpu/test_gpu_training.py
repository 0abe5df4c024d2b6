"""The training side on a real GPU: masks, flips and terms as on the CPU, without a wait in the hot path."""

import copy

import pytest
import torch
from gpu import NEEDS_GPU, waiting_is_an_error
from torch import nn

from nmbench.sparsity import NMPattern, nm_mask, sparsify
from nmbench.sparsity.fast import fused as _fused
from nmbench.sparsity.mask import Grouping, torch_mask

pytestmark = NEEDS_GPU


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(16, 24, 3), nn.ReLU(), nn.Conv2d(24, 18, 1), nn.ReLU(), nn.Conv2d(18, 8, 3), nn.Flatten()),
        nn.Linear(8 * 4 * 4, 10),
    )


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("text", ["2:4", "1:4", "4:8", "1:16", "3:5", "5:64", "2:4@kernel"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_masks_are_those_of_the_cpu(text: str, dtype: torch.dtype, channels_last: bool) -> None:
    pattern = NMPattern.parse(text)
    weight = (torch.randn(24, 66, 3, 3) * 2).round().to(dtype)
    if channels_last and pattern.axis == "input":
        weight = weight.to(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Conv2d(66, 24, 3, bias=False)).to("cuda", dtype)
    model[0].weight = nn.Parameter(weight.cuda())
    handle = sparsify(model, pattern, "ste")
    assert _fused.takes(dict(model.named_parameters())["0.weight"])
    assert torch.equal(handle.masks["0.weight"].cpu(), nm_mask(weight, pattern))
    assert torch.equal(handle.masks["0.weight"], torch_mask(weight.cuda(), pattern, Grouping()))


@pytest.mark.parametrize("channels_last", [False, True])
def test_equal_to_the_torch_operations_over_some_steps(monkeypatch: pytest.MonkeyPatch, channels_last: bool) -> None:
    """Deterministic algorithms, so that the two runs differ in the passes alone."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    first = network().cuda()
    if channels_last:
        first = first.to(memory_format=torch.channels_last)
    x = torch.randn(4, 16, 8, 8, device="cuda")
    results = []
    for fused in (True, False):
        model = copy.deepcopy(first)
        if not fused:
            monkeypatch.setattr(_fused, "takes", lambda weight: False)
        optimizer = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9)
        handle = sparsify(model, "2:4", "sr-ste", lambda_w=0.01)
        handle.bind(optimizer)
        for _ in range(5):
            step(model, optimizer, x)
        dense = {name: p.detach().cpu() for name, p in model.named_parameters()}
        for name, mask in handle.masks.items():
            assert torch.equal(mask.cpu(), nm_mask(dense[name], "2:4"))
        results.append((dense, handle.sad.table))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
    assert (results[0][1] - results[1][1]).abs().sum() <= 0.01 * results[1][1].sum() + 2


def test_a_step_waits_for_nothing() -> None:
    model = network().cuda()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    handle = sparsify(model, "2:4", "sr-ste")
    handle.bind(optimizer)
    x = torch.randn(4, 16, 8, 8, device="cuda")
    step(model, optimizer, x)
    with waiting_is_an_error():
        for _ in range(3):
            step(model, optimizer, x)
    assert len(handle.sad.history) == 4


def test_a_change_through_data_is_seen() -> None:
    model = network().cuda()
    handle = sparsify(model, "2:4", "ste")
    x = torch.randn(2, 16, 8, 8, device="cuda")
    model(x)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn_like(parameter))
    model(x)
    for name, parameter in model.named_parameters():
        if name in handle.masks:
            assert torch.equal(handle.masks[name].cpu(), nm_mask(parameter.detach().cpu(), "2:4"))
    name = next(iter(handle.masks))
    dict(model.named_parameters())[name].data.neg_().add_(0.3)
    used = model.get_submodule(name.rpartition(".")[0]).weight
    assert torch.equal((used != 0).cpu(), nm_mask(dict(model.named_parameters())[name].detach().cpu(), "2:4"))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("text", ["2:4", "1:16"])
def test_compiled_equals_eager(monkeypatch: pytest.MonkeyPatch, text: str, mode: str) -> None:
    """In a compiled graph every masked weight is one operator, which runs the fused pass."""
    torch.compiler.reset()
    ran, masked = [], _fused.masked
    monkeypatch.setattr(_fused, "masked", lambda *about: ran.append(1) or masked(*about))
    model = network().cuda().to(memory_format=torch.channels_last)
    twin, x = copy.deepcopy(model), torch.randn(4, 16, 8, 8, device="cuda").to(memory_format=torch.channels_last)
    for one in (model, twin):
        sparsify(one, text, "ste")
    fast = torch.compile(model, mode=mode, fullgraph=True)
    for _ in range(3):  # a graph is captured at the second call
        model.zero_grad()
        twin.zero_grad()
        got = fast(x)
        got.square().mean().backward()
        expected = twin(x)
        expected.square().mean().backward()
        torch.testing.assert_close(got, expected, rtol=1e-2, atol=1e-3)
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=2e-2, atol=1e-3)
        with torch.no_grad():
            for a, b in zip(model.parameters(), twin.parameters(), strict=True):
                b.copy_(a.sub_(0.1 * a.grad))
    assert len(ran) >= 4
