"""`nmbench compare A B`: what it says, its exit status, and bad input in words. `pytest tests/cli/test_compare.py`"""

import json
import re

import pytest
from typer.testing import CliRunner

from nmbench.cli import app


def record(seed=0, pattern="2:4", value=80.0, cell_id=None, status="ok", task="t"):
    found = {
        **{"schema_version": 1, "matrix": "m", "attempt": 1, "status": status},
        "cell": {"task": task, "model": "net", "scale": "quick", "train": {}, "pattern": pattern}
        | {"method": "dense" if pattern == "dense" else "ste", "hyper": {}, "seed": seed},
        "cell_id": cell_id or f"{task}-{pattern}-{seed}".encode().hex()[-16:].zfill(16),
        "metric_info": [{"name": "top1", "unit": "%", "higher_is_better": True, "margin": 1.0}],
        **{"data": {"fingerprint": "d"}, "environment": {"cpu": "Example"}},
    }
    return found | ({"metrics": {"top1": value}} if status == "ok" else {"error": {"kind": status, "message": "x"}})


def write(folder, *records):
    for place, one in enumerate(records):
        file = folder / "t" / f"cell-{place}" / "attempt-1" / "record.json"
        file.parent.mkdir(parents=True)
        file.write_text(one if isinstance(one, str) else json.dumps(one))
    return folder


def seeds(*values, **changes):
    return [record(seed, value=value, **changes) for seed, value in enumerate(values)]


@pytest.fixture
def compare(tmp_path):
    def run(*arguments):
        done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
        return done

    return run


@pytest.mark.parametrize(
    ("after", "verdict", "status"),
    [
        (seeds(80.0, 81.0, 82.0), "the same", 0),
        (seeds(80.1, 80.9, 82.0), "not worse", 0),
        (seeds(85.0, 86.1, 86.9), "better", 0),
        (seeds(90.0, 71.0, 82.0), "undecided", 0),
        (seeds(75.0, 76.1, 76.9), "worse", 1),
        ([*seeds(80.0, pattern="1:4"), record(9, "dense")], "missing in B", 1),
        ([record(0, status="oom"), record(9, "dense")], "failed in B", 1),
    ],
)
def test_it_says_what_is_better_worse_undecided_or_missing(compare, tmp_path, after, verdict, status):
    both = record(9, "dense")
    before = write(tmp_path / "a", *seeds(80.0, 81.0, 82.0), both)
    if both not in after:
        after = [*after, both]
    done = compare(before, write(tmp_path / "b", *after))
    assert done.exit_code == status, done.output
    row = next(line for line in done.output.splitlines() if line.startswith("| 2:4"))
    assert row.replace("*", "").split("|")[-2].strip() == verdict
    assert re.search(rf"B against A: .*\d {verdict}", done.output)


@pytest.mark.parametrize(
    ("after", "note"),
    [
        (seeds(80.0, 81.0, float("nan")), "seed 2: no finite top1 in B"),
        (seeds(*[float("nan")] * 3), "seed 0, 1, 2: no finite top1 in B"),
        ([*seeds(80.0, 81.0), record(2, status="oom")], "seed 2: not there in B, or failed"),
        (seeds(80.0, 81.0), "seed 2: not there in B, or failed"),
    ],
)
def test_a_seed_that_b_lost_is_a_loss(compare, tmp_path, after, note):
    done = compare(write(tmp_path / "a", *seeds(80.0, 81.0, 82.0)), write(tmp_path / "b", *after))
    assert done.exit_code == 1, done.output
    assert note in done.output


def test_it_writes_the_page_and_leaves_the_folders_alone(compare, tmp_path):
    first, second = write(tmp_path / "a", *seeds(80.0)), write(tmp_path / "b", *seeds(80.5))
    out = tmp_path / "new" / "changes.md"
    done = compare(first, second, "--out", out)
    assert (done.exit_code, done.output) == (0, f"compare: {out}\n")
    text = out.read_text()
    assert text.startswith("# a (A) and b (B)\n")
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    compare(first, second, "--out", out)
    assert out.read_text() == text


def test_a_record_that_cannot_be_read_is_named(compare, tmp_path):
    done = compare(write(tmp_path / "a", *seeds(80.0)), write(tmp_path / "b", record(), '{"half'))
    assert done.exit_code == 0
    assert "1 record of B could not be read:" in done.output
    assert "t/cell-1/attempt-1/record.json: broken JSON" in done.output


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("missing", "no folder"),
        ("empty", "no record below"),
        ("file", "no folder"),
        ("a", "are the same folder"),
        ("a/../a", "are the same folder"),
        ("strange", "have no cell in common"),
    ],
)
def test_bad_input_is_told_in_words(compare, tmp_path, other, said):
    first = write(tmp_path / "a", *seeds(80.0))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    write(tmp_path / "strange", record(task="u"))
    done = compare(first, tmp_path / other)
    assert done.exit_code != 0
    message = str(done.exception)
    assert type(done.exception).__name__ == "UsageError"
    assert said in message
    assert "\n" not in message
