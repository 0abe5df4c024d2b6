"""Cells by their ids, as a driver or any job array runs them: `plan --commands`, `run --cell`, `status`, `logs`."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import zygote
from project import wait

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "job-arrays.md"


def _commands(project, *more: str) -> list[str]:
    """`plan --commands`, to be run by forks of the zygote."""
    python = f"{sys.executable} -m nmbench"
    lines = project.run("plan", "--commands", *more).splitlines()
    assert all(line.startswith(python) for line in lines)
    return [line.replace(python, f"{sys.executable} {zygote.__file__} {project.zygote} nmbench") for line in lines]


def _each(lines: list[str]) -> None:
    for line in lines:
        done = subprocess.run(line, shell=True, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _as_pbs_would(project, lines: list[str]) -> None:
    """By the job script of the page about other schedulers."""
    (script,) = re.findall(r"(?s)cat > cell.sh <<'END'\n(.*?\n)END\n", PAGE.read_text())
    (project.folder / "cells.txt").write_text("".join(f"{line}\n" for line in lines))
    (project.folder / "cell.sh").write_text(script)
    for number in range(len(lines)):
        given = {"PBS_O_WORKDIR": str(project.folder), "PBS_ARRAY_INDEX": str(number + 1), "CUDA_VISIBLE_DEVICES": ""}
        command = ["sh", str(project.folder / "cell.sh")]
        done = subprocess.run(
            command, cwd="/", env={**os.environ, **given}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_command_a_cell_does_the_whole_matrix_from_anywhere(project):
    lines = _commands(project)
    assert len(lines) == 2
    _as_pbs_would(project, lines)
    assert [record["status"] for record in project.records()] == ["ok", "ok"]
    assert {record["timings"]["alone"] for record in project.records()} == {False}, "nobody knows what else ran there"
    assert project.run("plan", "--commands") == ""
    _each(lines[:1])
    assert len(project.records()) == 2, "a line that runs again does nothing"
    cell = project.ok("dense")["cell_id"]
    (log,) = project.folder.glob("results/toys/toy/*dense*/attempt-1/worker.log")
    log.write_text("words of the worker\n")
    assert "words of the worker" in project.run("logs", cell)


def test_a_named_cell_may_say_that_it_has_the_machine_to_itself(project):
    (line,) = _commands(project, "--only", "dense")
    _each([f"{line} --device cpu --exclusive --cpus 1"])
    record = project.ok("dense")
    assert (record["timings"]["alone"], record["environment"]["threads"]) == (True, 1)


def test_of_two_runs_of_one_cell_the_later_has_it(project):
    project.matrix(train="{ steps = 100 }")
    (line,) = _commands(project, "--only", "dense")
    command = [*shlex.split(line), "--device", "cpu"]
    slow = {**os.environ, "TOY_PAUSE": "0.3"}
    first = subprocess.Popen(command, env=slow, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait(project.checkpoints)
    assert "running" in project.run("status")
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    out, _ = first.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (1, 0), out + second.stdout
    earlier, later = sorted(project.records(), key=lambda it: it["attempt"])
    assert (earlier["status"], earlier["error"]["message"]) == ("interrupted", "another run took the cell over")
    assert (later["status"], later["timings"]["resumed"]) == ("ok", True)


def test_status_tells_what_waits_with_no_driver_alive(project):
    cell, *_ = project.run("plan", "--only", "dense").split()
    notes = project.folder / "work" / "toys" / "tickets"
    notes.mkdir(parents=True)
    (notes / "nm-x.json").write_text(json.dumps({"engine": "slurm", "cells": [cell]}))
    out = project.run("status")
    assert re.search(rf"{cell} +waiting .* in slurm's queue as nm-x", out)
    assert out.endswith("2 cells: 1 new, 1 waiting\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cell", "0123456789abcdef"], "has no such cell"),
        (["--cell", "@"], "write the id of a cell"),
        (["--engine", "time=1"], "give --on slurm or --on ray"),
        (["--on", "slrum"], "did you mean 'slurm'"),
        (["--on", "slurm", "--cell", "x"], "--cell is for the machine"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(project, arguments, words):
    out = project.run("run", *arguments, expect=2)
    assert words in out
    assert len(out.strip().splitlines()) == 1


def test_a_cell_with_other_code_than_where_it_was_submitted_is_invalid(project):
    (line,) = [line.split()[0] for line in project.run("plan", "--only", "dense").splitlines()[:1]]
    project.run("run", "--device", "cpu", "--cell", f"{line}@another", expect=1)
    (record,) = project.records()
    assert record["status"] == "invalid"
    assert "another where the cell was submitted" in record["error"]["message"]
