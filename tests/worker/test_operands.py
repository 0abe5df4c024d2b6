"""A cell whose sparse weights multiply dense, or that has none, ends `invalid`, and its audit says which."""

import json
import os
from pathlib import Path

import pytest

from nmbench.plan.describe import load_task

PLUGINS = Path(__file__).parent.parent / "bad_plugins"
STANDARDISED = """
from torch import nn
from _good import Good


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight
        return self._conv_forward(x, (weight - weight.mean()) / weight.std(), self.bias)


class Bad(Good):
    name = "standardised"

    def build(self, spec):
        model = super().build(spec)
        model[0] = Standardised(8, 16, 3)
        return model
"""
NARROW = """
from _good import Good


class Bad(Good):
    name = "narrow"
"""
CASES = {
    "standardised by its layer": (STANDARDISED, "2:4", "0.weight"),
    "no layer is that wide": (NARROW, "1:64", "no weight takes 1:64"),
}


def record_of(project, monkeypatch, source, pattern):
    file = project.folder / "plugins" / "task.py"
    file.parent.mkdir()
    file.write_text(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(PLUGINS), os.environ.get("PYTHONPATH")])))
    monkeypatch.syspath_prepend(str(PLUGINS))
    name = load_task(f"path:{file}").name
    (project.folder / "toys.toml").write_text(
        f'name = "toys"\nscale = "smoke"\ntasks = ["{name}"]\nseeds = [0]\n'
        f'[[grid]]\npattern = "{pattern}"\nmethod = "sr-ste"\n'
    )
    project.run("run", "--plugins", str(file.parent), expect=1)
    records = [json.loads(path.read_text()) for path in project.folder.glob("results/toys/*/*/attempt-*/record.json")]
    (sparse,) = [record for record in records if record["cell"]["pattern"] == pattern]
    return sparse


@pytest.mark.parametrize("case", CASES)
def test_the_cell_is_invalid_and_says_why(case, project, monkeypatch):
    source, pattern, named = CASES[case]
    record = record_of(project, monkeypatch, source, pattern)
    assert record["status"] == "invalid"
    assert named in record["error"]["message"]
    if pattern == "2:4":
        (line,) = [line for line in record["audit"]["layers"] if line["name"] == named]
        assert (line["role"], record["audit"]["ok"]) == ("dense", False)
        assert "its own forward changes the weight" in line["reason"]
