"""End-to-end speed: batches, the section, the two models, and that a failure never costs a cell its result."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nmbench.kernels.timing import Timing
from nmbench.plan.cell import Cell
from nmbench.records.store import CellState
from nmbench.running import speed_job
from nmbench.running.speed_job import wanted
from nmbench.sparsity import sparsify
from nmbench.worker import speed
from nmbench.worker.speed import NotBatched, batched, measure
from nmbench.worker.speed_job import answer

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
    monkeypatch.setitem(speed._MOST, "cpu", 4)
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=2.0)
    assert [row["batch"] for row in found["rows"]] == [1, 4]
    for row in found["rows"]:
        assert row["ratio"] == pytest.approx(row["dense_ms"] / row["converted_ms"], rel=1e-2)
        assert row["dense_per_s"] == pytest.approx(1e3 * row["batch"] / row["dense_ms"], rel=1e-2)
    assert [inputs[0].shape[0] for inputs, _ in convert.calls] == [1, 4], "it is converted for each batch size"
    assert convert.calls[0][1]["launch"] == "eager"
    assert [line["batch"] for line in found["layers"]] == [1, 4]
    assert found["notes"] == ["a toy summary", "a toy note"]
    assert (found["how"], found["dtype"]) == ("wall", "float32")


def test_where_nothing_is_sparse_a_cpu_has_the_dense_time_only(convert: SimpleNamespace) -> None:
    convert.sparse = False
    (row, *_) = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=0.1)["rows"]
    assert row["dense_ms"] > 0
    assert row["converted_ms"] is row["ratio"] is None


def test_a_dense_cell_is_not_converted(convert: SimpleNamespace) -> None:
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=0.1, sparse=False)
    assert convert.calls == []
    assert found["rows"][0]["ratio"] is None


def test_a_model_that_cannot_be_converted_has_its_dense_time(convert: SimpleNamespace) -> None:
    convert.error = ValueError("no layer of the model keeps to an N:M pattern\nmore")
    found = measure(net(), (torch.zeros(1, 16),), CPU, budget_s=0.1)
    assert found["notes"] == ["not converted: ValueError: no layer of the model keeps to an N:M pattern"]
    assert found["rows"][0]["dense_ms"] > 0


def test_the_budget_limits_the_batch(convert: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_seconds", lambda model, inputs, device: 0.01 * len(inputs[0]))
    # twice the batch would take 20 passes of 0.01 s an example: more than half the budget of 4 s from batch 8 on
    assert speed._batches(net(), (torch.zeros(1, 16),), CPU, 4.0, []) == [1, 8]


def test_memory_limits_the_batch(convert: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(model: nn.Module, inputs: Any, *rest: Any) -> Any:
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1e-9

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(speed, "_seconds", short)
    assert speed._batches(net(), (torch.zeros(1, 16),), CPU, 1.0, []) == [1, 2]

    def row(model: Any, inputs: Any, batch: int, *rest: Any) -> Any:
        short(model, inputs)
        return {"batch": batch}, [], "wall"

    # the converted model needs more than the dense one: the next smaller batch is taken
    monkeypatch.setattr(speed, "_row", row)
    assert speed._fitting(net(), (torch.zeros(1, 16),), 16, CPU, (1.0, None), True, [])[0] == {"batch": 2}


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, parts: list[Tensor]) -> Tensor:
        return self.layer(parts[0])


def test_inputs_that_are_no_tensors_are_timed_at_batch_one(convert: SimpleNamespace) -> None:
    found = measure(Listed(), ([torch.zeros(1, 4)],), CPU, budget_s=0.1)
    assert [row["batch"] for row in found["rows"]] == [1]
    assert "only batch size 1: an example input is a list, not a tensor" in found["notes"]


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


def timed(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, tuple[float, str]]) -> list[bool]:
    """`compare` gives these (microseconds, how) one after the other; what it was told of graphs is in the list."""
    left, graphs = list(answers), []

    def fake(calls: Any, device: Any, *, budget_s: float, graph: bool = True) -> dict[str, Timing]:
        graphs.append(graph)
        assert set(left[0]) == set(calls)
        return {name: Timing(us, us, us, 1, how) for name, (us, how) in left.pop(0).items()}

    monkeypatch.setattr(speed, "compare", fake)
    return graphs


def row(sparse_notes: list[str] | None = None) -> tuple[dict[str, Any], str]:
    notes: list[str] = [] if sparse_notes is None else sparse_notes
    found, _, how = speed._row(net(), (torch.zeros(1, 16),), 4, GPU, (1.0, None), True, notes)
    return found, how


def test_a_graph_is_not_compared_with_plain_calls(convert: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = {"dense": (50.0, "cuda-graph")}
    mixed = {"dense": (50.0, "cuda-graph"), "converted": (200.0, "cuda-events")}
    plain = {"dense": (220.0, "cuda-events"), "converted": (200.0, "cuda-events")}
    graphs = timed(monkeypatch, probe, mixed, plain)
    found, how = row()
    assert (found["ratio"], how) == (1.1, "cuda-events")
    assert graphs == [True, True, False]
    assert convert.calls[0][1]["launch"] == "graph"


def test_layers_are_chosen_by_how_the_model_is_launched(
    convert: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"dense": (220.0, "cuda-events"), "converted": (200.0, "cuda-events")}
    timed(monkeypatch, {"dense": (220.0, "cuda-events")}, plain)
    row()
    assert convert.calls[0][1]["launch"] == "eager"


def test_where_nothing_is_faster_a_gpu_has_the_ratio_one(
    convert: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert.sparse, notes = False, []
    timed(monkeypatch, *[{"dense": (50.0, "cuda-graph")}] * 2)
    found, _ = row(notes)
    assert (found["ratio"], found["converted_ms"]) == (1.0, found["dense_ms"])
    assert "batch 4: no layer runs sparse, so that the converted model is the dense one" in notes


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
    monkeypatch.setattr(speed, "_moved", lambda inputs, device, dtype: tuple(x.to(dtype or x.dtype) for x in inputs))
    model, notes = Picky(*refused), []
    with warnings.catch_warnings(action="ignore"):  # of autocast, without a GPU
        ready, given, dtype = speed._ready(model, (torch.zeros(1, 4),), GPU, notes)
    assert dtype == kept
    assert ready.layer.weight.dtype == given[0].dtype == kept
    assert model.layer.weight.dtype == torch.float32
    assert len(notes) == 2 * len(refused), "by itself, and under autocast"


class Coordinates(nn.Module):
    """Makes its own float32 input of a layer, as RAFT does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + torch.arange(16, dtype=torch.float32))


def test_a_model_with_float32_inside_runs_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_moved", lambda inputs, device, dtype: tuple(x.to(dtype or x.dtype) for x in inputs))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    place, notes = SimpleNamespace(type="cuda"), []
    monkeypatch.setattr(speed, "_UnderAutocast", lambda model, kind, dtype: Wrapped(model, "cpu", dtype))
    model = net_of(Coordinates())
    ready, given, dtype = speed._ready(model, (torch.zeros(1, 16),), place, notes)
    assert (dtype, given[0].dtype) == (torch.bfloat16, torch.float32)
    assert notes[-1] == "it runs in bfloat16 under autocast"
    monkeypatch.setattr(speed, "_UnderAutocast", Wrapped)
    converted, layers = speed._converted(ready, given, False, (1.0, None), notes)
    assert [(row["layers"], row["dtype"], row["pattern"]) for row in layers] == [(["layer"], "bfloat16", "2:4")]
    assert "autocast" not in layers[0]["reason"], "its input is cast to the dtype of its weight"
    assert converted is None


Wrapped = speed._UnderAutocast


def net_of(model: nn.Module) -> nn.Module:
    sparsify(model, "2:4", method="one-shot", layers=["layer"]).finalize()
    return model


def test_what_is_measured_is_told_as_it_grows(convert: SimpleNamespace) -> None:
    told: list[int] = []
    found = measure(
        net(), (torch.zeros(1, 16),), CPU, budget_s=0.2, limit_s=7.0, progress=lambda now: told.append(len(now["rows"]))
    )
    assert told == list(range(1, len(found["rows"]) + 1))
    assert {options["limit_s"] for _, options in convert.calls} == {7.0}


# -- which cells ----------------------------------------------------------------------------------------------------
def test_which_cells_are_measured(tmp_path: Any) -> None:
    (tmp_path / "weights.safetensors").touch()
    cell = Cell("toy", "mlp", "smoke")

    def state(status: str = "ok", path: Any = tmp_path, **record: Any) -> CellState:
        return CellState(cell, status, 1, {"status": status, **record}, path)

    cpu = {"speed": {"type": "cpu", "rows": [{"batch": 1}]}}
    gpu = {"speed": {"type": "cuda", "rows": [{"batch": 1}]}}
    new, failed, gone = state(), state("nan"), state(path=tmp_path / "gone")
    assert wanted([new, failed, gone, state(**cpu)], "cpu") == ([new], 1)
    (again,) = wanted([state(**cpu), state(**gpu)], "cuda")[0]
    assert again.record is not None
    assert again.record["speed"]["type"] == "cpu", "only dense kernels ran there"


# -- the command ----------------------------------------------------------------------------------------------------
def test_a_run_is_timed_and_done_cells_are_timed_later(project: Any) -> None:
    project.run("run")
    trained = {record["cell_id"]: record for record in project.records()}
    assert all("speed" not in record for record in trained.values())
    said = project.run("run", "--speed", "--speed-budget", "0.2", "--device", "cpu")
    assert "nothing to do, 2 cells are done" in said
    assert said.count("batch 1: dense") == 2
    for record in project.records():
        rows = record.pop("speed")["rows"]
        assert rows[0]["batch"] == 1
        assert rows[0]["converted_ms"] is None, "no sparse backend takes a CPU"
        assert record == trained[record["cell_id"]], "all else, the id too, is as the cell left it"
    assert "every done cell has been timed" in project.run("run", "--speed", "--device", "cpu")


def test_a_failure_is_a_note_and_the_result_stays(project: Any) -> None:
    project.run("run")
    for weights in project.folder.glob("results/toys/toy/*/attempt-1/weights.safetensors"):
        weights.write_bytes(b"torn")
    said = project.run("run", "--speed", "--device", "cpu")
    assert said.count("its speed was not measured") == 2
    project.run("run", "--speed", "--device", "cpu")
    for record in project.records():
        assert record["status"] == "ok"
        assert "speed" not in record
        assert sum(note.startswith("its speed was not measured: ") for note in record["notes"]) == 1


def test_a_process_that_dies_or_hangs_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    settings = speed_job.Settings("cpu", tmp_path, 1.0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert speed_job._process({}, settings)["failed"] == "its process ended with status 1: it said nothing"

    def slow(*_: Any, **__: Any) -> Any:
        raise speed_job.subprocess.TimeoutExpired("x", 1.0)

    monkeypatch.setattr(speed_job.subprocess, "run", slow)
    assert "took more than 448 s" in speed_job._process({}, settings)["failed"]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Asks a process that runs the given lines, for a second or two."""

    def run(*lines: str, seconds: float = 2.0) -> dict[str, Any]:
        script = tmp_path / "child"
        script.write_text("\n".join([f"#!{python}", "import sys, time, json", *lines]))
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        monkeypatch.setattr(speed_job.Settings, "limit_s", seconds)
        return speed_job._process({}, speed_job.Settings("cpu", tmp_path, 1.0))

    python = sys.executable
    return run


_PARTIAL = (
    """print('noise\\x1e' + json.dumps({'speed': {'rows': [1], 'notes': ['a']}, 'unfinished': True}), flush=True)"""
)


def test_what_was_measured_before_a_hang_or_a_crash_is_kept(child: Any) -> None:
    note = "larger batches were not measured: it took more than 2 s"
    assert child(_PARTIAL, "time.sleep(60)") == {"speed": {"rows": [1], "notes": ["a", note]}}
    note = "larger batches were not measured: its process ended with status 1: boom"
    assert child(_PARTIAL, "sys.exit('boom')") == {"speed": {"rows": [1], "notes": ["a", note]}}
    told = child(_PARTIAL, """print('\\x1e{"speed": {"ro', end='', flush=True)""", "time.sleep(60)")
    assert told["speed"]["rows"] == [1], "an answer that was cut off does not hide the one before"
    assert child(_PARTIAL, "print('building', flush=True)", "time.sleep(60)")["speed"]["rows"] == [1]
    whole = """print('\\x1e' + json.dumps({'speed': {'rows': [1, 2], 'notes': []}}))"""
    printed = ["[1]", '{"speed": 3, "unfinished": true}']
    for more in ("", "print('bye')", "print('\\x1e' + '[' * 100_000)", *(f"print('\\x1e{one}')" for one in printed)):
        assert child(_PARTIAL, whole, more) == {"speed": {"rows": [1, 2], "notes": []}}


def test_a_failure_at_a_larger_batch_keeps_the_smaller(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    project.run("run")
    path = next(iter(project.folder.glob("results/toys/toy/*/attempt-1/record.json")))
    record = json.loads(path.read_text())

    def fails(*_: Any, progress: Any, **__: Any) -> Any:
        progress({"rows": [1], "notes": []})
        raise RuntimeError("no more")

    monkeypatch.setattr(speed, "measure", fails)
    told: list[dict[str, Any]] = []
    reference = f"path:{Path(__file__).parent.parent / 'plugins' / 'toy.py'}"
    job = {
        "cell": record["cell"], "reference": reference, "attempt_dir": str(path.parent),
        "data_dir": str(project.folder / "data"), "device": "cpu", "budget_s": 1.0,
    }  # fmt: skip
    found = answer(job, told.append)
    assert [one["unfinished"] for one in told] == [True]
    assert found["speed"]["rows"] == [1]
    assert found["speed"]["notes"][-1] == "larger batches were not measured: RuntimeError: no more"
