"""What training begins with: for ASP the training of the dense twin, as if it were done again; initial weights."""

import json

import pytest
import torch

from nmbench.contract.spec import DataError
from nmbench.plan.cell import InitialWeights
from nmbench.worker.training import load_init


def test_asp_takes_over_the_dense_twin_and_ends_with_the_same_weights(project, another):
    project.matrix(method='"asp"')
    project.run("run", "--workers", "2")
    taken = project.ok("2:4")
    assert taken["reused"] == {"phase": 0, "cell_id": project.ok("dense")["cell_id"], "attempt": 1}

    again = another()
    again.matrix(method='"asp"')
    again.run("run", "--only", "asp")  # without its twin it has to train both passes
    trained = again.ok("2:4")
    assert "reused" not in trained
    assert again.weights("2:4") == project.weights("2:4")
    assert taken["timings"]["steps"] == trained["timings"]["steps"] == 40
    assert taken["metrics"] == trained["metrics"]
    assert [taken["curve"][key] for key in ("phase", "step")] == [trained["curve"][key] for key in ("phase", "step")]
    assert taken["sad"]["uncounted"] == 20
    assert taken["sad"] == trained["sad"]


def test_weights_of_which_a_byte_has_changed_are_not_taken(project):
    project.matrix(method='"asp"')
    project.run("run", "--only", "dense")
    (weights,) = project.folder.glob("results/toys/toy/*dense*/attempt-1/weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-5] ^= 0xFF
    weights.write_bytes(content)
    project.run("run")
    record = project.ok("2:4")
    assert "reused" not in record
    assert any("has changed since it was written" in note for note in record["notes"])


def test_a_twin_that_saw_other_data_is_not_taken(project):
    project.matrix(method='"asp"')
    project.run("run", "--only", "dense")
    (path,) = project.folder.glob("results/toys/toy/*dense*/attempt-1/record.json")
    record = json.loads(path.read_text())
    record["data"]["fingerprint"] = "of other data"
    path.write_text(json.dumps(record))
    project.run("run")
    assert "reused" not in project.ok("2:4")


def test_a_record_knows_the_flips_by_layer_and_the_memory(trained):
    record = trained.ok("2:4")
    by_layer = record["sad"]["layers"]
    assert {name: sum(flips) for name, flips in by_layer["flips"].items()} == record["sad"]["per_layer"]
    assert by_layer["step"][-1] == 20
    assert record["memory"]["peak_rss_bytes"] > 50e6
    assert record["memory"]["peak_gpu_bytes"] is None


def test_initial_weights_that_changed_after_the_plan_are_not_taken(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"as planned")
    planned = InitialWeights.read(file)
    file.write_bytes(b"and changed")
    with pytest.raises(DataError, match=r"w\.safetensors is not the file that was planned with"):
        load_init(torch.nn.Linear(1, 1), planned, file)
