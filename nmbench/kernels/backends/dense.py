"""The backend `dense`: the baked weight through torch, on any device. What every other one is measured against."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from nmbench.kernels.backend import Backend, Kind, Problem, Refusal, no_gpu, result_dtype
from nmbench.kernels.problem import dtype_name, is_float8


class Dense(Backend):
    """torch.nn.functional.linear and conv2d; int8 through torch._int_mm, 8-bit floats through torch._scaled_mm."""

    name = "dense"

    def refusal(self, problem: Problem) -> Refusal | None:
        """Convolutions of 8-bit operands, which torch does not have, and 8-bit floats on older GPUs."""
        name = dtype_name(problem.dtype)
        if not problem.dtype.is_floating_point and problem.dtype != torch.int8:
            return Refusal(f"unsupported dtype {name}", Kind.DTYPE)
        if problem.kind == "conv2d" and problem.dtype.itemsize == 1:
            return Refusal(f"torch has no convolution of {name}", Kind.DTYPE)
        if is_float8(problem.dtype) and problem.device == "cuda":
            if problem.dtype != torch.float8_e4m3fn:
                return Refusal(f"torch has no product of two matrices of {name}", Kind.DTYPE)
            return no_gpu(problem)
        return None

    def pack(self, weight: Tensor, problem: Problem) -> dict[str, Tensor]:
        """{"weight"}, not copied; for 8-bit floats a scale of one too."""
        packed = {"weight": weight.detach()}
        if is_float8(problem.dtype):
            packed["scale"] = torch.ones((), device=weight.device)
        return packed

    def linear(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (..., in) -> (..., out)."""
        weight = packed["weight"]
        if problem.dtype.itemsize > 1:
            return F.linear(x, weight, bias)
        flat = x.reshape(-1, x.shape[-1])
        y = _int8(flat, weight) if problem.dtype == torch.int8 else _float8(flat, weight, packed["scale"])
        y = y if bias is None else y + bias.to(y.dtype)
        return y.view(*x.shape[:-1], weight.shape[0])

    def conv2d(self, x: Tensor, packed: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
        """x (N, in, H, W) -> (N, out, H', W')."""
        return F.conv2d(x, packed["weight"], bias, problem.stride, problem.padding, problem.dilation, problem.groups)

    def unpack(self, packed: Mapping[str, Tensor], problem: Problem) -> Tensor:
        """The weight itself."""
        return packed["weight"]


def _int8(x: Tensor, weight: Tensor) -> Tensor:
    """Exact int32 sums. On a GPU the library wants more than 16 rows and multiples of 8."""
    if x.device.type != "cuda":
        return x.int() @ weight.int().t()
    rows, outs, deep = x.shape[0], weight.shape[0], -x.shape[1] % 8
    x = F.pad(x, (0, deep, 0, max(24 - rows, -rows % 8))).contiguous()
    weight = F.pad(weight, (0, deep, 0, -outs % 8)).contiguous()
    return torch._int_mm(x, weight.t())[:rows, :outs].contiguous()


def _float8(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    if x.device.type != "cuda":
        return (x.float() @ weight.float().t()).to(result_dtype(x.dtype))
    rows, outs, deep = x.shape[0], weight.shape[0], -x.shape[1] % 16
    x = F.pad(x, (0, deep, 0, -rows % 16 if rows else 16)).contiguous()
    weight = F.pad(weight, (0, deep, 0, -outs % 16)).contiguous()
    y = torch._scaled_mm(x, weight.t(), scale, scale, out_dtype=result_dtype(x.dtype))
    return y[:rows, :outs].contiguous()
