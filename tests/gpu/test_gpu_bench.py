"""The timing harness and the benchmark on a real GPU."""

from pathlib import Path

import pytest
import torch
from gpu import CUDA, NEEDS_GPU
from torch import nn

from nmbench.kernels.bench.options import Options
from nmbench.kernels.bench.record import write
from nmbench.kernels.bench.run import available, run
from nmbench.kernels.bench.summary import failed
from nmbench.kernels.timing import bandwidth, compare, copies
from nmbench.sparsity import NMPattern, sparsify
from nmbench.worker.speed import measure

pytestmark = NEEDS_GPU


def test_what_can_be_captured_is_replayed() -> None:
    x = torch.randn(512, 512, device=CUDA)
    found = compare({"product": [lambda: x @ x], "sum": [x.sum]}, CUDA, budget_s=0.02)
    assert {one.how for one in found.values()} == {"cuda-graph"}
    assert all(0 < one.low <= one.us <= one.high for one in found.values())


def test_what_synchronises_is_timed_with_events_and_leaves_torch_usable() -> None:
    x = torch.randn(64, device=CUDA)
    torch.manual_seed(5)
    torch.randn(3, device=CUDA)
    state = torch.cuda.get_rng_state()
    found = compare({"item": [lambda: x.sum().item()]}, CUDA, budget_s=0.02)
    assert found["item"].how == "cuda-events"
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert torch.randn(8, device=CUDA).isfinite().all(), "a failed capture leaves the generator waiting for its end"
    assert compare({"sum": [x.sum]}, CUDA, budget_s=0.02)["sum"].how == "cuda-graph", "and captures work again"


def test_copies_exceed_the_cache() -> None:
    cache = torch.cuda.get_device_properties(CUDA).L2_cache_size
    assert copies(2**20, CUDA) * 2**20 > min(2 * cache, 2**26 - 1)
    assert min(bandwidth(CUDA, size=2**28, budget_s=0.05)) > 0


def test_a_small_run_with_every_backend(tmp_path: Path) -> None:
    patterns = (NMPattern(2, 4), NMPattern(1, 16))
    options = Options(("tiny",), patterns, ("bf16", "int8"), rows=(1, 64), cell_s=0.02, compiled=False)
    usable, refused = available()
    record = run(options, CUDA, usable, refused)
    write(record, tmp_path)
    timed = [one for cell in record["cells"] for one in cell["sparse"] if "us" in one]
    assert {"triton"} <= {one["backend"] for one in timed}
    assert failed(record["cells"]) == []
    assert record["roofline"]["flops"]["bf16"] > 0


def test_the_compiled_dense_product_is_among_the_ways() -> None:
    options = Options(suites=("tiny",), patterns=(NMPattern(2, 4),), dtypes=("bf16",), rows=(64,), cell_s=0.02)
    ways = [one for cell in run(options, CUDA, {})["cells"] for one in cell["dense"]]
    assert any(one["way"].startswith("compiled") and "us" in one for one in ways), ways


class _Coordinates(nn.Module):
    """Makes its own float32 input of a layer, as RAFT does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(256, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x + torch.arange(256, dtype=torch.float32, device=x.device))


def test_a_model_with_float32_inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("nmbench.kernels.conversion.choose.CLEAR_WIN", 1e9)
    model = _Coordinates().cuda()
    sparsify(model, "2:4", method="one-shot").finalize()
    found = measure(model, (torch.randn(1, 256),), CUDA, budget_s=1.0)
    assert "it runs in bfloat16 under autocast" in found.notes
    assert all(row.converted_ms for row in found.rows)
    assert found.layers[0]["layers"] == ["layer"]
