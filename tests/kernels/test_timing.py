"""The timing harness on the CPU; tests/gpu/test_gpu_bench.py has captures and events on a GPU."""

import pytest
import torch

from nmbench.kernels import timing
from nmbench.kernels.timing import compare

CPU = torch.device("cpu")


def test_every_candidate_is_timed_and_its_quartiles_are_in_order() -> None:
    x = torch.ones(64)
    found = compare({"one": [x.sum], "two": [x.sum, x.mean]}, CPU, budget_s=0.01)
    assert list(found) == ["one", "two"]
    for one in found.values():
        assert 0 < one.low <= one.us <= one.high
        assert one.how == "wall"
    assert found["two"].calls == 2 * found["one"].calls


def test_candidates_alternate_and_no_one_is_always_first() -> None:
    seen: list[str] = []
    compare({name: [lambda name=name: seen.append(name)] for name in "ab"}, CPU, budget_s=0.0)
    rounds = [seen[i : i + 2] for i in range(len(seen) - 10, len(seen), 2)]
    assert [sorted(pair) for pair in rounds] == [["a", "b"]] * 5
    assert {pair[0] for pair in rounds} == {"a", "b"}


def test_median_not_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    # one pass of 0.1 s among passes of 1 ms must not show
    ticks = iter([0.0, 0.001] + [0.0, 0.001] + [0.0, 0.1] + [0.0, 0.001] * 4)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    assert compare({"x": [lambda: None]}, CPU, budget_s=0.0)["x"].us == pytest.approx(1000.0)
