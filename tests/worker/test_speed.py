"""End-to-end speed of a model: batches, the section, the two models. A GPU is stood in for where it has to be."""

import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nmbench.worker import inference, speed
from nmbench.worker.inference import ready
from nmbench.worker.speed import Bench, NotBatched, batched, measure

CPU = torch.device("cpu")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 2))


class _Report:
    def __init__(self, sparse: bool) -> None:
        self.sparse = ("row",) if sparse else ()

    def to_dict(self) -> dict[str, Any]:
        rows = [{"layers": ["0"], "winner": "toy" if self.sparse else "dense"}]
        return {"summary": "a toy summary", "rows": rows, "notes": ["a toy note"]}


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`convert` gives the model back, and says that a layer of it runs sparse unless told otherwise."""
    fake = SimpleNamespace(sparse=True, calls=[], error=None)

    def stand_in(model: nn.Module, inputs: Any, **options: Any) -> Any:
        fake.calls.append((inputs, options))
        if fake.error is not None:
            raise fake.error
        return model, _Report(fake.sparse)

    monkeypatch.setitem(sys.modules, "nmbench.kernels.conversion.convert", SimpleNamespace(convert=stand_in))
    return fake


# -- inputs ---------------------------------------------------------------------------------------------------------
def test_tensors_of_one_example_are_repeated_and_the_rest_stays() -> None:
    image, number = torch.arange(6.0).view(1, 2, 3), torch.tensor(7)
    made = batched((image, number, 12, "tensor", None), 4)
    assert made[0].shape == (4, 2, 3)
    assert torch.equal(made[0][3], image[0])
    assert made[1:] == (number, 12, "tensor", None)


@pytest.mark.parametrize(("bad", "said"), [([1], "a list"), (torch.zeros(2, 3), r"\(2, 3\) is not of one")])
def test_what_cannot_be_repeated_is_named(bad: Any, said: str) -> None:
    assert batched((bad,), 1) == (bad,)
    with pytest.raises(NotBatched, match=said):
        batched((bad,), 2)


# -- the section ----------------------------------------------------------------------------------------------------
def test_both_models_at_batch_one_and_at_the_largest(convert: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(speed.LARGEST_BATCH, "cpu", 4)
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=2.0)
    assert [row.batch for row in found.rows] == [1, 4]
    for row in found.rows:
        assert row.ratio == pytest.approx(row.dense_ms / row.converted_ms, rel=1e-2)
        assert row.dense_per_s == pytest.approx(1e3 * row.batch / row.dense_ms, rel=1e-2)
    assert [inputs[0].shape[0] for inputs, _ in convert.calls] == [1, 4], "it is converted for each batch size"
    assert convert.calls[0][1]["launch"] == "eager"
    assert [line["batch"] for line in found.layers] == [1, 4]
    assert found.notes == ["a toy summary", "a toy note"]
    assert found.how == ("cpu" if torch.get_num_threads() == 1 else "wall")
    assert found.dtype == "float32"


def test_where_nothing_runs_sparse_the_converted_model_is_the_dense_one(convert: SimpleNamespace) -> None:
    convert.sparse = False
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=0.1)
    assert found.rows[0].converted_ms == found.rows[0].dense_ms > 0
    assert found.rows[0].ratio == 1.0
    assert any("the converted model is the dense one" in note for note in found.notes)


def test_in_brief_there_is_one_batch_size(convert: SimpleNamespace) -> None:
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=0.1, brief=True)
    assert found.brief
    assert [row.batch for row in found.rows] == [1]
    assert set(found.rows[0].engines) == {"eager", "folded", "reordered"}


def test_a_dense_cell_is_not_converted(convert: SimpleNamespace) -> None:
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=0.1, sparse=False)
    assert convert.calls == []
    assert found.rows[0].ratio is None
    assert found.notes == ["a dense cell has nothing to convert"]


def test_a_model_that_cannot_be_converted_has_its_dense_time(convert: SimpleNamespace) -> None:
    convert.error = ValueError("no layer of the model keeps to an N:M pattern\nmore")
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=0.1)
    assert found.notes == ["not converted: ValueError: no layer of the model keeps to an N:M pattern"]
    assert found.rows[0].dense_ms > 0


def test_the_budget_limits_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "second_pass", lambda model, inputs, device: 0.01 * len(inputs[0]))
    # twice the batch would take 20 passes of 0.01 s an example: more than half the budget of 4 s from batch 8 on
    assert Bench(net(), (torch.zeros(1, 16),), CPU, budget_s=4.0).batches() == [1, 8]


class Large(nn.Module):
    """Fits no batch above `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x


def test_memory_limits_the_batch(convert: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    bench = Bench(Large(2), (torch.zeros(1, 16),), CPU, budget_s=1.0)
    assert bench.batches() == [1, 2]
    assert bench.largest(16).row.batch == 2, "the converted model may need more: the next smaller batch is taken"


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, parts: list[Tensor]) -> Tensor:
        return self.layer(parts[0])


def test_inputs_that_are_no_tensors_are_timed_at_batch_one(convert: SimpleNamespace) -> None:
    found = measure(Listed(), ([torch.zeros(1, 4)],), CPU, budget_s=0.1)
    assert [row.batch for row in found.rows] == [1]
    assert "only batch size 1: an example input is a list, not a tensor" in found.notes


def test_the_model_and_torchs_settings_are_as_they_were(convert: SimpleNamespace) -> None:
    model = net().train()
    before = [p.clone() for p in model.parameters()]
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        measure(model, (torch.zeros(1, 16),), CPU, budget_s=0.1)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


# -- a GPU, as far as one can be stood in for ------------------------------------------------------------------------
GPU: Any = SimpleNamespace(type="cuda")


class Picky(nn.Module):
    """Runs in some dtypes only."""

    def __init__(self, *refused: torch.dtype) -> None:
        super().__init__()
        self.layer, self.refused = nn.Linear(4, 4), refused

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype in self.refused:
            raise RuntimeError(f"not implemented for {x.dtype}")
        return self.layer(x)


@pytest.mark.parametrize(
    ("refused", "kept"),
    [
        ((), torch.bfloat16),
        ((torch.bfloat16,), torch.float16),
        ((torch.bfloat16, torch.float16), torch.float32),
    ],
)
def test_a_gpu_runs_16_bits_where_the_model_does(
    monkeypatch: pytest.MonkeyPatch, refused: tuple[torch.dtype, ...], kept: torch.dtype
) -> None:
    monkeypatch.setattr(inference, "moved", lambda inputs, device, dtype: tuple(x.to(dtype or x.dtype) for x in inputs))
    model, notes = Picky(*refused), []
    with warnings.catch_warnings(action="ignore"):  # of autocast, without a GPU
        narrow, given, dtype = ready(model, (torch.zeros(1, 4),), GPU, notes)
    assert dtype == kept
    assert narrow.layer.weight.dtype == given[0].dtype == kept
    assert model.layer.weight.dtype == torch.float32
    assert len(notes) == 2 * len(refused), "by itself, and under autocast"


def test_what_is_measured_is_told_as_it_grows(convert: SimpleNamespace) -> None:
    told: list[int] = []
    found = measure(
        net(), (torch.zeros(1, 16),), CPU, budget_s=0.2, limit_s=7.0, progress=lambda now: told.append(len(now.rows))
    )
    assert told == list(range(1, len(found.rows) + 1))
    assert {options["limit_s"] for _, options in convert.calls} == {7.0}
