"""A record tells no names of people and places, and no secrets."""

import json
import os
from pathlib import Path

import pytest

from nmbench.plan.cell import Cell
from nmbench.records import redact
from nmbench.records.attempt import read_record
from nmbench.records.schema import Failure, Record, Status

SECRET = "s3cr3ts3cr3ts3cr3t"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cannot open '/mnt/alice/sets/train.txt'", "cannot open '.../train.txt'"),
        ("/mnt/alice/sets/ is empty", ".../ is empty"),
        (f"{Path.home()}/sets/x.txt is torn", "~/sets/x.txt is torn"),
        (f"{os.getcwd()}/sets/x.txt is torn", "sets/x.txt is torn"),
        ("file:///mnt/alice/x", ".../x"),
        (f"GET https://alice:{SECRET}@host/a/b failed", "GET https://***@host/a/b failed"),
        (f"https://host/a?api_key={SECRET}&n=1", "https://host/a?api_key=***&n=1"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        (f"hf_{SECRET} is refused", "*** is refused"),
    ],
)
def test_what_is_taken_out(given, expected):
    assert redact.text(given) == expected
    assert redact.text(expected) == expected, "writing a record again changes nothing"


@pytest.mark.parametrize(
    "text",
    ["2:4 and/or dense", "data/toys.txt", "12 ms/step", "https://example.org/a/b", "nrefs:1|tok:13a", "a / b / c", "~"],
)
def test_what_stays(text):
    assert redact.text(text) == text


def test_every_text_of_a_record_that_is_written_is_redacted(tmp_path):
    cells = [Cell("toy", f"/mnt/{name}/model.py", "smoke", train={"data": f"/mnt/{name}/set"}) for name in ("a", "b")]
    for number, cell in enumerate(cells):
        folder = tmp_path / f"attempt-{number + 1}"
        folder.mkdir()
        Record(
            schema_version=1,
            cell=cell,
            cell_id=cell.id,
            attempt=number + 1,
            status=Status.DATA,
            command="nmbench run /mnt/a/m.toml",
            notes=["see /mnt/a/notes.txt"],
            facts={"file": "/mnt/a/fact"},
            error=Failure(kind="data", message="/mnt/a/set is missing", traceback=None),
        ).write(folder / "record.json")
        assert "/mnt/" not in (folder / "record.json").read_text()
    first, second = (read_record(tmp_path / f"attempt-{number}" / "record.json") for number in (1, 2))
    assert first.cell_id == cells[0].id
    assert first.cell.model.startswith(".../model.py#")
    assert first.cell.model != second.cell.model, "two models stay two"
    first.write(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == first.to_json()
