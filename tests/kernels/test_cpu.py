"""The backend for processors, beyond what the battery of every backend checks."""

import copy
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nmbench._util import native
from nmbench.kernels import PackedWeight, convert
from nmbench.kernels.backends.cpu import Cpu, CpuRows
from nmbench.kernels.conversion.accuracy import allowed, worst
from nmbench.kernels.cpu import build
from nmbench.kernels.problem import conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern, nm_mask

P = NMPattern(2, 4)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def needs_a_compiler():
    if isinstance(found := build.library(P), str):
        pytest.skip(found)


def sparse(*shape, pattern=P, dtype=torch.float32):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (weight * nm_mask(weight, pattern)).to(dtype)


def linear(rows=8, inside=64, out=32, dtype=torch.float32, pattern=P):
    """(weight, input, problem)."""
    weight, x = sparse(out, inside, pattern=pattern, dtype=dtype), torch.randn(rows, inside).to(dtype)
    return weight, x, linear_problem((out, inside), tuple(x.shape), pattern, dtype, CPU)


def run(weight, x, problem, bias=None):
    return Cpu().run(x, Cpu().pack(weight, problem), bias, problem)


@given(
    st.integers(1, 130), st.integers(1, 250), st.integers(1, 40), st.integers(1, 6), st.integers(1, 12), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_rows_in_lanes_take_every_size_and_pattern(rows, inside, out, n, more, fused):
    pattern = NMPattern(n, n + more)
    weight, x, problem = linear(rows, inside, out, pattern=pattern)
    packed, bias, addend = CpuRows().pack(weight, problem), torch.randn(out), torch.randn(rows, out)
    assert torch.equal(CpuRows().unpack(packed, problem), weight)
    got = CpuRows().linear(x, packed, bias, problem, addend=addend if fused else None, relu=fused)
    right = x.double() @ weight.double().t() + bias
    torch.testing.assert_close(got.double(), (right + addend).relu() if fused else right, rtol=1e-4, atol=1e-4)


@given(
    st.integers(1, 40), st.integers(1, 90), st.integers(1, 70), st.sampled_from([torch.float32, torch.bfloat16]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_size_is_right(rows, inside, out, dtype):
    weight, x, problem = linear(rows, inside, out, dtype)
    right = x.double() @ weight.double().t()
    torch.testing.assert_close(
        run(weight, x, problem).double(), right, rtol=1e-2, atol=1e-2 if dtype != torch.float32 else 1e-4
    )


@given(
    st.sampled_from([(1, 1), (3, 3), (1, 5), (2, 3)]), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2),
    st.sampled_from([1, 2]), st.integers(1, 9), st.integers(1, 20), st.sampled_from([Cpu(), CpuRows()]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_convolution_is_right(kernel, stride, padding, dilation, groups, inside, out, backend):
    weight = sparse(out * groups, inside * 4, *kernel)
    x = torch.randn(2, inside * 4 * groups, 11, 10)
    about = (stride, stride), (padding, padding), (dilation, dilation), groups
    problem = conv2d_problem(tuple(weight.shape), tuple(x.shape), P, weight.dtype, CPU, *about)
    right = nn.functional.conv2d(x.double(), weight.double(), None, *about)
    got = backend.conv2d(x, backend.pack(weight, problem), None, problem)
    torch.testing.assert_close(got.double(), right, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "ours"),
    [("2:4", "2:4"), ("1:32", "1:16"), ("2:12", "2:4"), ("3:6", None), ("16:32", None), ("1:6", "1:2")],
)
def test_a_pattern_runs_as_the_narrowest_that_covers_it(given, ours):
    assert build.covering(NMPattern.parse(given)) == (ours and NMPattern.parse(ours))


def test_a_pattern_that_is_covered_gives_the_right_numbers():
    wide = NMPattern(2, 12)
    weight, x, problem = linear(inside=72, pattern=wide)
    torch.testing.assert_close(run(weight, x, problem), x @ weight.t())


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_what_is_built_for_less_is_right_too(monkeypatch, isa):
    monkeypatch.setenv(build.ISA_VARIABLE, isa)
    for rows in (1, 19):
        weight, x, problem = linear(rows, 70, 37)
        for backend in (Cpu(), CpuRows()):
            got = backend.linear(x, backend.pack(weight, problem), None, problem)
            torch.testing.assert_close(got, x @ weight.t())
    assert build.library(P).portable == (isa == "portable")


@pytest.mark.parametrize("backend", [Cpu(), CpuRows()])
@pytest.mark.parametrize("rows", [50, 2501])  # the second is shared out between the threads
def test_every_number_of_threads_gives_equal_bits(backend, rows):
    weight, x, problem = linear(rows, 128, 300)
    packed, before = backend.pack(weight, problem), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(backend.linear(x, packed, None, problem))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(results[0], x @ weight.t())
    assert all(torch.equal(results[0], one) for one in results[1:])


def test_several_threads_may_call_at_once():
    weight, x, problem = linear(20, 128, 96)
    packed = PackedWeight(weight, problem, Cpu())
    right, results = packed.linear(x, None), []
    callers = [threading.Thread(target=lambda: results.append(packed.linear(x, None))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    assert all(torch.equal(right, one) for one in results)


@pytest.mark.parametrize("backend", [Cpu(), CpuRows()])
def test_infinity_and_nan_at_kept_positions_go_through(backend):
    weight, x, problem = linear(3)
    kept = int(weight[0].nonzero()[0])
    x[0, kept], x[1, kept] = torch.inf, torch.nan
    y = backend.linear(x, backend.pack(weight, problem), None, problem)
    assert torch.equal(y[:2, 0].isfinite(), torch.tensor([False, False]))
    assert torch.isfinite(y[2]).all()


def test_nothing_is_read_or_written_outside():
    """NaN around the input and marks around the result: an input that lies within others' numbers."""
    weight, x, problem = linear(5, 50, 21)
    around = torch.full((3 * x.numel(),), torch.nan)
    inside = around[x.numel() : 2 * x.numel()].view_as(x)
    inside.copy_(x)
    for backend in (Cpu(), CpuRows()):
        packed = backend.pack(weight, problem)
        assert torch.equal(backend.linear(inside, packed, None, problem), backend.linear(x, packed, None, problem))


# -- bad input ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.double(), "float64"),
        (lambda x: x.to(torch.bfloat16), "bfloat16"),
        (lambda x: x[:, :-1], "does not fit"),
        (lambda x: x.to("meta"), "meta"),
        (lambda x: x[0, 0], "does not fit"),
        (lambda x: x.clone().requires_grad_(), "inference"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_in_words(change, words):
    weight, x, problem = linear()
    packed = Cpu().pack(weight, problem)
    with pytest.raises(RuntimeError, match=words):
        Cpu().linear(change(x), packed, None, problem)


@pytest.mark.parametrize("backend", [Cpu(), CpuRows()])
@pytest.mark.parametrize("change", [lambda x: x.t().contiguous().t(), lambda x: x[::2], lambda x: x[:0]])
def test_an_input_of_another_layout_or_without_rows_gives_the_right_numbers(backend, change):
    weight, x, problem = linear(6)
    x = change(x)
    y = backend.linear(x, backend.pack(weight, problem), None, problem)
    torch.testing.assert_close(y, x @ weight.t(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", [Cpu(), CpuRows()])
def test_images_of_another_layout_or_none_give_the_right_numbers(backend):
    weight = sparse(16, 32, 3, 3)
    problem = conv2d_problem((16, 32, 3, 3), (2, 32, 7, 5), P, torch.float32, CPU, padding=(1, 1))
    packed = backend.pack(weight, problem)
    x = torch.randn(2, 32, 14, 5)
    for given_x in (x[:, :, ::2], x[:, :, :7].contiguous(memory_format=torch.channels_last), x[:0]):
        right = nn.functional.conv2d(given_x, weight, padding=1)
        torch.testing.assert_close(backend.conv2d(given_x, packed, None, problem), right, atol=1e-4, rtol=1e-4)


def test_a_weight_that_breaks_the_pattern_is_refused_with_the_output():
    weight, _, problem = linear()
    weight[3, :4] = 1.0
    for backend in (Cpu(), CpuRows()):
        with pytest.raises(ValueError, match="output 3"):
            backend.pack(weight, problem)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": torch.float16}, "no kernel for float16"),
        ({"pattern": NMPattern(3, 5)}, "leaves nothing out"),
        ({"pattern": NMPattern(2, 4, "kernel")}, "kernel"),
        ({"device": "cuda"}, "not on cuda"),
    ],
)
def test_what_it_does_not_take_is_refused_in_words(change, words):
    assert words in str(Cpu().refusal(replace(linear()[2], **change)))


@pytest.mark.parametrize("broken", ["missing", "failing"])
def test_without_a_working_compiler_a_model_stays_dense(monkeypatch, tmp_path, broken):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler") if broken == "missing" else "false")
    build._built.cache_clear()
    try:
        model = nn.Sequential(nn.Linear(64, 64, bias=False))
        model[0].weight.data = sparse(64, 64)
        converted, report = convert(model, torch.randn(4, 64), backends=["cpu"])
        assert type(converted[0]) is nn.Linear
        assert "not compiled" in str(report)
    finally:
        build._built.cache_clear()


def test_a_kept_object_that_was_cut_short_is_built_again(monkeypatch, tmp_path):
    monkeypatch.setenv("NMBENCH_CACHE", str(tmp_path))
    source = tmp_path / "one.c"
    source.write_text("int one(void) { return 1; }\n")
    assert native.compiled(source).one() == 1
    (kept,) = Path(tmp_path, "native").glob("*.so")
    whole = kept.read_bytes()
    kept.unlink()
    kept.write_bytes(whole[: len(whole) // 2])
    assert native.compiled(source).one() == 1
    assert kept.read_bytes() == whole


# -- in a model -----------------------------------------------------------------------------------------------------
def packed_model():
    weight, x, problem = linear(4)
    module = nn.Module()
    module.packed = PackedWeight(weight, problem, Cpu())
    return module, weight, x


def test_a_packed_weight_is_copied_saved_and_loaded():
    module, weight, x = packed_model()
    other = copy.deepcopy(module)
    assert torch.equal(other.packed.weight, weight)
    other.packed.load_state_dict(module.packed.state_dict())
    assert torch.equal(other.packed.linear(x, None), module.packed.linear(x, None))


def test_it_takes_less_memory_than_the_dense_weight():
    weight, _, problem = linear(64, 256, 256, pattern=NMPattern(1, 4))
    held = sum(part.nbytes for part in Cpu().pack(weight, problem).values())
    assert held <= 0.35 * weight.nbytes


def test_the_product_follows_the_weight_that_is_held():
    weight, x, problem = linear()
    other = -weight
    packed = PackedWeight(weight, problem, Cpu())
    torch.testing.assert_close(packed.product(x, None), x @ weight.T)
    packed.load_state_dict(PackedWeight(other, problem, Cpu()).state_dict())
    torch.testing.assert_close(packed.product(x, None), x @ other.T)
    copied = copy.deepcopy(packed)
    for name, held in copied.named_buffers():
        setattr(copied, name, PackedWeight(weight, problem, Cpu()).get_buffer(name).clone())
        assert held is not copied.get_buffer(name)
    torch.testing.assert_close(copied.product(x, None), x @ weight.T)
    torch.testing.assert_close(packed.product(x, None), x @ other.T)


def test_what_a_long_sum_rounds_is_allowed_in_any_order():
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(1, 16384, generator=draw), torch.randn(64, 16384, generator=draw)
    one_by_one = torch.from_numpy(np.add.accumulate((x * weight).numpy(), axis=1)[:, -1]).view(1, -1)
    right = x.double() @ weight.double().t()
    most = allowed(right, 0.0, torch.float32, 16384)
    assert allowed(right, 0.0, torch.float32) < worst(one_by_one, right) <= most
    assert worst(one_by_one + 1e-3 * right.abs().max(), right) > most
    assert allowed(right, 0.0, torch.float64, 16384) < 1e-13 * right.abs().max(), "float64 rounds less"


def test_places_of_kept_weights_take_a_byte():
    problem = conv2d_problem((64, 64, 3, 3), (1, 64, 8, 8), NMPattern(1, 4), torch.float32, torch.device("cpu"))
    weight = torch.randn(64, 64, 3, 3)
    for backend in (Cpu(), CpuRows()):
        (held,) = backend.pack(weight * nm_mask(weight, problem.pattern), problem).values()
        assert held.numel() <= 0.33 * weight.nbytes
