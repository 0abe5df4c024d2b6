"""The kernels of storage under the interpreter: bit for bit what nmtensor's torch code makes, and the way back."""

import interpreted
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmbench.kernels.nmtensor import compress, decompress
from nmbench.sparsity import NMPattern, nm_mask

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

DTYPES = [
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.int8, torch.float8_e4m3fn, torch.float8_e5m2),
]
CLEAN = 2**31 - 1
WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
hypothesis = settings(
    max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
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


def test_more_than_one_tile() -> None:
    """A tile's last octet and the next one's first meet, and the last tile is not whole."""
    pattern = NMPattern(3, 5)
    assert agree(baked((-(-2100 * 5 // 67), 67), pattern, torch.float16), pattern) == "columns"


def not_a_number(dtype: torch.dtype) -> torch.Tensor:
    tiny = torch.finfo(dtype).smallest_normal / 2
    return torch.tensor([[float("nan"), -0.0, 0.0, -0.0, 0.0, -0.0, tiny, -float("nan")]]).to(dtype)


SPECIAL = {
    "a view": lambda p: baked((40, 12), p, torch.float32).t().contiguous().t(),
    "not aligned": lambda p: torch.cat([torch.zeros(1), baked((4, 16), p, torch.float32).reshape(-1)])[1:].view(4, 16),
    "no rows": lambda _: torch.zeros(0, 8),
    "no inputs": lambda _: torch.zeros(2, 0, 3, 3),
    "NaN and zeros of either sign": lambda _: not_a_number(torch.float32),
    "the same in 8 bits": lambda _: not_a_number(torch.float8_e5m2),
    "the lowest int8": lambda _: torch.tensor([[-128, 0, 0, -128, 0, 0, 0, -128]], dtype=torch.int8),
}


@pytest.mark.parametrize("text", ["2:4", "3:5"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_weights(name: str, text: str) -> None:
    pattern = NMPattern.parse(text)
    agree(SPECIAL[name](pattern), pattern)


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
