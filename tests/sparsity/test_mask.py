"""nm_mask against the definition in plain Python loops: layouts, ties, special values, errors."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sparsity_toys import reference_mask

from nmbench.sparsity import NMPattern, NonFiniteWeightError, nm_mask
from nmbench.sparsity.fast import native as _native

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


@st.composite
def cases(draw, max_inner=3):
    """(weight, pattern, dim, groups): small integers, so that ties are common, in some memory layout."""
    m = draw(st.integers(1, 20))
    pattern = NMPattern(draw(st.integers(1, m)), m, draw(st.sampled_from(["input", "input", "kernel"])))
    dim, groups = draw(st.sampled_from([(1, 1), (1, 1), (0, 1), (0, 2), (0, 3), (1, 2)]))
    sizes = [draw(st.integers(1, 5)), draw(st.integers(1, 5))]
    sizes[dim] = draw(st.integers(1, 30)) * groups
    shape = (*sizes, *draw(st.lists(st.integers(1, max_inner), max_size=3)))
    seed = draw(st.integers(0, 2**31))
    weight = torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(seed)) / 4
    weight = weight.to(draw(st.sampled_from(DTYPES)))
    layout = draw(st.sampled_from(["contiguous", "channels_last", "strided", "transposed"]))
    if layout == "channels_last" and weight.dim() in FORMATS:
        weight = weight.contiguous(memory_format=FORMATS[weight.dim()])
    elif layout == "strided":
        weight = torch.stack([weight, weight + 1], dim=-1)[..., 0]
    elif layout == "transposed":
        weight = weight.transpose(0, 1).contiguous().transpose(0, 1)
    return weight, pattern, dim, groups


@given(case=cases())
def test_equals_the_definition(path, case):
    weight, p, dim, groups = case
    mask = nm_mask(weight, p, dim=dim, groups=groups)
    assert torch.equal(mask, reference_mask(weight, p.n, p.m, p.axis, dim, groups))
    assert mask.dtype == torch.bool
    assert mask.stride() == torch.empty_like(weight).stride()  # those of a dense weight


@given(rows=st.integers(1, 3), size=st.integers(1, 70), inner=st.integers(25, 140), m=st.integers(1, 9), data=st.data())
def test_equals_the_definition_with_a_long_inner_dimension(path, rows, size, inner, m, data):
    n = data.draw(st.integers(1, m))
    weight = torch.randn(rows, size, inner, generator=torch.Generator().manual_seed(inner))
    reshaped = weight.transpose(1, 2).reshape(rows * inner, size)  # each line a row: linear is tested above
    expected = nm_mask(reshaped, NMPattern(n, m)).reshape(rows, inner, size).transpose(1, 2)
    assert torch.equal(nm_mask(weight, NMPattern(n, m)), expected)


def test_groups_of_a_transposed_convolution_do_not_share_an_nm_group(path):
    """Each of 2 parts of 6 input channels ends in a short group: channels 4 and 5 both stay under 2:4."""
    mask = nm_mask(torch.arange(1.0, 13.0).reshape(12, 1), "2:4", dim=0, groups=2)
    assert mask.flatten().tolist() == [False, False, True, True, True, True] * 2


def test_minus_zero_is_no_smaller_than_zero(path):
    assert nm_mask(torch.tensor([[-0.0, 0.0, 0.0, -0.0]]), "2:4").tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormals_are_compared_exactly(path, dtype):
    tiny = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps  # the smallest number above zero
    weight = torch.tensor([[0.0, 1.0, -2.0, 3.0]], dtype=dtype) * tiny
    assert nm_mask(weight, "2:4").tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("shape", [(4, 10), (4, 10, 3, 3), (2, 5, 70)])
def test_nan_and_infinity_are_errors(path, dtype, bad, shape):
    for at in (0, -1):
        weight = torch.ones(shape, dtype=dtype)
        weight.view(-1)[at] = bad
        with pytest.raises(NonFiniteWeightError, match="NaN or infinity"):
            nm_mask(weight, "2:4")


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_finite_number_is_finite(path, dtype):
    assert nm_mask(torch.full((1, 4), torch.finfo(dtype).max, dtype=dtype), "1:4").sum() == 1


def test_the_environment_switches_the_compiled_pass_off(monkeypatch):
    monkeypatch.setenv("NMBENCH_NATIVE", "0")
    _native.library.cache_clear()
    try:
        assert _native.library() is None
        assert "NMBENCH_NATIVE=0" in _native.why_not()
        assert not _native.available_for(torch.ones(4))
    finally:
        monkeypatch.undo()
        _native.library.cache_clear()


def test_without_a_compiler_the_reason_is_told(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("NMBENCH_NATIVE", raising=False)
    _native.library.cache_clear()
    try:
        assert _native.why_not() == "no C compiler was found"
        assert nm_mask(torch.tensor([[1.0, 2.0]]), "1:2").tolist() == [[False, True]]
    finally:
        monkeypatch.undo()
        _native.library.cache_clear()


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_only_floating_point(dtype):
    with pytest.raises(ValueError, match="floating-point"):
        nm_mask(torch.zeros(4, 4, dtype=dtype), "2:4")


def test_one_dimension_has_nothing_to_group():
    with pytest.raises(ValueError, match="no dimension 1 to group"):
        nm_mask(torch.ones(8), "2:4")


@pytest.mark.parametrize("dim", [-1, 2, 3])
def test_only_the_first_two_dimensions_can_be_grouped(dim):
    with pytest.raises(ValueError, match="dim must be 0 or 1"):
        nm_mask(torch.randn(4, 4, 4, 4), "2:4", dim=dim)


@pytest.mark.parametrize("groups", [0, -1, 3])
def test_groups_must_divide(groups):
    with pytest.raises(ValueError, match="groups do not divide"):
        nm_mask(torch.randn(8, 4), "2:4", dim=0, groups=groups)
