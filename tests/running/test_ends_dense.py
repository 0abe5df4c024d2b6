"""A cell of a method that trains sparse and leaves a dense model (fst) is done, and its record says what it is."""

from types import SimpleNamespace

import pytest
from project import PLUGINS

from nmbench.contract.run import InvalidResult
from nmbench.plan.cell import Cell
from nmbench.plan.describe import load_task, spec_of
from nmbench.records.schema import Record, Status
from nmbench.sparsity import NMPattern, sparsify
from nmbench.worker.cell import _Attempt
from nmbench.worker.pruning import Pruning


def test_a_method_that_ends_dense_ends_well(project):
    project.matrix(pattern='"2:4"', method='"fst"')
    project.run("run", "--workers", "1", "--device", "cpu")
    record = project.ok("2:4")
    assert record["metrics"]
    assert record["audit"]["density"] == 1.0
    assert record["cost"]["nonzeros"] > 0.9 * record["cost"]["parameters"]
    assert any("leaves a dense model" in note for note in record["notes"])
    twin = project.ok("dense")
    assert not any("leaves a dense model" in note for note in twin.get("notes", [])), "it is dense by what it is"
    project.run("report")


def test_a_pruner_that_leaves_a_dense_model_is_invalid(tmp_path):
    task = load_task(f"path:{PLUGINS / 'toy.py'}")
    cell = Cell("toy", "mlp", "smoke", NMPattern(2, 4), "wanda")
    spec = spec_of(cell, task, "cpu")
    model = task.build(spec)
    handle = sparsify(model, "2:4", "dense", layers=["0", "2"])  # as pruned cells train
    handle.finalize()
    record = Record(schema_version=1, cell=cell, cell_id=cell.id, attempt=1, status=Status.OK)
    own = SimpleNamespace(
        handle=handle, cell=cell, task=task, model=model, spec=spec, record=record, pruning=Pruning.of(cell)
    )
    with pytest.raises(InvalidResult, match="more than N non-zeros"):
        _Attempt._audit(own)
