"""`convert` on a real GPU: what it chooses is never slower in its own table, and the model stays itself.

No time is asserted but the one rule that makes the choice.
"""

import copy
import itertools
import pickle

import pytest
import torch
from gpu import NEEDS_GPU, captured, data
from torch import nn

from nmbench.kernels import Kind, Refusal, apply_choices, convert, load_converted, save_converted
from nmbench.kernels.conversion.choose import CLEAR_WIN
from nmbench.kernels.conversion.layers import SparseLayer
from nmbench.sparsity import sparsify

pytestmark = NEEDS_GPU


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path / "cache"))


def network(pattern: str = "2:4", dtype: torch.dtype = torch.bfloat16) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(64, 128, 3, padding=1),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.Conv2d(128, 256, 1),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(4096, 4096),
        nn.GELU(),
        nn.Linear(4096, 1000),
    )
    sparsify(model, pattern, "one-shot").finalize()
    return model.to("cuda", dtype, memory_format=torch.channels_last).eval()


def images(dtype: torch.dtype = torch.bfloat16, batch: int = 32) -> torch.Tensor:
    return data((batch, 64, 28, 28), dtype).to(memory_format=torch.channels_last)


def near(got, expected, dtype):
    # the dense convolution of float32 rounds to TF32
    most = {torch.float16: 5e-3, torch.bfloat16: 4e-2, torch.float32: 5e-3}[dtype]
    assert float((got.float() - expected.float()).abs().max()) <= most * float(expected.float().abs().max())


@pytest.mark.parametrize("launch", ["eager", "graph"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8", "1:16"])
def test_the_choice_follows_the_times_and_numbers_stay(pattern, dtype, launch):
    model, x = network(pattern, dtype), images(dtype)
    with torch.inference_mode():
        fast, report = convert(model, x, launch=launch)
        near(fast(x), model(x), dtype)
    assert len(report.rows) == 4
    for row in report.rows:
        assert not [why for why in row.candidates.values() if isinstance(why, Refusal) and why.kind is Kind.FAULT], row
        if row.sparse:
            assert row.sparse_us <= CLEAR_WIN * row.dense_us
        else:
            assert row.reason
    print(report.table())


@pytest.fixture
def forced(monkeypatch):
    """Every right candidate beats dense, so that what is converted does not hang on the machine."""
    monkeypatch.setattr("nmbench.kernels.conversion.choose.CLEAR_WIN", 1e9)
    monkeypatch.setattr("nmbench.kernels.conversion.bypass.whole._NOT_SLOWER", 1e9)


def encoder(pattern: str = "2:4") -> nn.Module:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True), 2)
    sparsify(model, pattern, "one-shot").finalize()
    return model.to("cuda", torch.bfloat16).eval()


@pytest.fixture(params=itertools.product(["network", "encoder"], ["cusparselt", "cutlass", "triton"]), ids="-".join)
def sparse(request, forced):
    """(maker of the model, model, converted, input, backend): with every layer sparse that can be."""
    kind, backend = request.param
    make, x = (network, images()) if kind == "network" else (encoder, data((32, 50, 256), torch.bfloat16))
    model = make()
    with torch.inference_mode():
        fast, report = convert(model, x, backends=[backend], budget_s=0.05)
    if not report.sparse:
        pytest.skip(f"{backend}: {report.rows[-1].reason}")
    if kind == "encoder":
        assert len(report.sparse) == len(report.rows) == 8, report.table()
    return make, model, fast, x, backend


@torch.inference_mode()
def test_it_saves_loads_copies_and_moves(sparse, tmp_path):
    make, model, fast, x, name = sparse
    right = fast(x)
    save_converted(tmp_path / "fast.safetensors", fast)
    for other in (
        load_converted(tmp_path / "fast.safetensors", make("1:4")),
        copy.deepcopy(fast),
        pickle.loads(pickle.dumps(fast)),
    ):
        near(other(x), right, torch.bfloat16)
    fast.load_state_dict(model.state_dict())
    for batch in (1, 3, 31):
        near(fast(x[:batch]), model(x[:batch]), torch.bfloat16)
    fast.to("cpu")
    assert {m.packed.running.name for m in fast.modules() if isinstance(m, SparseLayer)} == {"dense"}
    near(fast(x.cpu()), right.cpu(), torch.bfloat16)
    fast.to("cuda")
    assert {m.packed.running.name for m in fast.modules() if isinstance(m, SparseLayer)} == {name}
    near(fast(x), right, torch.bfloat16)


@torch.inference_mode()
def test_a_cuda_graph_captures_the_model(sparse):
    _, model, fast, x, _ = sparse
    graph, y = captured(lambda: fast(x))
    x.copy_(data(tuple(x.shape), torch.bfloat16, 7))
    graph.replay()
    torch.cuda.synchronize()
    near(y, model(x), torch.bfloat16)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_torch_compile_takes_the_model(sparse, mode):
    _, model, fast, x, _ = sparse
    torch.compiler.reset()
    compiled = torch.compile(fast, mode=mode)
    with torch.no_grad():
        for _ in range(3):
            got = compiled(x).clone()
        near(got, model(x), torch.bfloat16)


@torch.inference_mode()
def test_choices_apply_again_and_the_cache_is_used():
    model, x = network(), images()
    fast, report = convert(model, x, budget_s=0.05)
    again, cached = convert(model, x, budget_s=0.05)
    assert [row.winner for row in cached.rows] == [row.winner for row in report.rows]
    assert all(row.cached for row in cached.rows if row.dense_us)
    assert torch.equal(apply_choices(model, report.choices)(x), fast(x))
    near(again(x), fast(x), torch.bfloat16)
