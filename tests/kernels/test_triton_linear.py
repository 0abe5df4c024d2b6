"""The Triton kernels' linear layers, under the interpreter, against decompressed float64."""

from dataclasses import replace

import interpreted
import pytest
import torch
from interpreted import assert_near, data, packed, weight_of
from torch.nn.functional import linear

from nmbench.kernels.backend import Problem, result_dtype
from nmbench.kernels.backends.triton import Triton
from nmbench.kernels.nmtensor import compress
from nmbench.sparsity import NMPattern

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

PATTERNS = ["2:4", "1:4", "1:16", "4:8", "3:5", "1:1", "2:2", "1:2", "7:11", "5:64", "6:33"]
FLOAT8 = torch.float8_e4m3fn
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.int8, FLOAT8]


def check(kernel, text: str, dtype: torch.dtype, *, shape=(19, 83), rows=5, biased=True, parts=()) -> None:
    """One product against decompressed float64."""
    pattern, wide = NMPattern.parse(text), torch.float32 if dtype == FLOAT8 else dtype
    weight, x = weight_of(shape, pattern, wide).to(dtype), data((rows, shape[1]), wide).to(dtype)
    bias = data(shape[:1], result_dtype(dtype)) if biased else None
    stored = compress(weight, pattern)
    parted = (stored.values, stored.positions) if dtype == FLOAT8 else packed(weight, pattern)
    got = interpreted.run(kernel, x, *parted, bias, shape[0], pattern, *parts)
    assert got.dtype == result_dtype(dtype)
    assert_near(got, linear(x.double(), weight.double(), None if bias is None else bias.double()))


@pytest.mark.parametrize("kernel", [interpreted.matmul, interpreted.split_k])
@pytest.mark.parametrize("text", PATTERNS)
def test_any_pattern_with_remainders_in_rows_outputs_and_depth(text: str, kernel) -> None:
    check(kernel, text, torch.float32)


@pytest.mark.parametrize("kernel", [interpreted.matmul, interpreted.split_k])
@pytest.mark.parametrize("text", ["1:16", "4:8", "3:5", "1:1", "7:64"])
def test_any_pattern_of_float8(text: str, kernel) -> None:
    check(kernel, text, FLOAT8, rows=18)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("kernel", "parts"), [(interpreted.matmul, ()), (interpreted.split_k, ()), (interpreted.split_k, (1,))]
)
def test_dtypes(dtype: torch.dtype, kernel, parts, biased: bool) -> None:
    check(kernel, "2:4", dtype, shape=(17, 70), rows=18, biased=biased, parts=parts)


@pytest.mark.parametrize("splits", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("text", ["3:5", "1:16"])
def test_split_k_into_more_parts_than_divide_the_groups(text: str, splits: int) -> None:
    check(interpreted.split_k, text, torch.float32, shape=(9, 161), rows=1, parts=(splits,))


@pytest.mark.parametrize("rows", [3, 40])
def test_float8_through_the_backend(rows: int) -> None:
    dtype, pattern = torch.float8_e4m3fn, NMPattern(2, 4)
    weight, x = weight_of((8, 24), pattern, torch.float32).to(dtype), data((2, rows, 24), torch.float32).to(dtype)
    case = problem(weight=(8, 24), input=(2, rows, 24), rows=2 * rows, dtype=dtype, device="cpu")
    got = interpreted.run(interpreted.backend, x, weight, torch.zeros(8).bfloat16(), case)
    assert_near(got, linear(x.double(), weight.double()))


def test_few_rows_are_offered_in_one_part_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from nmbench.kernels.triton import split_k

    assert Triton().variants(data((3, 12), torch.float32), {}, None, problem()) == [()], "there is one part anyhow"
    monkeypatch.setattr(split_k, "splits_for", lambda *_: 2)
    few, many = problem(), problem(input=(40, 12), rows=40)
    pattern = NMPattern(2, 4)
    weight, x = weight_of((8, 12), pattern, torch.float32), data((3, 12), torch.float32)
    offered = Triton().variants(x, {}, None, few)
    assert offered == [(), (("splits", 1),)]
    assert Triton().variants(data((40, 12), torch.float32), {}, None, many) == [()]
    for settings in offered:
        case = replace(few, settings=settings, dtype=torch.float32, device="cpu")
        got = interpreted.run(interpreted.backend, x, weight, None, case)
        assert_near(got, linear(x.double(), weight.double()))


def problem(**over) -> Problem:
    fields = {"kind": "linear", "weight": (8, 12), "input": (1, 12), "rows": 1, "pattern": NMPattern(2, 4)}
    fields |= {"dtype": torch.float16, "device": "cuda", "capability": (9, 0)}
    return Problem(**{**fields, **over})


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"device": "cpu"}, "needs a GPU"),
        ({"capability": (7, 5)}, "8.0"),
        ({"dtype": torch.float64}, "float64"),
        ({"pattern": NMPattern(2, 4, "kernel")}, "axis"),
        ({"kind": "conv2d", "weight": (8, 1, 3, 3), "groups": 8}, "depthwise"),
        ({"dtype": torch.float8_e4m3fn, "capability": (8, 6)}, "8.9"),
        ({"dtype": torch.float8_e4m3fn, "kind": "conv2d", "weight": (8, 12, 3, 3)}, "no convolution of float8"),
        ({"dtype": torch.float8_e5m2}, "no kernel for float8_e5m2"),
    ],
)
def test_refuses_in_words(over, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert words in str(Triton().refusal(problem(**over)))
