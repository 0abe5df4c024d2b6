"""The task as the parent and the worker see it: declared without fairseq, unavailable without it, bad cells go by."""

import importlib.metadata
import json

import pytest
from translation_text import write_text

from nmbench.plan.describe import describe_task

MATRIX = """
name = "faults"
scale = "smoke"
tasks = ["translation"]
seeds = [0]
train = {{ updates = 3, max_tokens = 120, pieces = 36, warmup_updates = 2, beam = 1 }}
[[grid]]
pattern = "2:4"
method = "ste"
train = {{ data = {folders} }}
"""


def test_without_fairseq_it_is_unavailable_and_says_what_to_do(monkeypatch):
    version = importlib.metadata.version

    def without(name):
        if name == "fairseq":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    assert describe_task("nmbench_tasks.translation:Translation")["status"] == "ok"
    monkeypatch.setattr(importlib.metadata, "version", without)
    told = describe_task("nmbench_tasks.translation:Translation")
    assert told["status"] == "unavailable"
    assert "needs fairseq==0.12.2" in told["reason"]
    assert "pip install --no-deps fairseq==0.12.2" in told["reason"]
    assert told["declaration"]["metrics"][0]["name"] == "bleu"


@pytest.mark.slow
def test_a_broken_corpus_fails_its_cells_and_no_other(tmp_path, nmbench):
    """Through the command line: two faults end with status data, the matrix goes on to the sound corpus."""
    good, uneven, bytes_ = (write_text(tmp_path / name) for name in ("sound", "uneven", "bytes"))
    (uneven / "train.de").write_text("eine Zeile\n")
    (bytes_ / "test.de").write_bytes(b"gut\nnicht gut: \xe4\n")
    folders = json.dumps([str(folder) for folder in (uneven, bytes_, good)])
    (tmp_path / "faults.toml").write_text(MATRIX.format(folders=folders))
    done = nmbench("run", "faults.toml", "--device", "cpu", "--only", "2:4", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("results/faults/*/*/attempt-*/record.json")]
    told = {record["cell"]["train"]["data"].rpartition("/")[2]: record for record in records}
    assert {name: record["status"] for name, record in told.items()} == {
        "uneven": "data",
        "bytes": "data",
        "sound": "ok",
    }
    assert "train.en has 60 lines, train.de has 1" in told["uneven"]["error"]["message"]
    assert "test.de, line 2: byte 0xe4" in told["bytes"]["error"]["message"]
    sound = told["sound"]
    assert sound["audit"]["ok"]
    assert sound["audit"]["density"] == 0.5
    assert "nrefs:1" in sound["facts"]["BLEU signature"]
