"""A finished model in the formats of other programs: the numbers, the zeros, what the file tells, no half file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from nmbench._util.errors import UsageError
from nmbench.kernels import engines
from nmbench.plan.cell import Cell
from nmbench.running.job import ExportJob
from nmbench.sparsity import sparsify
from nmbench.worker import export

METADATA = {"pattern": "2:4", "task": "toy", "cell": "0123456789abcdef"}


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 16))
    sparsify(model, "2:4", "one-shot").finalize()
    return model.eval()


def job(out: Path, form: Any) -> ExportJob:
    cell = Cell("toy", "mlp", "smoke")
    return ExportJob(
        cell=cell, reference="", data_dir=Path(), weights=Path(), out=out, format=form, metadata=METADATA
    )  # fmt: skip


def write(model: nn.Module, inputs: tuple[Any, ...], out: Path, form: str) -> str:
    return export.write(model, inputs, job(out, form))


X = torch.zeros(1, 4, 4, 4)


# -- safetensors, torch -----------------------------------------------------------------------------------------------
def test_safetensors_tell_where_they_come_from(tmp_path: Path) -> None:
    said = write(model := net(), (X,), tmp_path / "m.safetensors", "safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert file.metadata().items() >= METADATA.items()
        for name, tensor in model.state_dict().items():
            assert torch.equal(file.get_tensor(name), tensor)
    zeros = sum(int((w == 0).sum()) for w in model.parameters() if w.dim() > 1)
    assert f"{zeros:,} of {288 + 512:,} weights are zero" in said
    assert zeros >= 144 + 256


def test_a_state_dict_is_read_without_running_code(tmp_path: Path) -> None:
    write(model := net(), (X,), tmp_path / "m.pt", "torch")
    other = net()
    nn.init.zeros_(other[0].weight)  # type: ignore[arg-type, index]
    other.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    assert torch.equal(other(X + 1), model(X + 1))


@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    def torn(value: Any, file: Any, *_: Any) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", torn)
    monkeypatch.setattr("safetensors.torch.save_model", torn)
    (tmp_path / "m").write_text("before")
    with pytest.raises(OSError, match="No space left"):
        write(net(), (X,), tmp_path / "m", form)
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m").read_text() == "before"


# -- ONNX -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def onnx() -> Any:
    pytest.importorskip("onnxscript", reason="torch.onnx exports through onnxscript (extra `engines`)")
    return pytest.importorskip("onnx", reason="torch.onnx writes through onnx (extra `engines`)")


@pytest.fixture
def _runtime() -> None:
    pytest.importorskip("onnxruntime", reason="without onnxruntime (extra `engines`) an export is not checked")


def props(file: Path, onnx: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(file).metadata_props}


@pytest.mark.usefixtures("_runtime")
def test_onnx_has_a_dynamic_batch_the_zeros_and_its_origin(tmp_path: Path, onnx: Any) -> None:
    said = write(model := net(), (X,), tmp_path / "m.onnx", "onnx")
    assert "ONNX, opset 20, batch dynamic; checked in onnxruntime at batch 1 and 3" in said
    held = onnx.load(tmp_path / "m.onnx")
    assert props(tmp_path / "m.onnx", onnx).items() >= {**METADATA, "opset": "20", "batch": "dynamic"}.items()
    assert [entry.version for entry in held.opset_import if entry.domain == ""] == [20]
    assert held.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    stored = [torch.as_tensor(onnx.numpy_helper.to_array(one).copy()) for one in held.graph.initializer]
    zeros = sorted(int((one == 0).sum()) for one in stored if one.dim() > 1 and one.is_floating_point())
    assert zeros == sorted(int((w == 0).sum()) for w in model.parameters() if w.dim() > 1)
    for batch in (1, 5):
        x = torch.randn(batch, 4, 4, 4)
        (got,) = engines.load_onnx(tmp_path / "m.onnx")((x,))()
        torch.testing.assert_close(torch.as_tensor(got), model(x), rtol=1e-4, atol=1e-5)


class Pair(nn.Module):
    """Keeps its batch of one in a shape; has an input that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor, times: int) -> Tensor:
        for _ in range(times):
            x = self.layer(x).view(1, 2, 2).flatten(1)
        return x


class Traced(nn.Module):
    """Is another product for a batch of one: exported with two, it fails at one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).view(1, 2, 2) if len(x) == 1 else self.layer(x)[:2].reshape(2, 4)


@pytest.mark.usefixtures("_runtime")
@pytest.mark.parametrize(
    ("model", "inputs", "why"),
    [(Pair, (torch.zeros(1, 4), 2), ""), (Traced, (torch.zeros(1, 4),), "onnxruntime does not run it at batch 1")],
)
def test_a_batch_that_cannot_be_dynamic_is_fixed_and_said(
    model: type[nn.Module], inputs: tuple[Any, ...], why: str, tmp_path: Path, onnx: Any
) -> None:
    said = write(model().eval(), inputs, tmp_path / "m.onnx", "onnx")
    assert f"batch 1 (dynamic: {why}" in said
    assert "checked in onnxruntime at batch 1: off by" in said
    assert said.count("\n") == 1
    assert props(tmp_path / "m.onnx", onnx)["batch"] == "1"


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


@pytest.mark.usefixtures("onnx")
def test_what_torch_onnx_refuses_is_said_on_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"torch.onnx refuses the model: .*data-dependent") as error:
        write(Branch().eval(), (torch.zeros(1, 4),), tmp_path / "m.onnx", "onnx")
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_runtime", "onnx")
def test_other_numbers_than_torchs_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "load_onnx", lambda file: lambda inputs: lambda: [torch.ones(len(inputs[0]), 16)])
    with pytest.raises(UsageError, match=r"onnxruntime gives other numbers than torch \(relative difference"):
        write(net(), (X,), tmp_path / "m.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("onnx")
def test_without_onnxruntime_it_is_written_and_said_to_be_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert "not checked: onnxruntime is not installed" in write(net(), (X,), tmp_path / "m.onnx", "onnx")


def test_without_onnx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"onnx, onnxscript not installed: pip install 'nmbench\[engines\]'"):
        write(net(), (X,), tmp_path / "m.onnx", "onnx")
