"""The kernels of storage under the interpreter: bit for bit what nmtensor's torch code makes, and the way back."""

from __future__ import annotations

import interpreted
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmbench.kernels.nmtensor import compress, decompress
from nmbench.sparsity import NMPattern, nm_mask

pytest.importorskip("triton")

DTYPES = [
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.int8, torch.float8_e4m3fn, torch.float8_e5m2),
]
CLEAN = 2**31 - 1
WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
hypothesis = settings(
    max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def baked(shape: tuple[int, ...], pattern: NMPattern, dtype: torch.dtype, seed: int = 0, holes: float = 0.2):
    """Keeps to the pattern; some of what is kept is zero, some of the zeros are negative."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(shape, generator=generator)
    kept = nm_mask(dense, pattern) & (torch.rand(shape, generator=generator) >= holes)
    return torch.where(kept, (dense * 20).clamp(-127, 127), torch.copysign(torch.zeros(()), dense)).to(dtype)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(WORDS[x.element_size()])


def agree(weight: torch.Tensor, pattern: NMPattern) -> str:
    mode, values, positions, wrong, back = interpreted.run(interpreted.stored, weight, pattern)
    expected = compress(weight, pattern)
    assert wrong == CLEAN
    assert values.dtype == weight.dtype
    assert torch.equal(bits(values), bits(expected.values))
    assert torch.equal(positions, expected.positions)
    again = decompress(expected)
    assert torch.equal(bits(back), bits(again))
    assert back.dtype == again.dtype
    assert back.is_contiguous()
    return mode


@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 70)),
        st.tuples(st.integers(1, 5), st.integers(1, 36), st.integers(1, 3), st.integers(1, 3)),
        st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 4)),
    ),
    m=st.integers(1, 16),
    data=st.data(),
    axis=st.sampled_from(["input", "kernel"]),
    dtype=st.sampled_from(DTYPES),
    channels_last=st.booleans(),
    seed=st.integers(0, 99),
)
@hypothesis
def test_any_weight(shape, m, data, axis, dtype, channels_last, seed) -> None:
    pattern = NMPattern(data.draw(st.integers(1, min(m, 8))), m, axis)
    weight = baked(shape, pattern, dtype, seed)
    if len(shape) == 4 and channels_last:
        weight = weight.to(memory_format=torch.channels_last)
    agree(weight, pattern)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("text", ["2:4", "1:4", "4:8", "2:8", "3:8", "1:16", "1:2", "4:4", "1:1", "2:4@kernel"])
def test_whole_groups_side_by_side_are_read_as_one_run(text: str, dtype: torch.dtype) -> None:
    pattern = NMPattern.parse(text)
    assert agree(baked((5, 64), pattern, dtype), pattern) == "vector"
    convolution = baked((3, 16, 3, 3), pattern, dtype)
    if pattern.axis == "input":
        assert agree(convolution, pattern) == "columns"
        convolution = convolution.to(memory_format=torch.channels_last)
    assert agree(convolution, pattern) == "vector"


@pytest.mark.parametrize(("text", "mode"), [("3:5", "columns"), ("7:14", "columns"), ("2:4", "vector")])
def test_more_than_one_tile(text: str, mode: str) -> None:
    """A tile's last octet and the next one's first meet, and the last tile is not whole."""
    pattern = NMPattern.parse(text)
    width = 64 if mode == "vector" else 67
    assert agree(baked((-(-2100 * pattern.m // width), width), pattern, torch.float16), pattern) == mode


@pytest.mark.parametrize("text", ["2:4", "3:5"])
def test_views_that_are_not_contiguous(text: str) -> None:
    pattern = NMPattern.parse(text)
    agree(baked((40, 12), pattern, torch.float32).t().contiguous().t(), pattern)
    agree(torch.cat([torch.zeros(1), baked((4, 16), pattern, torch.float32).reshape(-1)])[1:].view(4, 16), pattern)


@pytest.mark.parametrize("text", ["2:4", "3:5", "2:4@kernel"])
@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (2, 0, 3, 3)], ids=str)
def test_an_empty_weight(shape: tuple[int, ...], text: str) -> None:
    agree(torch.zeros(shape), NMPattern.parse(text))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_nan_is_kept_and_negative_zero_is_zero(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal / 2
    line = [float("nan"), -0.0, 0.0, -0.0, 0.0, -0.0, tiny, -float("nan")]
    agree(torch.tensor([line]).to(dtype), NMPattern(2, 4))


def test_the_lowest_int8_is_not_zero() -> None:
    agree(torch.tensor([[-128, 0, 0, -128, 0, 0, 0, -128]], dtype=torch.int8), NMPattern(2, 4))


@pytest.mark.parametrize("text", ["2:4", "3:5", "2:4@kernel"])
@pytest.mark.parametrize("shape", [(6, 64), (40, 70), (5, 38, 3, 3)], ids=str)
def test_the_first_group_with_too_many_is_found(shape: tuple[int, ...], text: str) -> None:
    pattern = NMPattern.parse(text)
    weight = baked(shape, pattern, torch.float32, holes=0)
    rows = weight.movedim(1, -1).contiguous() if pattern.axis == "input" else weight
    flat = rows.view(-1, shape[1]) if pattern.axis == "input" else rows.view(1, -1)
    along = -(-flat.shape[1] // pattern.m)
    last, before = (len(flat) - 1, along // 2), (len(flat) // 2, 0)
    for row, number in (last, before):  # the second time both are there
        flat[row, number * pattern.m :][: pattern.m] = 1.0
        broken = rows.movedim(-1, 1) if pattern.axis == "input" else rows
        for way in (broken, broken.contiguous()):
            assert interpreted.run(interpreted.stored, way, pattern)[3] == row * along + number
