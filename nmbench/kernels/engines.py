"""Ways to run a whole dense model on a CPU: what a converted model is held against is the fastest of them.

eager            torch as it is
folded           channels last, BatchNorm folded into the convolutions
reordered        the same, with weights reordered for oneDNN, ReLU and additions fused, as in a converted model
compiled         torch.compile with freezing, of the same: weights reordered for oneDNN, pointwise operators fused
onnxruntime      exported to ONNX, where it is installed (extra `engines`)
openvino         the same file, where it is installed; float32 sums
"""

import contextlib
import copy
import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nmbench._util.errors import first_line
from nmbench.kernels.conversion.prepare import finish, prepare
from nmbench.kernels.conversion.reordered import reordered as layer
from nmbench.kernels.conversion.reordered import takes
from nmbench.kernels.conversion.swap import swap

Run = Callable[[], object]
#: makes one ready; raises whatever it raises where the model or the inputs are not for it
Engine = Callable[[nn.Module, Sequence[Any]], Run]
#: the opset of exported models: the newest that both engines read
OPSET = 20


class Absent(RuntimeError):
    """The engine is not installed; the text says how to have it."""


def eager(model: nn.Module, inputs: Sequence[Any]) -> Run:
    """The model itself."""
    return lambda: model(*inputs)


def folded(model: nn.Module, inputs: Sequence[Any]) -> Run:
    """A copy of it, prepared."""
    made = _prepared(model)
    given = _channels_last(inputs)
    return lambda: made(*given)


def reordered(model: nn.Module, inputs: Sequence[Any]) -> Run:
    """A copy, prepared as a converted model is, without a sparse layer."""
    made = _prepared(model)
    made = swap(made, {module: layer(module) for module in made.modules() if takes(module)})
    finish(made, 0)
    given = _channels_last(inputs)
    return lambda: made(*given)


def compiled(model: nn.Module, inputs: Sequence[Any]) -> Run:
    """Compiled at once: the first call takes a minute for a large model. Needs a C++ compiler."""
    from torch._inductor import config

    made, given = _prepared(model), _channels_last(inputs)
    with config.patch(freezing=True), torch.no_grad():
        run = torch.compile(made, dynamic=False)
        run(*given)
    return lambda: run(*given)


def onnxruntime(model: nn.Module, inputs: Sequence[Any]) -> Run:
    """With as many threads as torch has."""
    _installed("onnxruntime", "onnx", "onnxscript")
    with _exported(model, inputs) as file:
        return load_onnx(file)(inputs)


def load_onnx(file: Path) -> Callable[[Sequence[Any]], Callable[[], list[Any]]]:
    """A file of `export_onnx` in onnxruntime: inputs of the model -> how to run it on them, which gives arrays.

    Raises Absent, and whatever onnxruntime raises.
    """
    session = onnxruntime_session(str(file))
    names = [one.name for one in session.get_inputs()]

    def bound(inputs: Sequence[Any]) -> Callable[[], list[Any]]:
        feed = _named(names, inputs)
        return lambda: list(session.run(None, feed))

    return bound


def onnxruntime_session(onnx: str | bytes) -> Any:
    """A session of an ONNX file, or of its bytes, on a CPU with as many threads as torch has. Raises Absent."""
    _installed("onnxruntime")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    return ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def openvino(model: nn.Module, inputs: Sequence[Any]) -> Run:
    """With as many threads as torch has, and float32 sums."""
    _installed("openvino", "onnx", "onnxscript")
    with _exported(model, inputs) as file:
        request = openvino_request(str(file))
    feed = _named([port.get_any_name() for port in request.model_inputs], inputs)
    return lambda: request.infer(feed, share_inputs=True, share_outputs=True)


def openvino_request(onnx: str | bytes) -> Any:
    """The same of OpenVINO, with float32 sums: an infer request. Raises Absent."""
    _installed("openvino")
    import openvino as ov

    config = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    core = ov.Core()
    return core.compile_model(core.read_model(onnx), "CPU", config).create_infer_request()


#: by name; the last three take seconds to minutes to make ready
ENGINES: Mapping[str, Engine] = {
    "eager": eager, "folded": folded, "reordered": reordered, "compiled": compiled,
    "onnxruntime": onnxruntime, "openvino": openvino,
}  # fmt: skip
#: those that are ready at once
QUICK = ("eager", "folded", "reordered")


def ready(
    model: nn.Module, inputs: Sequence[Any], names: Sequence[str] = tuple(ENGINES)
) -> tuple[dict[str, Run], dict[str, str]]:
    """({engine: how to run it}, {engine: why not}); every one has been run once.

    model: in evaluation mode, on a CPU; it stays as it is. inputs: positional. Raises what the model itself raises on
    them, and torch.OutOfMemoryError.
    """
    runs: dict[str, Run] = {}
    refused: dict[str, str] = {}
    for name in names:
        try:
            run = ENGINES[name](model, inputs)
            run()
        except Absent as error:
            refused[name] = str(error)
        except Exception as error:  # exporters and compilers raise whatever they like
            if name == "eager" or isinstance(error, torch.OutOfMemoryError):
                raise
            refused[name] = first_line(error)[:200]
        else:
            runs[name] = run
    return runs, refused


@contextlib.contextmanager
def _exported(model: nn.Module, inputs: Sequence[Any]) -> Iterator[Path]:
    """The model as ONNX, in a file that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        export_onnx(model, inputs, file)
        yield file


def export_onnx(model: nn.Module, inputs: Sequence[Any], file: Path, *, dynamic_batch: bool = False) -> None:
    """Write the model as ONNX of opset `OPSET`. Raises Absent, and whatever torch.onnx raises.

    dynamic_batch: the first dimension of every input may be of any size.
    """
    _installed("onnx", "onnxscript")
    shapes = None
    if dynamic_batch:
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} if isinstance(value, Tensor) and value.dim() else None for value in inputs)
        inputs = [torch.cat([value, value]) if _is_one(value) else value for value in inputs]
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            model, tuple(inputs), file, opset_version=OPSET, dynamo=True, dynamic_shapes=shapes, verbose=False,
            external_data=False, optimize=True,
        )  # fmt: skip


def _is_one(value: Any) -> bool:
    """A tensor of a batch of one, which an exporter would take for a constant."""
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == 1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints its progress and warns of itself."""
    import io
    import warnings

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _prepared(model: nn.Module) -> nn.Module:
    made = copy.deepcopy(model)
    prepare(made)
    return made


def _channels_last(inputs: Sequence[Any]) -> list[Any]:
    def moved(leaf: Any) -> Any:
        images = isinstance(leaf, Tensor) and leaf.dim() == 4
        return leaf.contiguous(memory_format=torch.channels_last) if images else leaf

    return list(pytree.tree_map(moved, list(inputs)))


def _named(names: Sequence[str], inputs: Sequence[Any]) -> dict[str, Any]:
    tensors = [leaf for leaf in pytree.tree_leaves(list(inputs)) if isinstance(leaf, Tensor)]
    if len(tensors) != len(names):
        raise RuntimeError(f"the exported model has {len(names)} inputs, the model {len(tensors)}")
    return {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}


def _installed(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Absent(f"{', '.join(missing)} not installed: pip install 'nmbench[engines]'")
