"""One cell of the benchmark: what is timed, what is refused, and that a wrong product never gets a time."""

from typing import Any

import pytest
import torch
from bench_toys import TOYS
from hypothesis import given
from hypothesis import strategies as st

from nmbench.kernels.bench import cell
from nmbench.kernels.bench.candidates import stored_bytes
from nmbench.kernels.bench.cell import measure
from nmbench.kernels.bench.options import Options
from nmbench.kernels.bench.roofline import Roofline
from nmbench.kernels.bench.suites import Case
from nmbench.kernels.nmtensor import compress
from nmbench.kernels.problem import Problem, conv2d_problem, linear_problem
from nmbench.kernels.timing import Timing
from nmbench.sparsity import NMPattern

CPU = torch.device("cpu")
ANY = (NMPattern(1, 1), torch.float32, CPU)
LINEAR = Case("tiny", linear_problem((32, 64), (4, 64), *ANY))
CONV = Case("tiny", conv2d_problem((16, 8, 3, 3), (1, 8, 6, 6), *ANY, (2, 2), (1, 1)))
#: Dense ways that there are besides eager, where the processor or an extra gives them.
MORE = {f"{name} {dtype}" for name in ("onednn prepacked", "onnxruntime", "openvino") for dtype in ("fp32", "bf16")}
LIMITS = Roofline(copy=1e9, read=2e9, floor_us=3.0, flops={"fp32": 1e9})


def measured(case: Case = LINEAR, dtype: str = "fp32", patterns: tuple[str, ...] = ("2:4",), **options: Any) -> Any:
    return measure(
        case, dtype, TOYS, LIMITS, CPU, Options(patterns=tuple(map(NMPattern.parse, patterns)), cell_s=0.0, **options)
    )


def by_backend(told: Any) -> dict[str, Any]:
    return {one["backend"]: one for one in told["sparse"]}


@pytest.mark.parametrize("case", [LINEAR, CONV])
def test_what_is_right_is_timed_against_the_dense_product(case: Case) -> None:
    told = measured(case)
    found = by_backend(told)["plain"]
    dense = min(told["dense"], key=lambda one: one["us"])
    assert {one["way"] for one in told["dense"]} - MORE == {"eager fp32"}
    assert found["ratio"] == pytest.approx(dense["us"] / found["us"], rel=1e-2)
    assert found["how"] == dense["how"] == ("cpu" if torch.get_num_threads() == 1 else "wall")


@given(st.sampled_from(["2:4", "1:4", "3:5", "1:16"]), st.integers(1, 40), st.sampled_from([(), (3, 2)]))
def test_stored_bytes_are_those_of_the_storage(text: str, deep: int, kernel: tuple[int, ...]) -> None:
    pattern, shape = NMPattern.parse(text), (3, deep, *kernel)
    for dtype in (torch.bfloat16, torch.int8):
        problem = Problem("linear", shape, (1, deep), 1, pattern, dtype, "cpu")
        assert stored_bytes(problem) == compress(torch.zeros(shape, dtype=dtype), pattern).nbytes


def test_what_is_wrong_or_broken_has_a_reason_and_no_time() -> None:
    found = by_backend(measured())
    assert found["wrong"]["refused"].startswith("wrong: relative error 0.05")
    assert found["broken"]["refused"] == "failed: RuntimeError: no such library"
    assert "us" not in found["wrong"]
    assert "us" not in found["broken"]


def test_a_refusal_is_told_in_the_backends_words() -> None:
    told = measured(patterns=("1:16",))
    assert by_backend(told)["plain"]["refused"] == "no 1:16 here"
    assert told["chosen"] == [{"pattern": "1:16", "backend": "dense", "ratio": 1.0, "measured_again": False}]


def test_sixteen_bit_rows_are_held_against_both_kinds() -> None:
    told = measured(dtype="bf16")
    assert {one["way"] for one in told["dense"]} - MORE == {"eager bf16", "eager fp16"}
    assert told["dense_us"] == pytest.approx(min(one["us"] for one in told["dense"]), rel=1e-3)


def test_no_dense_convolution_of_8_bits_is_said() -> None:
    told = measured(CONV, "int8")
    assert told["dense"] == [{"way": "-", "refused": "torch has no dense conv2d of int8"}]
    assert told["chosen"] == []
    assert all("ratio" not in one for one in told["sparse"])


def times(monkeypatch: pytest.MonkeyPatch, *rounds: dict[str, float]) -> None:
    """`compare` answers with these microseconds, a call after the other."""
    left = list(rounds)

    def fake(candidates: dict[str, Any], device: Any, **_: Any) -> dict[str, Timing]:
        us = dict.fromkeys(MORE, 99.0) | left.pop(0)
        assert set(us) - MORE <= set(candidates) <= set(us)
        return {name: Timing(us[name], us[name], us[name], 1, "wall") for name in candidates}

    monkeypatch.setattr(cell, "compare", fake)


def test_the_choice_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # the second figure counts: the first one is why it was picked
    first = {"eager fp32": 10.0, "plain 2:4 ()": 5.0}
    times(monkeypatch, first, {"eager fp32": 9.0, "plain 2:4 ()": 6.0})
    told = measured()
    assert by_backend(told)["plain"]["ratio"] == 2.0
    assert told["chosen"] == [{"pattern": "2:4", "backend": "plain", "ratio": 1.5, "measured_again": True}]


def test_dense_keeps_its_place_within_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, {"eager fp32": 10.0, "plain 2:4 ()": 9.9})
    assert measured()["chosen"][0]["backend"] == "dense"


def test_shares_of_the_roofline(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, {"eager fp32": 10.0, "plain 2:4 ()": 9.9})
    found = by_backend(measured())["plain"]
    # 2:4 of 32 x 64 in fp32: 1024 values and as many positions of 2 bits; x and y are 4 x 64 and 4 x 32
    weight, activations = 1024 * 4 + 256, 4 * (4 * 64 + 4 * 32)
    assert found["compressed_bytes"] == weight
    assert found["bytes"] == 32 * 64 * 4
    assert found["share_bytes"] == pytest.approx((weight + activations) / 2e9 * 1e6 / 9.9)
    assert found["share_bound"] == pytest.approx((weight / 2e9 * 1e6 + 3.0) / 9.9)
    assert found["share_flops"] == pytest.approx(2 * 4 * 32 * 64 / 1e9 * 1e6 / 9.9)
