"""A cell that learns from its dense twin: the loss, where the twin comes from, and what a resumed one ends with."""

import copy
import math

import pytest
import torch
from project import wait
from torch import nn

from nmbench.contract.distillation import Distillation
from nmbench.contract.run import InvalidResult, Run
from nmbench.contract.spec import DataInfo, Spec
from nmbench.contract.task import Task
from nmbench.worker.distillation import Teacher, divergence

DISTILLED = """
name = "toys"
scale = "smoke"
tasks = ["toy"]
seeds = [0]
[[grid]]
pattern = "2:4"
method = "{method}"
train = {{ pause = {pause} }}
distill = {{ weight = 0.67, temperature = 2.0 }}
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


def matrix(project, method="sr-ste", pause=0.0):
    (project.folder / "toys.toml").write_text(DISTILLED.format(method=method, pause=pause))


def test_a_cell_learns_from_the_twin_that_is_trained_before_and_a_resumed_one_ends_alike(project, another):
    matrix(project)
    project.run("run", "--workers", "2")
    record = project.ok("2:4")
    assert record["cell"]["distill"] == {"weight": 0.67, "temperature": 2}
    assert record["taught"] == {"cell_id": project.ok("dense")["cell_id"], "attempt": 1}
    assert record["cost"]["training_passes"] == 2

    again = another()
    matrix(again, pause=0.15)
    again.run("run", "--only", "dense")
    process = again.start("run", "--workers", "1")
    wait(again.checkpoints)
    process.kill()
    process.communicate()
    wait(lambda: not again.workers(), 10)
    again.run("run")
    assert again.ok("2:4")["timings"]["resumed"] is True
    assert again.weights("2:4") == project.weights("2:4")
    assert again.ok("2:4")["curve"] == record["curve"]
    plain = another()
    plain.matrix()
    plain.run("run", "--only", "sr-ste")
    assert plain.weights("2:4") != project.weights("2:4")
    assert "distill" not in plain.ok("2:4")["cell"]


def test_a_cell_whose_twin_is_missing_says_which_to_run(project):
    matrix(project)
    project.run("run", "--only", "sr-ste", expect=1)
    (record,) = project.records()
    assert record["status"] == "data"
    twin = record["error"]["message"]
    assert "no dense twin to learn from" in twin
    project.run("run")
    assert project.ok("dense")["cell_id"] in twin
    assert project.ok("2:4")["taught"]["cell_id"] == project.ok("dense")["cell_id"]
