"""Compressed storage: without loss, of the size that the formula says, and clear about what it cannot take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmbench.kernels.nmtensor import compress, decompress, load, save
from nmbench.sparsity import NMPattern, nm_mask
from nmbench.sparsity.fast import fused as _fused

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


def test_a_group_with_fewer_non_zeros_and_a_nan():
    weight = torch.tensor([[0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0, float("nan"), -0.0, 0.0, 1.0]])
    back = decompress(compress(weight, "2:4"))
    assert torch.equal(back.nan_to_num(nan=9.0), weight.nan_to_num(nan=9.0))


def test_a_group_with_too_many_is_named():
    weight = torch.zeros(3, 8, 2, 2)
    weight[1, 4:7, 0, 1] = 1.0
    with pytest.raises(ValueError, match=r"layer3\.conv: the group of inputs 4 to 7 of output \(1, 0, 1\) has 3"):
        compress(weight, "2:4", "layer3.conv")


def test_a_view_in_channels_last_is_the_same_weight():
    weight = baked((4, 8, 3, 3), NMPattern.parse("2:4"))
    stored = compress(weight.to(memory_format=torch.channels_last), "2:4")
    assert torch.equal(stored.values, compress(weight, "2:4").values)
    assert torch.equal(decompress(stored), weight)


def test_sparse_and_quantised_tensors_are_refused():
    with pytest.raises(ValueError, match=r"layout torch\.sparse_coo"):
        compress(torch.eye(4).to_sparse(), "2:4")
    with pytest.raises(ValueError, match="quantised"):
        compress(torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8), "2:4")


def test_save_and_load(tmp_path):
    stored = {
        "a": compress(baked((4, 9), NMPattern.parse("3:5")), "3:5"),
        "b": compress(torch.zeros(2, 4).half(), "1:1"),
    }
    save(tmp_path / "w.safetensors", stored)
    back = load(tmp_path / "w.safetensors")
    assert {name: (one.pattern, one.shape) for name, one in back.items()} == {
        name: (one.pattern, one.shape) for name, one in stored.items()
    }
    assert torch.equal(decompress(back["a"]), decompress(stored["a"]))


def test_a_broken_file_is_told(tmp_path):
    (tmp_path / "w.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="holds no N:M tensors"):
        load(tmp_path / "w.safetensors")


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
def test_lengths_that_do_not_fit_are_told(tmp_path, change, words):
    stored = compress(baked((4, 12), NMPattern.parse("2:4")), "2:4")
    save(tmp_path / "w.safetensors", {"a": replace(stored, **change)})
    with pytest.raises(ValueError, match=words):
        load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("pattern", ["2:4", "3:5", "2:4@kernel"])
@pytest.mark.parametrize("shape", [(0, 8), (4, 0), (0, 8, 3, 3)], ids=str)
def test_an_empty_weight_comes_back(shape, pattern):
    stored = compress(torch.zeros(shape), pattern)
    assert stored.nbytes == 0
    assert decompress(stored).shape == shape


def test_decompress_compiles_into_one_graph_without_asking_for_kernels(monkeypatch):
    dense = torch.randn(8, 16)
    dense *= nm_mask(dense, "2:4")
    stored, x = compress(dense, "2:4"), torch.randn(3, 16)

    def untraceable() -> bool:
        raise AssertionError("asked while tracing")

    monkeypatch.setattr(_fused, "_switched_off", untraceable)
    compiled = torch.compile(lambda x: x @ decompress(stored).t(), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), x @ dense.t())
