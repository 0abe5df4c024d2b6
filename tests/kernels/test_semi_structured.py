"""Around the libraries: which weights qualify, what is padded to what, and what is not copied."""

import pytest
import torch
from fake_libraries import FakeCuSparseLt, FakeCutlass, calls, fakes

from nmbench.kernels.backends.cusparselt import CuSparseLt
from nmbench.kernels.backends.cutlass import Cutlass
from nmbench.kernels.packed import PackedWeight
from nmbench.kernels.problem import conv2d_problem, input_matrix, linear_problem
from nmbench.sparsity import NMPattern, nm_mask

CPU = torch.device("cpu")
BF16 = torch.bfloat16
BACKENDS = [FakeCuSparseLt(), FakeCutlass()]


@pytest.fixture(autouse=True)
def _faked():
    with fakes():
        yield


def layer(shape, x, pattern="2:4", dtype=BF16, **options):
    p = NMPattern.parse(pattern)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weight = (weight * nm_mask(weight, p)).to(dtype)
    make = linear_problem if len(shape) == 2 else conv2d_problem
    return weight, make(shape, x, p, dtype, CPU, **options)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "2:8", "1:8", "1:16", "2:16", "1:3"])
@pytest.mark.parametrize("width", [128, 70])
def test_these_patterns_always_qualify(backend, pattern, width):
    weight, problem = layer((64, width), (16, width), pattern)
    assert backend.refusal(problem) is None
    backend.pack(weight, problem)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda b: b.name)
def test_the_weight_decides_and_not_its_pattern(backend):
    weight, problem = layer((64, 128), (16, 128), "4:8")
    with pytest.raises(ValueError, match=r"violates the pattern: more than two .* \(output 0, columns"):
        backend.pack(weight, problem)
    lucky = layer((64, 128), (16, 128), "2:4")[0]
    backend.pack(lucky, problem)


@pytest.mark.parametrize(
    ("backend", "dtype", "shape", "rows", "x", "matrix"),
    [
        (BACKENDS[0], BF16, (60, 70), 3, (8, 80), (64, 80)),
        (BACKENDS[1], BF16, (60, 70), 3, (8, 128), (64, 128)),
        (BACKENDS[0], torch.int8, (60, 70), 3, (16, 96), (64, 96)),
        (BACKENDS[1], torch.int8, (60, 70), 17, (32, 128), (64, 128)),
        (BACKENDS[0], torch.float8_e4m3fn, (64, 96), 16, (16, 96), (64, 96)),
    ],
)
def test_sizes_are_brought_to_what_the_library_takes(backend, dtype, shape, rows, x, matrix):
    weight, problem = layer(shape, (rows, shape[1]), dtype=dtype)
    got = backend.linear(torch.ones(rows, shape[1]).to(dtype), backend.pack(weight, problem), None, problem)
    assert got.shape == (rows, shape[0])
    assert got.is_contiguous()
    assert calls[-1][1:3] == (x, matrix)


def test_one_by_one_on_channels_last_is_not_copied():
    _, problem = layer((32, 64, 1, 1), (2, 64, 4, 4))
    x = torch.randn(2, 64, 4, 4).to(memory_format=torch.channels_last)
    rows = input_matrix(x, 64, problem)
    assert rows.shape == (32, 64)
    assert rows.data_ptr() == x.data_ptr()


@pytest.mark.parametrize(
    ("shape", "x", "options", "words"),
    [
        ((8, 1, 3, 3), (1, 8, 5, 5), {"groups": 8}, "depthwise"),
        ((64, 4, 3, 3), (1, 64, 5, 5), {"groups": 16}, "16 groups"),
        ((10, 20), (4, 20), {}, "too small: 10 x 20 would be padded to 32 x 64"),
    ],
)
def test_what_is_refused_in_words(shape, x, options, words):
    problem = layer(shape, x, **options)[1]
    assert words in BACKENDS[1].refusal(problem)


@pytest.mark.parametrize("cls", [CuSparseLt, Cutlass])
def test_dtypes_and_devices_are_refused_in_words(cls):
    assert cls().refusal(layer((64, 128), (8, 128))[1]) == "needs a GPU, not cpu"
    fake = next(b for b in BACKENDS if isinstance(b, cls))
    assert fake.refusal(layer((64, 128), (8, 128), dtype=torch.float32)[1]) == "unsupported dtype float32"


def test_the_weight_is_unpacked_without_the_settings_of_its_rows():
    weight, problem = layer((64, 128), (8, 128))
    packed = PackedWeight(weight, problem, BACKENDS[0]).tuned((("alg_id", 3),))
    calls.clear()
    assert torch.equal(packed.weight, weight)
    assert [call[-1] for call in calls] == [()]
