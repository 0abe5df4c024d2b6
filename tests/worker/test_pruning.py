"""Cells that a pruner prunes, and cells whose channels are reordered before the mask is made."""

import json
from pathlib import Path

import pytest
import torch

from nmbench.contract.run import Run
from nmbench.contract.spec import DataError, SkipCell
from nmbench.plan.cell import Cell
from nmbench.plan.describe import describe_methods, load_task, spec_of
from nmbench.sparsity import NMPattern, sparsify
from nmbench.worker.pruning import Permutation, Pruning

TOY = f"path:{Path(__file__).parent.parent / 'plugins' / 'toy.py'}"


def cell(method: str = "wanda", **hyper: object) -> Cell:
    return Cell("toy", "mlp", "smoke", NMPattern(2, 4), method, hyper=hyper)


@pytest.fixture
def trained(tmp_path):
    """(task, model, run, handle) as after the training of a cell."""
    task = load_task(TOY)
    spec = spec_of(cell("dense"), task, "cpu")
    torch.manual_seed(0)
    model = task.build(spec)
    handle = sparsify(model, "2:4", "dense", layers=["0", "2"])
    return task, model, Run(spec, task.prepare(spec, tmp_path), handle, tmp_path), handle


@pytest.mark.parametrize("name", ["wanda", "pruner-zero", "alps"])
def test_calibration_is_what_training_begins_with_and_changes_nothing(name, trained):
    task, model, run, handle = trained
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pruning = Pruning.of(cell(name, examples=50))
    pruning.collect(task, model, run, handle)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    handle.finalize()
    report = pruning.prune(model, handle, run)
    assert report.audit.ok
    assert report.audit.density == 0.5
    assert run.facts["calibration examples"] == 64  # two whole batches of 32
    assert run.facts["calibration source"].startswith("the first training batches")
    assert 0 < run.facts["mean error of the layers"] < 1
    assert [line.sparse for line in handle.layers] == [True, True, False]


def test_the_batches_are_those_of_the_seed(trained):
    task, model, run, handle = trained
    pruning = Pruning.of(cell(examples=64))
    pruning.collect(task, model, run, handle)
    first = pruning._collected.batches
    torch.manual_seed(99)
    pruning.collect(task, model, run, handle)
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(first, pruning._collected.batches, strict=True))
    assert not torch.equal(first[0][0][0], first[1][0][0])


def test_a_training_that_never_calls_the_model_is_said(trained, monkeypatch):
    task, model, run, handle = trained
    monkeypatch.setattr(type(task), "train", lambda self, model, run: model[0](torch.zeros(1, 16)))
    with pytest.raises(DataError, match="never calls the model itself, so nothing calibrates the pruner"):
        Pruning.of(cell()).collect(task, model, run, handle)


def test_methods_that_train_are_none_of_its_business():
    assert Pruning.of(cell("sr-ste")) is None
    assert Pruning.of(Cell("toy", "mlp", "smoke")) is None
    with pytest.raises(SkipCell, match='start = "init" prunes the weights that the matrix names'):
        Pruning.of(cell(start="init"))


def test_pruners_are_described_as_methods_and_who_may_permute():
    told = describe_methods()["methods"]
    assert told["wanda"]["declaration"]["starts_dense"]
    assert told["wanda"]["declaration"]["phases"] == 1
    assert told["sparsegpt"]["declaration"]["settings"]["damp"]["default"] == 0.01
    assert told["sparsegpt"]["declaration"]["settings"]["examples"]["default"] == 128
    permutable = {name for name, one in told.items() if "permute" in one["declaration"]["settings"]}
    assert {"one-shot", "asp", "wanda"} <= permutable
    assert not {"dense", "ste", "sr-ste"} & permutable


@pytest.mark.parametrize(("method", "phase"), [("one-shot", 0), ("asp", 1)])
def test_channels_are_reordered_where_the_mask_is_made(method, phase):
    from nmbench.sparsity import methods

    permutation = Permutation(cell(method, permute=True))
    assert [permutation.before_pass(methods.load(method)(), i) for i in range(2)] == [phase == 0, phase == 1]
    assert not Permutation(cell(method)).before_pass(methods.load(method)(), phase)


@pytest.mark.slow
def test_a_matrix_of_pruners_beside_methods_that_train(project):
    matrix = (project.folder / "toys.toml").read_text().partition("[[grid]]")[0]
    grids = """
[[grid]]
pattern = ["2:4"]
method = ["wanda"]
hyper = { examples = 32 }
[[grid]]
pattern = ["1:4"]
method = ["one-shot", "asp", "magnitude"]
hyper = { permute = true }
"""
    (project.folder / "toys.toml").write_text(matrix + grids)
    project.run("run", "--workers", "2")
    records = {r["cell"]["method"]: r for r in project.records()}
    dense, wanda = records["dense"], records["wanda"]
    assert wanda["reused"]["cell_id"] == dense["cell_id"]
    assert wanda["audit"]["ok"]
    assert wanda["audit"]["density"] == 0.5
    assert wanda["facts"]["calibration examples"] == 32
    assert wanda["timings"]["prune_s"] > 0
    assert wanda["sad"]["total"] == 0
    for method in ("one-shot", "asp", "magnitude"):
        assert records[method]["status"] == "ok", json.dumps(records[method].get("error"))
        assert records[method]["facts"]["permuted layers"] == 1
        assert records[method]["audit"]["density"] == 0.25


@pytest.mark.slow
def test_without_a_twin_it_trains_as_that_would_and_ends_alike(project, another):
    project.matrix(method='"wanda"')
    project.run("run", "--workers", "2")
    alone = another()
    alone.matrix(method='"wanda"')
    alone.run("run", "--only", "wanda")
    assert "reused" not in alone.ok("2:4")
    assert alone.weights("2:4") == project.weights("2:4")
    assert alone.ok("2:4")["facts"] == project.ok("2:4")["facts"]
    assert alone.ok("2:4")["sad"] == project.ok("2:4")["sad"]
