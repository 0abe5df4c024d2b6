"""`nmbench run --speed`: which cells, what is made of the child's answers, and that a failure costs no result."""

from pathlib import Path
from typing import Any

import pytest

from nmbench.plan.cell import Cell
from nmbench.records.schema import Audit, LayerAudit, Record, Speed, SpeedRow, Status
from nmbench.records.store import CellState
from nmbench.running.brief import groups
from nmbench.running.speed import Answer, wanted
from nmbench.sparsity.pattern import NMPattern

CELL = Cell("toy", "mlp", "smoke")


def test_which_cells_are_measured(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").touch()

    def state(status: Status = Status.OK, path: Path = tmp_path, device: str | None = None) -> CellState:
        record = Record(cell=CELL, cell_id=CELL.id, attempt=1, status=status)
        if device is not None:
            record.speed = Speed(type=device, rows=[SpeedRow(batch=1)])
        return CellState(CELL, status, 1, record, path)

    new, failed, gone = state(), state(Status.NAN), state(path=tmp_path / "gone")
    assert wanted([new, failed, gone, state(device="cpu")], "cpu") == ([new], 1)
    (again,) = wanted([state(device="cpu"), state(device="cuda")], "cuda")[0]
    assert again.record is not None
    assert again.record.speed is not None
    assert again.record.speed.type == "cpu", "only dense kernels ran there"


PARTIAL = {"speed": {"rows": [{"batch": 1}], "notes": ["a"]}, "unfinished": True}
WHOLE = {"speed": {"rows": [{"batch": 1}, {"batch": 2}], "notes": []}}


def test_what_was_measured_before_a_hang_or_a_crash_is_kept() -> None:
    answer = Answer.read([PARTIAL], "it took more than 2 s")
    assert answer.speed is not None
    assert [row.batch for row in answer.speed.rows] == [1]
    assert answer.speed.notes == ["a", "larger batches were not measured: it took more than 2 s"]


@pytest.mark.parametrize("printed", [[], [{"speed": 3, "unfinished": True}], [{"speed": None}], [{"bye": 1}]])
def test_what_a_model_prints_after_the_answer_is_none(printed: list[dict[str, Any]]) -> None:
    answer = Answer.read([PARTIAL, WHOLE, *printed], "it ended")
    assert answer.speed is not None
    assert [row.batch for row in answer.speed.rows] == [1, 2]
    assert answer.speed.notes == []


def test_no_answer_is_the_way_in_which_the_process_ended() -> None:
    assert Answer.read([], "its process ended with status 1: boom").failed == "its process ended with status 1: boom"


def test_a_run_is_timed_and_done_cells_are_timed_later(trained: Any) -> None:
    before = {record["cell_id"]: record for record in trained.records()}
    assert all("speed" not in record for record in before.values())
    said = trained.run("run", "--speed", "--speed-budget", "0.2", "--device", "cpu")
    assert "nothing to do, 2 cells are done" in said
    assert said.count("batch 1: dense") == 2
    for record in trained.records():
        rows = record.pop("speed")["rows"]
        assert rows[0]["batch"] == 1
        assert rows[0]["dense_ms"] > 0
        assert record == before[record["cell_id"]], "all else, the id too, is as the cell left it"
    assert "every done cell has been timed" in trained.run("run", "--speed", "--device", "cpu")


def test_a_failure_is_a_note_and_the_result_stays(trained: Any) -> None:
    for weights in trained.folder.glob("results/toys/toy/*/attempt-1/weights.safetensors"):
        weights.write_bytes(b"torn")
    said = trained.run("run", "--speed", "--device", "cpu")
    assert said.count("its speed was not measured") == 2
    trained.run("run", "--speed", "--device", "cpu")
    for record in trained.records():
        assert record["status"] == "ok"
        assert "speed" not in record
        assert sum(note.startswith("its speed was not measured: ") for note in record["notes"]) == 1


# -- measured by default --------------------------------------------------------------------------------------------
def test_seeds_and_methods_of_a_pattern_share_a_measurement_and_dense_twins_join_them() -> None:
    def state(pattern: str | None, method: str, seed: int = 0, model: str = "mlp") -> CellState:
        parsed = None if pattern is None else NMPattern.parse(pattern)
        return CellState(Cell("toy", model, "smoke", parsed, method, seed), Status.OK, 1, None, None)

    dense, other = state(None, "dense"), state(None, "dense", model="cnn")
    cells = [dense, state("2:4", "sr-ste"), state("2:4", "ste", 1), state("1:4", "sr-ste"), other]
    found = [[one.cell.label for one in group.cells] for group in groups(cells)]
    assert found == [
        [cells[1].cell.label, cells[2].cell.label, dense.cell.label],
        [cells[3].cell.label],
        [other.cell.label],
    ]


def test_a_method_that_gave_layers_patterns_of_their_own_is_measured_by_itself() -> None:
    def state(method: str, seed: int, **own: str) -> CellState:
        cell = Cell("toy", "mlp", "smoke", NMPattern(1, 4), method, seed)
        layers = [LayerAudit(name=name, role="sparse", pattern=own.get(name)) for name in ("a", "b")]
        record = Record(cell=cell, cell_id=cell.id, attempt=1, status=Status.OK, audit=Audit(layers=layers))
        return CellState(cell, Status.OK, 1, record, None)

    cells = [state("sr-ste", 0), state("domino", 0, a="1:8"), state("ste", 0), state("domino", 1, a="1:2")]
    assert [list(group.cells) for group in groups(cells)] == [[cells[0], cells[2]], [cells[1]], [cells[3]]]


def test_a_matrix_may_measure_speed_by_default(trained: Any) -> None:
    file = trained.folder / "toys.toml"
    file.write_text("speed = true\n" + file.read_text())
    assert "forward pass" not in trained.run("run", "--no-speed", "--device", "cpu")
    said = trained.run("run", "--device", "cpu")
    assert "one forward pass of 1 model" in said
    assert "(and 1 more cell)" in said
    dense, sparse = trained.ok("dense")["speed"], trained.ok("2:4")["speed"]
    assert dense["brief"]
    assert sparse["threads"] == 1
    assert dense["rows"][0]["dense_ms"] == sparse["rows"][0]["dense_ms"] > 0
    assert dense["rows"][0]["ratio"] is None
    assert sparse["rows"][0]["ratio"] > 0
    assert "speed 1/" not in trained.run("run", "--device", "cpu"), "there is nothing left to measure"
    assert "batch 1" in trained.run("run", "--speed", "--speed-budget", "0.2", "--device", "cpu"), "which asks for more"
    assert not trained.ok("2:4")["speed"]["brief"]


def test_what_cannot_be_measured_by_default_costs_no_result(trained: Any) -> None:
    file = trained.folder / "toys.toml"
    file.write_text("speed = true\n" + file.read_text())
    for weights in trained.folder.glob("results/toys/toy/*/attempt-1/weights.safetensors"):
        weights.write_bytes(b"torn")
    assert "its speed was not measured" in trained.run("run", "--device", "cpu")
    for record in trained.records():
        assert record["status"] == "ok"
        assert "speed" not in record
