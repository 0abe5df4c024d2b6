"""Packing, unpacking and multiplying with the functions of lanes.c."""

import ctypes
import functools

import torch
from torch import Tensor

from nmbench.kernels.cpu.build import ISA_VARIABLE, Form, Lanes, Layer, covering, library, rows_library
from nmbench.kernels.problem import Pair, Problem, dtype_name, output_size
from nmbench.sparsity.memory import readable

#: up to so many rows the bytes of the weight count, above it the instructions
FEW_ROWS = 8
#: alignment of packed weights, in bytes: that of a cache line
_LINE = 64


def lanes_of(problem: Problem, form: Form | None = None, packed: int | None = None) -> Lanes:
    """The compiled functions for the problem's pattern.

    packed: the lanes for which its weight was packed. Raises ValueError, in words, if there are none, and RuntimeError
    where these have other lanes.
    """
    ours = covering(problem.pattern)
    if form is Form.ROWS:
        found = rows_library()
    else:
        found = f"no vector form for {problem.pattern}" if ours is None else library(ours)
    if isinstance(found, str):
        raise ValueError(found)
    if packed not in (None, found.lanes):
        raise RuntimeError(f"the weight was packed before {ISA_VARIABLE} was changed: convert the model again")
    return found


def form_for(problem: Problem, lanes: Lanes) -> Form:
    """How to pack the problem's weight."""
    few = problem.rows <= FEW_ROWS
    if problem.dtype == torch.bfloat16:
        return Form.DOT if lanes.has(Form.DOT) and not few else Form.HALF
    return Form.NARROW if few and lanes.has(Form.NARROW) else Form.WIDE


def _sizes(weight: tuple[int, ...], groups: int) -> tuple[int, int, int, int]:
    """(outputs, groups, taps, inputs of a group)."""
    return weight[0], groups, torch.Size(weight[2:]).numel(), weight[1]


def _head(form: Form, problem: Problem, lanes: Lanes) -> tuple[int, ...]:
    """What the functions of packing begin with: the form, or the pattern."""
    return (form,) if lanes.heads == 1 else (problem.pattern.n, problem.pattern.m)


def pack(weight: Tensor, problem: Problem, form: Form, lanes: Lanes) -> Tensor:
    """weight: of `problem.weight` -> bytes, one-dimensional, uint8. Raises ValueError if it breaks the pattern."""
    sizes = _sizes(problem.weight, problem.groups)
    last = weight.detach().flatten(2).movedim(1, -1) if weight.dim() == 4 else weight.detach()
    last = last.float().contiguous()
    head = _head(form, problem, lanes)
    packed = _aligned(lanes.functions.nm_bytes(*head, *sizes))
    broken = lanes.functions.nm_pack(*head, last.data_ptr(), *sizes, packed.data_ptr())
    if broken:
        raise ValueError(f"the weight breaks {problem.pattern} in output {broken - 1}")
    return packed


def _aligned(size: int) -> Tensor:
    """Zeros that begin at a cache line, with a line behind them."""
    held = torch.zeros(size + 2 * _LINE, dtype=torch.uint8, device="cpu")
    start = -held.data_ptr() % _LINE
    return held[start : start + size]


def unpack(packed: Tensor, problem: Problem, form: Form, lanes: Lanes) -> Tensor:
    """The weight again, of `problem.weight` and `problem.dtype`."""
    out, groups, taps, inputs = _sizes(problem.weight, problem.groups)
    weight = torch.zeros(out, taps, inputs, device="cpu")
    head = _head(form, problem, lanes)
    lanes.functions.nm_unpack(*head, packed.data_ptr(), out, groups, taps, inputs, weight.data_ptr())
    return weight.movedim(1, -1).reshape(problem.weight).contiguous().to(problem.dtype)


def tile_for(rows: int, lanes: int) -> Pair:
    """(rows, blocks of outputs) that fill the registers: few rows take more blocks.

    Of a tile that was not compiled the nearest smaller one runs.
    """
    if rows <= 4:
        return rows, 4
    if lanes < 16:
        return 4 if -(-rows // 4) <= -(-rows // 5) else 5, 2
    tiles = -(-rows // 8)
    return max(6, -(-rows // tiles)), 2


@functools.lru_cache(4096)
def _template(problem: Problem, form: Form) -> bytes:
    """`Layer` without what differs from call to call."""
    out, groups, _, per_group = _sizes(problem.weight, problem.groups)
    kernel = problem.weight[2:] or (1, 1)
    layer = Layer(channels=per_group * groups, outputs=out, groups=groups, form=form)
    layer.n, layer.m = problem.pattern.n, problem.pattern.m
    for name, value in zip(("kernel", "stride", "padding", "dilation"), _pairs(problem, kernel), strict=True):
        setattr(layer, name, (ctypes.c_long * 2)(*value))
    layer.height = layer.width = layer.out_height = layer.out_width = 1
    settings = dict(problem.settings)
    layer.rows, layer.blocks = settings.get("rows", 0), settings.get("blocks", 0)
    return bytes(layer)


def _pairs(problem: Problem, kernel: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return kernel, problem.stride, problem.padding, problem.dilation


def result_shape(x: Tensor, problem: Problem) -> tuple[int, ...]:
    """Of the product with x: (..., out) or (N, out, H', W')."""
    if problem.kind == "linear":
        return *x.shape[:-1], problem.weight[0]
    size = output_size(x.shape[2:], problem.weight[2:], problem.stride, problem.padding, problem.dilation)
    return x.shape[0], problem.weight[0], *size


class Product:
    """x W^T + bias (+ addend), then ReLU if asked, for weights of one problem and form.

    What is the same at each call is worked out once: at few rows it would take longer than the product itself.
    """

    def __init__(self, problem: Problem, form: Form, lanes: int) -> None:
        """Of the problem's input the leading sizes do not count. form, lanes: how weights are packed. As `lanes_of`."""
        self.problem, self.lanes = problem, lanes_of(problem, form, lanes)
        self.template = _template(problem, form)
        self.tiles = form is not Form.ROWS and "rows" not in dict(problem.settings)
        self.inner = torch.bfloat16 if form is Form.DOT else torch.float32
        self.linear, self.channels = problem.kind == "linear", problem.weight[1] * problem.groups
        self.layout = torch.contiguous_format if self.linear else torch.channels_last

    def __call__(
        self, x: Tensor, packed: Tensor, bias: Tensor | None, addend: Tensor | None = None, relu: bool = False
    ) -> Tensor:
        """x: (..., in) or (N, in, H, W), of any memory layout; bias, addend, the result: of the problem's dtype.

        packed: as `pack` returns it for that form. addend: of the result's shape, or broadcast to it.
        """
        self._check(x, bias, addend)
        if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in (bias, addend)):
            return self._followed(x, packed, bias, addend, relu)
        x = self._laid_out(x)
        if bias is not None and not (bias.dtype is torch.float32 and bias.is_contiguous()):
            bias = bias.detach().to(torch.float32).contiguous()
        if addend is not None:
            if addend.shape != result_shape(x, self.problem) or addend.dtype is not self.problem.dtype:
                # it is to be broadcast, or decides on the result's dtype
                y = self._run(x, packed, bias, None, False).to(self.problem.dtype) + addend
                return y.relu() if relu else y
            addend = self._laid_out(addend)
        y = self._run(x, packed, bias, addend, relu)
        return y if y.dtype is self.problem.dtype else y.to(self.problem.dtype)

    def _followed(self, x: Tensor, packed: Tensor, bias: Tensor | None, addend: Tensor | None, relu: bool) -> Tensor:
        """The same with bias and addend added by torch, so that they get gradients."""
        y = self(x, packed, None)
        for one in (bias if bias is None or self.linear else bias.view(-1, 1, 1), addend):
            y = y if one is None else y + one
        return y.relu() if relu else y

    def _laid_out(self, x: Tensor) -> Tensor:
        # asked first, as each call of torch counts here
        if x.dtype is self.inner and x.is_contiguous(memory_format=self.layout) and not x.is_neg():
            return x
        return x.detach().resolve_neg().to(self.inner).contiguous(memory_format=self.layout)

    def _check(self, x: Tensor, bias: Tensor | None, addend: Tensor | None) -> None:
        """Raises RuntimeError for what the packed weight cannot meet, before any memory is touched."""
        problem = self.problem
        if x.dtype is not problem.dtype or not x.is_cpu:
            given = f"{dtype_name(x.dtype)} on {x.device.type}"
            raise RuntimeError(f"an input of {dtype_name(problem.dtype)} on a CPU is needed, not of {given}")
        fits = x.dim() >= 1 if self.linear else x.dim() == 4
        if not fits or x.shape[-1 if self.linear else 1] != self.channels:
            raise RuntimeError(f"an input of shape {tuple(x.shape)} does not fit a weight of shape {problem.weight}")
        if not self.linear and min(result_shape(x, problem)[2:]) < 1:
            raise RuntimeError(f"an input of shape {tuple(x.shape)} is smaller than the kernel of {problem.weight}")
        if bias is not None and (bias.shape != problem.weight[:1] or not bias.is_cpu):
            given = f"shape {tuple(bias.shape)} on {bias.device.type}"
            raise RuntimeError(f"a bias of shape {problem.weight[:1]} on a CPU is needed, not of {given}")
        if addend is not None and not addend.is_cpu:
            raise RuntimeError(f"what is added has to be on a CPU, not on {addend.device.type}")
        tensors = [tensor for tensor in (x, bias, addend) if tensor is not None]
        if not all(map(readable, tensors)):
            raise RuntimeError("a sparse product needs tensors with memory of their own")
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("a packed weight is for inference: there is no gradient; use torch.no_grad()")

    def _run(self, x: Tensor, packed: Tensor, bias: Tensor | None, addend: Tensor | None, relu: bool) -> Tensor:
        """Everything as the kernel reads it: contiguous, of `inner`, but the bias, which is float32."""
        layer = Layer.from_buffer_copy(self.template)
        layer.x, layer.w, layer.relu = x.data_ptr(), packed.data_ptr(), relu
        layer.threads = torch.get_num_threads()
        if self.linear:
            y = torch.empty((*x.shape[:-1], self.problem.weight[0]), dtype=self.inner, device="cpu")
            rows = layer.images = x.numel() // self.channels
        else:
            shape = result_shape(x, self.problem)
            y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last, device="cpu")
            layer.images, layer.height, layer.width = x.shape[0], x.shape[2], x.shape[3]
            layer.out_height, layer.out_width = size = shape[2:]
            rows = x.shape[0] * size[0] * size[1]
        if self.tiles:
            layer.rows, layer.blocks = tile_for(rows, self.lanes.lanes)
        layer.bias = None if bias is None else bias.data_ptr()
        layer.addend, layer.y = None if addend is None else addend.data_ptr(), y.data_ptr()
        if rows and layer.outputs and self.lanes.functions.nm_run(ctypes.byref(layer)):
            raise MemoryError("no memory for the pointers of a sparse product")
        return y
