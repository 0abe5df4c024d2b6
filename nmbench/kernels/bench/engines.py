"""One product in onnxruntime and OpenVINO, where they are installed (extra `engines`); the weight is a constant there.

float32 on a CPU alone. The ONNX of a product is a node: `Gemm` or `Conv`.
"""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nmbench.kernels.bench.way import Way
from nmbench.kernels.engines import onnxruntime_session, openvino_request
from nmbench.kernels.problem import Problem

Product = Callable[[Tensor], Tensor]


def ways(problem: Problem) -> Iterator[Way]:
    """Those of the engines that are installed; none for another dtype or device."""
    if problem.device != "cpu" or problem.dtype is not torch.float32 or not importlib.util.find_spec("onnx"):
        return
    for name, made in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
        if importlib.util.find_spec(name):
            prepare = partial(_prepared, problem, made)
            yield Way(f"{name} fp32", torch.float32, _run, prepare=prepare, lay=Tensor.contiguous)


def _run(x: Tensor, product: Any) -> Tensor:
    y: Tensor = product(x)
    return y


def _prepared(problem: Problem, made: Callable[[bytes], Product], weight: Tensor) -> Any:
    return made(_onnx(problem, weight))


def _onnxruntime(onnx: bytes) -> Product:
    session = onnxruntime_session(onnx)
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


def _openvino(onnx: bytes) -> Product:
    request = openvino_request(onnx)
    return lambda x: torch.from_numpy(request.infer([x.numpy()], share_inputs=True, share_outputs=True)[0])


def _onnx(problem: Problem, weight: Tensor) -> bytes:
    """The product with this weight, x of the problem's sizes. Sizes of y are left to the engine."""
    from onnx import TensorProto, helper, numpy_helper

    if problem.kind == "linear":
        node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    else:
        node = helper.make_node(
            "Conv", ["x", "w"], ["y"], strides=problem.stride, pads=[*problem.padding, *problem.padding],
            dilations=problem.dilation, group=problem.groups,
        )  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, problem.input)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(problem.input))
    held = numpy_helper.from_array(weight.contiguous().numpy(), "w")
    model = helper.make_model(helper.make_graph([node], "product", [x], [y], [held]), ir_version=9)
    model.opset_import[0].version = 20
    return bytes(model.SerializeToString())
