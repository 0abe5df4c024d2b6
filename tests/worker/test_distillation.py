"""A cell that learns from its dense twin: the loss, where the twin comes from, and what a resumed one ends with."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from nmbench._util import random as rng
from nmbench.contract.distillation import Distillation
from nmbench.contract.run import InvalidResult, Run
from nmbench.contract.spec import DataInfo, Spec
from nmbench.contract.task import Task
from nmbench.plan.cell import Cell
from nmbench.plan.describe import load_task, spec_of
from nmbench.sparsity import sparsify
from nmbench.worker.distillation import Teacher, divergence

TOY = f"path:{Path(__file__).parent.parent / 'plugins' / 'toy.py'}"
DISTILLED = """
name = "toys"
scale = "smoke"
tasks = ["toy"]
seeds = [0]
[[grid]]
pattern = "2:4"
method = "sr-ste"
distill = { weight = 0.67, temperature = 2.0 }
"""


class Logits(Task):
    """Rows where the first input is not 0."""

    def logits(self, output, inputs, keywords):
        return output[inputs[0][:, 0] != 0]


def run_of(tmp_path, teacher):
    return Run(Spec("t", "m", "smoke", 0), DataInfo(tmp_path, {}, "f"), None, tmp_path, teacher=teacher)


def test_the_divergence_is_that_of_the_formula():
    own, twin = torch.tensor([[0.0, 1.0], [2.0, -1.0]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    expected = 0.0
    for mine, theirs in zip(own.tolist(), twin.tolist(), strict=True):
        p, q = ([math.exp(x / 3) / sum(math.exp(y / 3) for y in row) for x in row] for row in (theirs, mine))
        expected += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    assert float(divergence(own, twin, 3.0)) == pytest.approx(9 * expected, rel=1e-5)
    assert float(divergence(own, own.clone(), 3.0)) == pytest.approx(0, abs=1e-7)


def test_the_loss_is_mixed_over_the_rows_that_count_and_the_twin_learns_nothing(tmp_path):
    torch.manual_seed(0)
    student, twin = nn.Linear(3, 5), nn.Linear(3, 5)
    teacher = Teacher(Logits(), twin, Distillation(weight=0.25, temperature=2.0))
    run = run_of(tmp_path, teacher)
    teacher.teach(student)
    x = torch.randn(4, 3)
    x[2] = 0  # padding
    output = student(x)
    mixed = run.distilled(output.square().sum(), 3)
    rows = [0, 1, 3]
    pair = (output[rows] / 2).log_softmax(1), (twin(x)[rows] / 2).log_softmax(1)
    kl = (pair[1].exp() * (pair[1] - pair[0])).sum(1).mean() * 4
    torch.testing.assert_close(mixed, 0.75 * output.square().sum() + 0.25 * 3 * kl)
    mixed.backward()
    assert student.weight.grad is not None
    assert twin.weight.grad is None
    with pytest.raises(RuntimeError, match="was not called since"):
        run.distilled(mixed)


def test_evaluation_is_not_watched_and_a_training_that_asks_for_no_loss_is_invalid(tmp_path):
    student = nn.Linear(3, 5)
    teacher = Teacher(Logits(), copy.deepcopy(student), Distillation())
    run = run_of(tmp_path, teacher)
    teacher.teach(student)
    student.eval()(torch.ones(2, 3))
    with torch.no_grad():
        student.train()(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="was not called since"):
        run.distilled(torch.tensor(0.0))
    run.step(loss=1.0)
    with pytest.raises(InvalidResult, match=r"never gave its loss to run\.distilled"):
        teacher.end(run)


def test_without_a_twin_the_loss_is_the_tasks(tmp_path):
    loss = torch.tensor(2.0)
    assert run_of(tmp_path, None).distilled(loss, 7) is loss


class Stopped(Exception):
    """In the middle of training."""


class Stopping(Run):
    """Ends after 12 steps, of which 10 are saved."""

    def step(self, *args, **kwargs):
        super().step(*args, **kwargs)
        if self.updates == 12:
            raise Stopped


def trained(work, twin=None, kind=Run):
    """The weights of a cell of the toy task that went on where its `work` folder stands, taught by `twin` if given."""
    task = load_task(TOY)
    spec = spec_of(Cell("toy", "mlp", "smoke"), task, "cpu")
    rng.seed_all(0, "init")
    model = task.build(spec)
    handle = sparsify(model, "2:4", "sr-ste" if twin else "dense", layers=["0", "2"])
    teacher = Teacher(task, twin, Distillation(weight=0.67)) if twin else None
    if teacher:
        teacher.teach(model)
    task.train(model, kind(spec, task.prepare(spec, work), handle, work, teacher=teacher))
    handle.finalize()
    return model


def test_a_resumed_cell_ends_with_the_weights_of_an_uninterrupted_one(tmp_path):
    twin = trained(tmp_path / "dense")
    whole = trained(tmp_path / "whole", twin)
    with pytest.raises(Stopped):
        trained(tmp_path / "stopped", twin, Stopping)
    again = trained(tmp_path / "stopped", twin)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    other = trained(tmp_path / "other", turned(twin))
    assert not torch.equal(other[0].weight, whole[0].weight)


def turned(twin):
    """Another teacher of the same form."""
    made = copy.deepcopy(twin)
    with torch.no_grad():
        made[4].weight.neg_()
    return made


def test_a_cell_learns_from_the_twin_that_is_trained_before_it(project):
    (project.folder / "toys.toml").write_text(DISTILLED)
    project.run("run", "--workers", "2")
    record = project.ok("2:4")
    assert record["cell"]["distill"] == {"weight": 0.67, "temperature": 2}
    assert record["taught"] == {"cell_id": project.ok("dense")["cell_id"], "attempt": 1}
    assert record["cost"]["training_passes"] == 2
    assert record["memory"]["method_bytes"] > 4 * 16 * 32  # the twin's weights, to begin with


def test_a_cell_whose_twin_is_missing_says_which_to_run(project):
    (project.folder / "toys.toml").write_text(DISTILLED)
    project.run("run", "--only", "sr-ste", expect=1)
    (record,) = project.records()
    assert record["status"] == "data"
    twin = record["error"]["message"]
    assert "no dense twin to learn from" in twin
    project.run("run")
    assert project.ok("dense")["cell_id"] in twin
    assert project.ok("2:4")["taught"]["cell_id"] == project.ok("dense")["cell_id"]
