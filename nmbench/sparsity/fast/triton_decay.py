"""The gradient term of SR-STE for many weights in one launch: grad += lambda_w * (1 - mask) * weight."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc"

from __future__ import annotations

import struct
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmbench.sparsity.fast.triton_tables import Table

TILE = 2048
_TYPES = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


@triton.jit
def decay_kernel(rows, pieces, TYPE: tl.constexpr, SUM: tl.constexpr, ALIGNED: tl.constexpr, TILE: tl.constexpr):
    """rows: (grad, weight, mask, elements, the bits of lambda_w as float64) each."""
    piece = tl.program_id(0).to(tl.int64) * 2
    row = rows + tl.load(pieces + piece).to(tl.int64) * 5
    at = tl.load(pieces + piece + 1) * TILE + tl.arange(0, TILE)
    grad_at = tl.load(row).to(tl.pointer_type(TYPE)) + at
    weight_at = tl.load(row + 1).to(tl.pointer_type(TYPE)) + at
    mask_at = tl.load(row + 2).to(tl.pointer_type(tl.int8)) + at
    count = tl.load(row + 3)
    if ALIGNED:
        grad_at = tl.multiple_of(grad_at, 16)
        weight_at = tl.multiple_of(weight_at, 16)
        mask_at = tl.multiple_of(mask_at, 16)
        count = tl.multiple_of(count, 16)
    lambda_w = tl.load(row + 4).to(tl.float64, bitcast=True).to(SUM)
    there = at < count.to(tl.int32)
    grad = tl.load(grad_at, mask=there, other=0).to(SUM)
    weight = tl.load(weight_at, mask=there, other=0).to(SUM)
    kept = tl.load(mask_at, mask=there, other=1) != 0
    term = tl.where(kept, 0.0, weight) * lambda_w
    tl.store(grad_at, (grad + term).to(TYPE), mask=there)


class Decay:
    """Adds the term to gradients of one dtype on one device; all three of equal strides, triple by triple."""

    def __init__(
        self, grads: Sequence[Tensor], weights: Sequence[Tensor], masks: Sequence[Tensor], lambda_w: float
    ) -> None:
        self._dtype = weights[0].dtype
        (number,) = struct.unpack("<q", struct.pack("<d", lambda_w))
        rows: dict[bool, list[list[int]]] = {}
        for grad, weight, mask in zip(grads, weights, masks, strict=True):
            where = [grad.data_ptr(), weight.data_ptr(), mask.data_ptr()]
            aligned = weight.numel() % 16 == 0 and all(pointer % 16 == 0 for pointer in where)
            rows.setdefault(aligned, []).append([*where, weight.numel(), number])
        self._tables = {
            aligned: Table(some, [triton.cdiv(row[3], TILE) for row in some], weights[0].device)
            for aligned, some in rows.items()
        }

    def run(self) -> None:
        """Once an optimizer step."""
        for aligned, table in self._tables.items():
            decay_kernel[(table.programs,)](
                table.rows,
                table.pieces,
                TYPE=_TYPES[self._dtype],
                SUM=tl.float64 if self._dtype == torch.float64 else tl.float32,
                ALIGNED=aligned,
                TILE=TILE,
            )
