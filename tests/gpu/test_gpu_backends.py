"""Every backend on a real GPU, against float64; each says in words what it does not take there."""

import itertools
from dataclasses import replace

import pytest
import torch
from gpu import CUDA, NEEDS_GPU, baked, captured, data, waiting_is_an_error

from nmbench.kernels import pack, registry
from nmbench.kernels.backend import result_dtype
from nmbench.kernels.conversion.accuracy import allowed, reference, worst
from nmbench.kernels.problem import linear_problem
from nmbench.sparsity import NMPattern
from nmbench.testing import check_backend

pytestmark = NEEDS_GPU

BACKENDS = ["cusparselt", "cutlass", "triton", "dense"]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.float8_e4m3fn]
PATTERNS = ["2:4", "1:4", "2:8", "1:16", "4:8"]


def assert_right(y, right, weight):
    assert worst(y, right) <= allowed(right, 0.0, y.dtype, weight[0].numel())


def taken_or_skipped(backend, problem, weight):
    """The packed weight; skips with the backend's own words."""
    reason = backend.refusal(problem)
    if reason is not None:
        pytest.skip(f"{backend.name}: {reason}")
    try:
        return backend.pack(weight, problem)
    except ValueError as error:
        pytest.skip(f"{backend.name}: {error}")


@pytest.mark.parametrize("name", BACKENDS)
def test_the_battery(name):
    check_backend(registry.load(name)).raise_for_failures()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", BACKENDS)
def test_linear_at_many_rows(name, pattern, dtype):
    backend = registry.load(name)
    for (outs, depth), rows in itertools.product([(256, 512), (1000, 1016), (4096, 4096)], [1, 16, 33, 128, 1000]):
        weight, x = baked((outs, depth), pattern, dtype), data((rows, depth), dtype)
        bias = data((outs,), result_dtype(dtype), 2)
        problem = linear_problem((outs, depth), (rows, depth), NMPattern.parse(pattern), dtype, CUDA)
        packed = taken_or_skipped(backend, problem, weight)
        y = backend.linear(x, packed, bias, problem)
        assert y.is_contiguous()
        assert_right(y, reference(x, weight, bias, problem), weight)


def test_the_search_of_cusparselt_gives_settings_that_are_right():
    backend = registry.load("cusparselt")
    for rows in (16, 1024):
        weight, x = baked((1024, 2048), "2:4", torch.bfloat16), data((rows, 2048), torch.bfloat16)
        problem = linear_problem((1024, 2048), (rows, 2048), NMPattern(2, 4), torch.bfloat16, CUDA)
        packed = taken_or_skipped(backend, problem, weight)
        for settings in backend.variants(x, packed, None, problem):
            tuned = replace(problem, settings=settings)
            assert_right(backend.linear(x, packed, None, tuned), reference(x, weight, None, problem), weight)


@pytest.mark.parametrize("rows", [8, 256])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_cuda_graph_captures_it(name, rows):
    weight, x = baked((512, 1024), "2:4", torch.bfloat16), data((rows, 1024), torch.bfloat16)
    problem = linear_problem((512, 1024), (rows, 1024), NMPattern(2, 4), torch.bfloat16, CUDA)
    backend, bias = registry.load(name), data((512,), torch.bfloat16, 2)
    packed = taken_or_skipped(backend, problem, weight)
    graph, y = captured(lambda: backend.linear(x, packed, bias, problem))
    x.copy_(data((rows, 1024), torch.bfloat16, 9))
    graph.replay()
    torch.cuda.synchronize()
    assert_right(y, reference(x, weight, bias, problem), weight)


@pytest.mark.parametrize("name", BACKENDS)
def test_nothing_is_synchronised(name):
    weight, x = baked((512, 1024), "2:4", torch.bfloat16), data((40, 1024), torch.bfloat16)
    problem = linear_problem((512, 1024), (40, 1024), NMPattern(2, 4), torch.bfloat16, CUDA)
    backend = registry.load(name)
    packed = taken_or_skipped(backend, problem, weight)
    backend.linear(x, packed, None, problem)  # may tune
    with waiting_is_an_error():
        backend.linear(x, packed, None, problem)


def test_a_packed_weight_moves_between_gpu_and_cpu():
    weight = baked((256, 512), "2:4", torch.bfloat16)
    for name in BACKENDS:
        try:
            packed = pack(weight, (64, 512), pattern="2:4", backend=name)
        except ValueError:
            continue
        assert torch.equal(packed.weight, weight)
        packed.to("cpu")
        assert packed.running.name == "dense"
        assert torch.equal(packed.weight, weight.cpu())
        packed.to("cuda")
        assert packed.running.name == name
        assert torch.equal(packed.weight, weight)
