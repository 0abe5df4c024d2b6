"""`nmbench convert` and `nmbench export --format` as a person types them."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from project import PLUGINS, Project
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from nmbench._util.errors import UsageError
from nmbench.cli import app
from nmbench.kernels import load_converted
from nmbench.plan.cell import Cell
from nmbench.sparsity import NMPattern

SPARSE = Cell("toy", "mlp", "smoke", NMPattern(2, 4), "sr-ste")
FILE = ("--task", "toy", "--scale", "smoke")


@pytest.fixture
def say(trained: Project, nmbench: Any) -> Callable[..., str]:
    """Standard output of a command; or standard error, which is one line, where it fails."""

    def call(*arguments: str, expect: int = 0) -> str:
        done = nmbench(*arguments, "--plugins", str(PLUGINS), cwd=trained.folder)
        assert done.returncode == expect, done.stdout + done.stderr
        if expect:
            assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr if expect else done.stdout

    return call


def mlp(width: int = 32) -> nn.Module:
    layers = nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 2)
    return nn.Sequential(*layers).eval()


def attempt(project: Project) -> Path:
    (path,) = project.folder.glob(f"results/toys/toy/*-{SPARSE.id[:8]}/attempt-1")
    return path


def finished(project: Project) -> nn.Module:
    model = mlp()
    model.load_state_dict(load_file(attempt(project) / "weights.safetensors"))
    return model


# -- whole ways -------------------------------------------------------------------------------------------------------
def test_a_cell_is_converted_beside_its_weights(trained: Project, say: Callable[..., str]) -> None:
    said = say("convert", SPARSE.id[:8])
    assert said.startswith("toy/mlp, batch 1, float32 on cpu\n\nLayer ")
    assert "of 3 weights run sparse" in said
    assert any(line.startswith("4 ") and "2 x 16" in line for line in said.splitlines()), "the last layer's row"
    made = load_converted(attempt(trained) / "weights-converted.safetensors", mlp())
    x = torch.randn(3, 16)
    torch.testing.assert_close(made(x), finished(trained)(x), rtol=1e-4, atol=1e-5)


def test_a_strangers_file_is_converted_or_does_not_fit(trained: Project, say: Callable[..., str]) -> None:
    torch.save(finished(trained).state_dict(), trained.folder / "mine.pt")
    said = say("convert", "mine.pt", *FILE, "--pattern", "2:4", "--batch", "4", "--out", "fast.safetensors")
    assert "toy/mlp, batch 4, float32 on cpu" in said
    x = torch.randn(3, 16)
    made = load_converted(trained.folder / "fast.safetensors", mlp())
    torch.testing.assert_close(made(x), finished(trained)(x), rtol=1e-4, atol=1e-5)
    said = say("convert", "mine.pt", *FILE, "--model", "wide", expect=2)
    assert "mine.pt does not fit toy/wide at scale smoke: size mismatch for 0.weight" in said
    assert not (trained.folder / "mine-converted.safetensors").exists()


@pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="ONNX is written by onnx and onnxscript and checked in onnxruntime (extra `engines`)",
)
def test_a_cell_is_exported_to_onnx(trained: Project, say: Callable[..., str]) -> None:
    said = say("export", f"toys/{SPARSE.id[:8]}", "--format", "onnx")
    file = f"{SPARSE.slug}-{SPARSE.id[:8]}.onnx"
    assert said.startswith(f"{file}: ONNX, opset 20, batch dynamic; checked in onnxruntime at batch 1 and 3")
    import onnx

    told = {entry.key: entry.value for entry in onnx.load(trained.folder / file).metadata_props}
    assert told["cell"] == SPARSE.id
    assert (told["task"], told["model"], told["pattern"]) == ("toy", "mlp", "2:4")
    assert told["commit"] == (trained.ok("2:4")["environment"]["commit"] or "unknown")


def test_weights_that_changed_are_not_exported(trained: Project, say: Callable[..., str]) -> None:
    said = say("export", SPARSE.id, "--format", "torch", "--out", "m.pt")
    assert "weights are zero, and stand in the file as zeros" in said
    x = torch.randn(3, 16)
    model = mlp()
    model.load_state_dict(torch.load(trained.folder / "m.pt", weights_only=True))
    assert torch.equal(model(x), finished(trained)(x))
    with (attempt(trained) / "weights.safetensors").open("ab") as file:
        file.write(b" ")
    said = say("export", SPARSE.id, "--format", "safetensors", "--out", "m.safetensors", expect=2)
    assert "weights.safetensors has changed since it was written" in said
    assert not (trained.folder / "m.safetensors").exists()


# -- refusals ---------------------------------------------------------------------------------------------------------
def refusal(*arguments: str) -> str:
    with pytest.raises(UsageError) as error:
        CliRunner().invoke(app, [*arguments, "--plugins", str(PLUGINS)], catch_exceptions=False)
    assert "\n" not in str(error.value)
    return str(error.value)


WRONG: list[tuple[tuple[str, ...], str]] = [
    (("convert", "nowhere.pt"), "nowhere.pt: there is no such file, and it is no cell's id"),
    (("convert", "abcdef"), "no cell 'abcdef' has results below"),
    (("convert", "abcdef", "--task", "toy"), "abcdef is a cell, which has its own task"),
    (("convert", "w.pt"), "w.pt: say whose weights these are"),
    (("convert", "w.pt", *FILE, "--device", "tpu"), "--device 'tpu': use auto, cpu or cuda"),
    (("convert", "w.pt", *FILE, "--dtype", "int8"), "--dtype 'int8': use float32"),
    (("convert", "w.pt", *FILE, "--pattern", "4:2"), "--pattern: "),
    (("convert", "w.pt", *FILE, "--out", "."), "--out .: that is a folder"),
    (("convert", "w.pt", *FILE, "--out", "w.pt"), "--out w.pt: that is the file of the weights"),
    (("convert", "w.pt", *FILE, "--out", "no/f"), "--out no/f: there is no folder no"),
    (("convert", "w.pt", *FILE, "--out", "/proc/f"), "--out /proc/f: nothing can be written there"),
    (("convert", "w.pt", "--task", "toys"), "unknown task 'toys'; did you mean 'toy'?"),
    (("convert", "w.pt", "--task", "toy"), "task 'toy' has no scale 'paper'"),
    (("convert", "w.pt", *FILE, "--model", "mpl"), "task 'toy' has no model 'mpl'; did you mean 'mlp'?"),
    (("convert", "w.pt", *FILE, "--train", "steps"), "--train 'steps': write setting=value"),
    (("convert", "w.pt", *FILE, "--train", "step=3"), "task 'toy' has no setting 'step'; did you mean 'steps'?"),
    (("convert", "w.pt", *FILE, "--train", "steps=[3, 4]"), "--train: a list makes several models"),
    (("convert", "w.pt", *FILE, "--train", "steps=[]"), "--train: "),
    (("export", "abcdef", "--format", "onxn"), "--format 'onxn': there is no such format; did you mean 'onnx'?"),
    (("export", "abcdef", "--format", "onnx"), "no cell 'abcdef' has results below"),
    (("export", "quick", "--format", "onnx"), "'quick' is no cell"),
    (("export", "quick"), "name a format for the model of a cell, as --format onnx, or a place for the records"),
    (("export", "quick", "--format", "onnx", "--sink", "mlflow"), "name a format"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(arguments) for arguments, _ in WRONG])
def test_wrong_usage_is_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.pt").touch()
    assert refusal(*arguments).startswith(message)


def test_a_cell_whose_task_is_gone(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained.folder)
    (empty := trained.folder / "empty").mkdir()
    arguments = ["export", SPARSE.id[:6], "--format", "torch", "--plugins", str(empty)]
    with pytest.raises(UsageError, match="task 'toy' is not installed"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
