"""Deformable convolution by torchvision, under the names and signatures of `mmcv._ext`.

    deform_conv_*              offsets only (Dai et al. 2017): forward; gradients of input and offset; of the weight
    modulated_deform_conv_*    offsets and a mask (Zhu et al. 2019): forward and backward

Shapes: input (n, c, h, w), weight (o, c / group, kh, kw), offset (n, 2 * deformable_group * kh * kw, oh, ow) as y, x,
y, x, ..., mask (n, deformable_group * kh * kw, oh, ow), output (n, o, oh, ow). `columns`, `ones` and `im2col_step` are
mmcv's working memory and change no number. 16-bit floats are computed in float32 and rounded once, at the end.

An offset or mask that is larger than the output (mmdet's DyHead has such) is read as mmcv's kernels read it: the first
numbers of each image.
"""

import torch
from torch import Tensor

__all__ = [
    "deform_conv_backward_input",
    "deform_conv_backward_parameters",
    "deform_conv_forward",
    "modulated_deform_conv_backward",
    "modulated_deform_conv_forward",
]

_tv = torch.ops.torchvision
_Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _forward(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None, geometry: tuple[int, ...]
) -> Tensor:
    """geometry: stride, padding and dilation, each y then x; groups of channels, groups of offsets."""
    out: Tensor = _tv.deform_conv2d(*_operands(input, weight, offset, mask, bias), *geometry, mask is not None)
    return out


def _backward(
    grad: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, geometry: tuple[int, ...]
) -> _Gradients:
    """Gradients of input, weight, offset, mask and bias."""
    operands = _operands(input, weight, offset, mask, None)
    grads: _Gradients = _tv._deform_conv2d_backward(grad.to(operands[0]), *operands, *geometry, mask is not None)
    return grads


def _operands(
    input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    dtype = torch.promote_types(input.dtype, torch.float32)
    mask = input.new_zeros(len(input), 1) if mask is None else mask
    bias = input.new_zeros(len(weight)) if bias is None else bias
    return tuple(t.to(dtype) for t in (input, weight, offset, mask, bias))


def _read(given: Tensor, size: torch.Size) -> Tensor:
    """What is read of an offset or mask where the output has `size`: a view of `given`, which is contiguous."""
    if given.shape[2:] == size or given[0].numel() < given.shape[1] * size.numel():  # too few: torchvision refuses it
        return given
    return given.flatten(1)[:, : given.shape[1] * size.numel()].view(*given.shape[:2], *size)


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor,
    kW: int, kH: int, dW: int, dH: int, padW: int, padH: int, dilationW: int, dilationH: int,
    group: int, deformable_group: int, im2col_step: int,
) -> None:  # fmt: skip
    """Deformable convolution without a bias into `output`."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_forward(input, weight, _read(offset, output.shape[2:]), None, None, geometry))


def deform_conv_backward_input(
    input: Tensor, offset: Tensor, gradOutput: Tensor, gradInput: Tensor, gradOffset: Tensor, weight: Tensor,
    columns: Tensor, kW: int, kH: int, dW: int, dH: int, padW: int, padH: int, dilationW: int, dilationH: int,
    group: int, deformable_group: int, im2col_step: int,
) -> None:  # fmt: skip
    """Its gradients by input and offset into `gradInput` and `gradOffset`."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    size = gradOutput.shape[2:]
    grads = _backward(gradOutput, input, weight, _read(offset, size), None, geometry)
    gradInput.copy_(grads[0])
    _read(gradOffset.zero_(), size).copy_(grads[2])


def deform_conv_backward_parameters(
    input: Tensor, offset: Tensor, gradOutput: Tensor, gradWeight: Tensor, columns: Tensor, ones: Tensor,
    kW: int, kH: int, dW: int, dH: int, padW: int, padH: int, dilationW: int, dilationH: int,
    group: int, deformable_group: int, scale: float, im2col_step: int,
) -> None:  # fmt: skip
    """Its gradient by the weight, times `scale`, into `gradWeight`."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    # torchvision has one backward for all of them; the weight's gradient depends on the weight's shape alone
    grads = _backward(gradOutput, input, gradWeight, _read(offset, gradOutput.shape[2:]), None, geometry)
    gradWeight.copy_(scale * grads[1])


def modulated_deform_conv_forward(
    input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor, mask: Tensor, output: Tensor,
    columns: Tensor, kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
    dilation_h: int, dilation_w: int, group: int, deformable_group: int, with_bias: bool,
) -> None:  # fmt: skip
    """Modulated deformable convolution into `output`; `bias` (o,) is read only if `with_bias`."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    offset, mask = (_read(given, output.shape[2:]) for given in (offset, mask))
    output.copy_(_forward(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(
    input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor, mask: Tensor, columns: Tensor,
    grad_input: Tensor, grad_weight: Tensor, grad_bias: Tensor, grad_offset: Tensor, grad_mask: Tensor,
    grad_output: Tensor, kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, pad_h: int, pad_w: int,
    dilation_h: int, dilation_w: int, group: int, deformable_group: int, with_bias: bool,
) -> None:  # fmt: skip
    """Its gradients into `grad_input`, `grad_weight`, `grad_offset`, `grad_mask` and, if `with_bias`, `grad_bias`."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    size = grad_output.shape[2:]
    grads = _backward(grad_output, input, weight, _read(offset, size), _read(mask, size), geometry)
    places = _read(grad_offset.zero_(), size), _read(grad_mask.zero_(), size)
    for given, found in zip((grad_input, grad_weight, *places), grads[:4], strict=True):
        given.copy_(found)
    if with_bias:
        grad_bias.copy_(grads[4])
