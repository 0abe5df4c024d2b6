"""Compressed storage: without loss, of the size that the formula says, and clear about what it cannot take."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmbench.kernels.nmtensor import check, compress, decompress, inferred
from nmbench.sparsity import NMPattern, nm_mask

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.float8_e4m3fn, torch.float8_e5m2]
PATTERNS = ["2:4", "1:4", "4:8", "1:16", "3:5", "1:1", "7:64", "2:4@kernel", "3:7@kernel"]


def baked(shape, pattern, seed=0):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return weight * nm_mask(weight, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(5, 23), (4, 10, 3, 3)], ids=str)
def test_every_bit_comes_back(pattern, dtype, shape):
    weight = (baked(shape, NMPattern.parse(pattern)) * 20).to(dtype)
    back = decompress(compress(weight, pattern))
    assert back.dtype == dtype
    assert torch.equal(back.float(), weight.float())


@given(out=st.integers(1, 6), size=st.integers(1, 40), m=st.integers(1, 20), data=st.data(), seed=st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_any_pattern_any_size(out, size, m, data, seed):
    pattern = NMPattern(data.draw(st.integers(1, m)), m)
    weight = baked((out, size), pattern, seed)
    stored = compress(weight, pattern)
    assert torch.equal(decompress(stored), weight)
    kept = out * -(-size // m) * pattern.n
    assert stored.nbytes == kept * 4 + -(-kept * pattern.index_bits // 8)


def test_the_size_is_that_of_the_cost_table():
    from nmbench.sparsity import sparsify
    from nmbench.sparsity.costs import compressed_bytes

    model = torch.nn.Sequential(torch.nn.Conv2d(10, 6, 3), torch.nn.Linear(23, 5))
    handle = sparsify(model, "2:4")
    handle.finalize()
    for info in handle.layers:
        weight = model.get_parameter(info.name)
        assert compress(weight, "2:4").nbytes == compressed_bytes(info, handle.pattern, 4)


@pytest.mark.parametrize(
    "weight",
    [torch.zeros(0, 8), torch.zeros(4, 0), torch.tensor([[0.0, 0.0, 0.0, 5.0, float("nan"), -0.0, 0.0, 1.0]])],
    ids=["no rows", "no inputs", "NaN"],
)
def test_empty_weights_and_nan_come_back(weight):
    torch.testing.assert_close(decompress(compress(weight, "2:4")), weight, rtol=0, atol=0, equal_nan=True)


def test_a_group_with_too_many_is_named():
    weight = torch.zeros(3, 8, 2, 2)
    weight[1, 4:7, 0, 1] = 1.0
    with pytest.raises(ValueError, match=r"layer3\.conv: the group of inputs 4 to 7 of output \(1, 0, 1\) has 3"):
        compress(weight, "2:4", "layer3.conv")


def test_sparse_and_quantised_tensors_are_refused():
    with pytest.raises(ValueError, match=r"layout torch\.sparse_coo"):
        compress(torch.eye(4).to_sparse(), "2:4")
    with pytest.raises(ValueError, match="quantised"):
        compress(torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8), "2:4")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (4, 16)}, r"values of shape \(24,\), not \(32,\)"),
        ({"values": torch.zeros(3)}, r"a: values of shape \(3,\)"),
        ({"positions": torch.zeros(5, dtype=torch.uint8)}, "a: positions of shape"),
        ({"positions": torch.zeros(6, dtype=torch.int8)}, "not torch.uint8"),
        ({"shape": (-4, -9)}, "no shape of a weight"),
    ],
)
def test_lengths_that_do_not_fit_are_told(change, words):
    stored = compress(baked((4, 12), NMPattern.parse("2:4")), "2:4")
    with pytest.raises(ValueError, match=words):
        check("a", replace(stored, **change))


# -- the pattern that a weight keeps to -------------------------------------------------------------------------------
@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8", "1:8", "2:8", "1:16", "2:16", "1:2", "3:5", "2:7", "8:32"])
@pytest.mark.parametrize("shape", [(64, 240), (32, 70, 3, 3)])
def test_the_pattern_that_was_put_there_is_found(pattern, shape):
    p = NMPattern.parse(pattern)
    assert inferred(baked(shape, p)) == p


@pytest.mark.parametrize("pattern", ["1:8", "1:16", "2:16"])
def test_a_layer_of_one_group_keeps_its_own_pattern(pattern):
    p = NMPattern.parse(pattern)
    assert inferred(baked((128, p.m), p)) == p


@given(out=st.integers(1, 5), width=st.integers(1, 70), density=st.floats(0, 1), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_what_is_found_holds(out, width, density, seed):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, width, generator=draw) * (torch.rand(out, width, generator=draw) < density)
    found = inferred(weight)
    if found is not None:
        compress(weight, found)


def test_what_only_the_last_rows_break_is_seen():
    weight = baked((3000, 64), NMPattern(2, 4))
    weight[-1, -4:] = 1.0
    found = inferred(weight)
    assert found is None or found != NMPattern(2, 4)
