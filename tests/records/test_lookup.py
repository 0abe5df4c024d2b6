"""A finished cell by the beginning of its id: which one, and in one line why none."""

from pathlib import Path

import pytest

from nmbench._util.errors import UsageError
from nmbench._util.files import write_json
from nmbench.plan.cell import Cell
from nmbench.records.lookup import is_id, with_weights
from nmbench.records.schema import SCHEMA_VERSION
from nmbench.records.store import Store
from nmbench.sparsity import NMPattern

CELL = Cell("toy", "mlp", "smoke", NMPattern(2, 4), "ste")
OTHER = Cell("toy", "mlp", "smoke", NMPattern(1, 4), "ste")


def attempt(root: Path, matrix: str = "m", cell: Cell = CELL, status: str = "ok", weights: bool = True) -> Path:
    _, path = Store(root, matrix).new_attempt(cell)
    record = {"schema_version": SCHEMA_VERSION, "cell": cell.to_dict(), "cell_id": cell.id, "status": status}
    write_json(path / "record.json", record)
    if weights:
        (path / "weights.safetensors").touch()
    return path


@pytest.mark.parametrize("digits", [4, 8, 12, 16])
def test_the_beginning_of_an_id_names_the_cell(tmp_path: Path, digits: int) -> None:
    attempt(tmp_path, status="oom")
    done = attempt(tmp_path, "deep/m")
    attempt(tmp_path, "deep/m", OTHER)
    record, file = with_weights(tmp_path, f"deep/{CELL.id[:digits]}")
    assert (record.cell, record.status) == (CELL, "ok")
    assert file == done / "weights.safetensors"


def test_a_cell_of_two_matrices_has_to_be_named_with_one(tmp_path: Path) -> None:
    wanted = attempt(tmp_path, "a")
    attempt(tmp_path, "b")
    with pytest.raises(UsageError, match=f"fits 2 cells; name one: a/{CELL.id[:8]}, b/{CELL.id[:8]}"):
        with_weights(tmp_path, CELL.id)
    assert with_weights(tmp_path, f"a/{CELL.id[:8]}")[1].parent == wanted


def test_digits_after_the_eighth_count(tmp_path: Path) -> None:
    attempt(tmp_path)
    wrong = CELL.id[:15] + ("0" if CELL.id[15] != "0" else "1")
    with pytest.raises(UsageError, match=r"no cell .* has results below"):
        with_weights(tmp_path, wrong)


def test_why_a_cell_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    name = CELL.id[:8]

    def refusal(text: str) -> str:
        with pytest.raises(UsageError) as error:
            with_weights(tmp_path, text)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no cell 'abcd' has results below" in refusal("abcd")
    for no_id in ("abc", "quick", "../m/abcd", "/m/abcd", "m/", "ABCD", "a" * 17):
        assert not is_id(no_id)
        assert "is no cell: give 4 to 16 digits of its id" in refusal(no_id)
    _, killed = Store(tmp_path, "m").new_attempt(CELL)
    assert f"cell m/{name} is not done: unfinished; `nmbench run m --only {name}`" in refusal(name)
    (killed / "record.json").write_text("{")
    assert "is not done: unreadable" in refusal(name)
    attempt(tmp_path, status="nan")
    assert "is not done: nan" in refusal(f"m/{name}")
    attempt(tmp_path, weights=False)
    assert "left no weights here (weights.safetensors)" in refusal(name)
