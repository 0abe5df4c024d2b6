"""Mask, masked weight and count of flips of many weights, in one launch and one pass over their memory.

A weight is seen as (outer, size, inner), contiguous, as in nmbench/sparsity/nm.c: a group is M elements along `size`,
`inner` apart; the last may be short. Magnitudes are compared as integers, the bits of |w|, whose order is that of the
numbers, so every floating dtype takes the same path and each bit is kept. NaN ranks above infinity; it is not looked
for. Flips are summed by integer atomics: in any order the same number.

A tile is read in one of three ways. VECTOR: inner is 1 and whole groups of M = 2^k <= 16 lie side by side, so a tile is
one run of memory, loaded 16 bytes at a time. COLUMNS: element j of many groups at once, M <= 16. LOOP: the same for any
M, each column read again for each comparison.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment, attr-defined"

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmbench.sparsity.fast.triton_columns import join_columns, split_columns
from nmbench.sparsity.fast.triton_tables import Table

VECTOR, COLUMNS, LOOP = "vector", "columns", "loop"
_INTEGERS = {16: torch.int16, 32: torch.int32, 64: torch.int64}
#: elements of a tile (VECTOR) and groups of a tile (the others)
_TILE, _GROUPS = 2048, 256


@triton.jit
def rank(keys, j: tl.constexpr, M: tl.constexpr):
    """How many of a group go before element j: larger ones, and equal ones of a lower index."""
    before = tl.zeros_like(keys[0]).to(tl.int32)
    for k in tl.static_range(M):
        if k < j:
            before += (keys[k] >= keys[j]).to(tl.int32)
        if k > j:
            before += (keys[k] > keys[j]).to(tl.int32)
    return before


@triton.jit
def write(keep, bits, mask_at, out_at, there, COUNT: tl.constexpr, HAS_MASK: tl.constexpr, HAS_OUT: tl.constexpr):
    """Store mask and masked weight where elements are; the number of flips."""
    fresh = keep.to(tl.int8)
    flips = 0
    if COUNT:
        old = tl.load(mask_at, mask=there, other=0)
        flips = tl.sum(((old != fresh) & there).to(tl.int32))
    if HAS_MASK:
        tl.store(mask_at, fresh, mask=there)
    if HAS_OUT:
        tl.store(out_at, tl.where(keep, bits, 0), mask=there)
    return flips


@triton.jit
def renew_tile(
    weight, mask, out, size, inner, groups, count, tile,
    N: tl.constexpr, M: tl.constexpr, MODE: tl.constexpr, MAGNITUDE: tl.constexpr,
    COUNT: tl.constexpr, HAS_MASK: tl.constexpr, HAS_OUT: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """One tile of one weight, of `groups` groups and `count` elements; the number of flips in it.

    In VECTOR mode the caller has said that 16 divides `count`.
    """
    total = 0
    if MODE == "vector":
        # the hints hold by construction, see `mode_of`: they let a thread move 16 bytes at a time
        at = tile * (GROUPS * M) + tl.arange(0, GROUPS * M)
        there = at < count
        bits = tl.load(tl.multiple_of(weight + at, 16), mask=there, other=0)
        keys = split_columns(tl.reshape(bits & MAGNITUDE, [GROUPS, M]), M, GROUPS)
        ranks = ()
        for j in tl.static_range(M):
            ranks = ranks + (rank(keys, j, M),)  # noqa: RUF005 - as above
        keep = tl.reshape(join_columns(ranks, M, GROUPS), [GROUPS * M]) < N
        mask_at = tl.multiple_of(mask + at, 16)
        out_at = tl.multiple_of(out + at, 16)
        total += write(keep, bits, mask_at, out_at, there, COUNT, HAS_MASK, HAS_OUT)
    else:
        size = size.to(tl.int32)
        inner = inner.to(tl.int32)
        lane = tile * GROUPS + tl.arange(0, GROUPS)
        exists = lane < groups.to(tl.int32)
        groups_along = (size + M - 1) // M
        start = lane // inner % groups_along * M
        at = (lane // inner // groups_along * size + start) * inner + lane % inner
        if MODE == "columns":
            words = ()
            keys = ()
            for j in tl.static_range(M):
                there = exists & (start + j < size)
                bits = tl.load(weight + at + j * inner, mask=there, other=0)
                words = words + (bits,)  # noqa: RUF005 - as above
                keys = keys + (tl.where(there, bits & MAGNITUDE, -1),)  # noqa: RUF005 - a missing one goes last
            for j in tl.static_range(M):
                there = exists & (start + j < size)
                here = at + j * inner
                keep = rank(keys, j, M) < N
                total += write(keep, words[j], mask + here, out + here, there, COUNT, HAS_MASK, HAS_OUT)
        else:
            for j in range(M):
                there = exists & (start + j < size)
                here = at + j * inner
                bits = tl.load(weight + here, mask=there, other=0)
                key = bits & MAGNITUDE
                before = tl.zeros([GROUPS], tl.int32)
                for k in range(M):
                    other = exists & (start + k < size)
                    against = tl.load(weight + at + k * inner, mask=other, other=0) & MAGNITUDE
                    before += (other & ((against > key) | ((against == key) & (k < j)))).to(tl.int32)
                total += write(before < N, bits, mask + here, out + here, there, COUNT, HAS_MASK, HAS_OUT)
    return total


@triton.jit
def update_kernel(
    rows, pieces, out, flips,
    N: tl.constexpr, M: tl.constexpr, MODE: tl.constexpr, WORD: tl.constexpr, MAGNITUDE: tl.constexpr,
    COUNT: tl.constexpr, HAS_OUT: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """rows: (weight, mask, first element in out, size, inner, groups of the weight, elements, index in flips) each."""
    piece = tl.program_id(0).to(tl.int64) * 2
    row = rows + tl.load(pieces + piece).to(tl.int64) * 8
    weight = tl.load(row).to(tl.pointer_type(WORD))
    mask = tl.load(row + 1).to(tl.pointer_type(tl.int8))
    first = tl.load(row + 2)
    count = tl.load(row + 6)
    if MODE == "vector":  # said here, as a hint about an argument is lost where the function is inlined
        first = tl.multiple_of(first, 16)
        count = tl.multiple_of(count, 16)
    total = renew_tile(
        weight, mask, out + first, tl.load(row + 3), tl.load(row + 4), tl.load(row + 5), count.to(tl.int32),
        tl.load(pieces + piece + 1), N, M, MODE, MAGNITUDE, COUNT, True, HAS_OUT, GROUPS,
    )  # fmt: skip
    if COUNT:
        tl.atomic_add(flips + tl.load(row + 7), total.to(tl.int64), sem="relaxed")


@triton.jit(do_not_specialize=["size", "inner", "groups"])
def masked_kernel(
    weight, out, size, inner, groups, count,
    N: tl.constexpr, M: tl.constexpr, MODE: tl.constexpr, MAGNITUDE: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """The masked weight of one weight, by arguments alone."""
    tile = tl.program_id(0)
    renew_tile(weight, weight, out, size, inner, groups, count, tile, N, M, MODE, MAGNITUDE, False, False, True, GROUPS)


def mode_of(weight: Tensor, mask: Tensor | None, layout: tuple[int, int, int], m: int) -> str:
    """How a tile of `weight` is read; VECTOR takes memory that starts and ends on 16 elements."""
    _, size, inner = layout
    if m > 16:
        return LOOP
    pointers = [weight.data_ptr(), 0 if mask is None else mask.data_ptr()]
    aligned = weight.numel() % 16 == 0 and all(pointer % 16 == 0 for pointer in pointers)
    return VECTOR if aligned and inner == 1 and size % m == 0 and m & (m - 1) == 0 else COLUMNS


def groups_of_a_tile(mode: str, m: int) -> int:
    """How many groups a program takes."""
    return _TILE // m if mode == VECTOR else _GROUPS


class Renewal:
    """Renews the masks of some weights of one floating dtype on one device, which stay where they are.

    weights, masks (bool): of equal strides, pair by pair.
    layouts: (outer, size, inner) of each weight's memory.
    offsets: first element of each weight in the flat memory of masked weights, `elements` in all.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        masks: Sequence[Tensor],
        layouts: Sequence[tuple[int, int, int]],
        n: int,
        m: int,
    ) -> None:
        self._pattern = (n, m)
        self._device, self._dtype = weights[0].device, weights[0].dtype
        self._word = _INTEGERS[8 * weights[0].element_size()]
        self._offsets: list[int] = []
        self._views = [(tuple(w.shape), w.stride()) for w in weights]
        self.elements = 0
        rows: dict[str, list[list[int]]] = {}
        tiles: dict[str, list[int]] = {}
        for index, (weight, mask, (outer, size, inner)) in enumerate(zip(weights, masks, layouts, strict=True)):
            mode = mode_of(weight, mask, (outer, size, inner), m)
            groups = outer * inner * triton.cdiv(size, m)
            row = [weight.data_ptr(), mask.data_ptr(), self.elements, size, inner, groups, weight.numel(), index]
            rows.setdefault(mode, []).append(row)
            tiles.setdefault(mode, []).append(triton.cdiv(groups, groups_of_a_tile(mode, m)))
            self._offsets.append(self.elements)
            self.elements += triton.cdiv(weight.numel(), 16) * 16
        self._tables = {mode: Table(some, tiles[mode], self._device) for mode, some in rows.items()}

    def memory(self) -> Tensor:
        """Fresh flat memory for all masked weights."""
        return torch.empty(self.elements, dtype=self._dtype, device=self._device)

    def views(self, memory: Tensor) -> list[Tensor]:
        """The masked weights in it, with the shapes and strides of the weights."""
        return [
            memory.as_strided(shape, stride, memory.storage_offset() + offset)
            for (shape, stride), offset in zip(self._views, self._offsets, strict=True)
        ]

    def run(self, out: Tensor | None, flips: Tensor | None) -> None:
        """Renew the masks; write masked weights to `out` and add flips against the masks before to `flips`, if given.

        out: flat, `elements` long. flips: int64 (weights,).
        """
        n, m = self._pattern
        bits = 8 * self._word.itemsize
        for mode, table in self._tables.items():
            update_kernel[(table.programs,)](
                table.rows, table.pieces,
                table.rows if out is None else out.view(self._word), table.rows if flips is None else flips,
                N=n, M=m, MODE=mode, WORD={16: tl.int16, 32: tl.int32, 64: tl.int64}[bits],
                MAGNITUDE=(1 << (bits - 1)) - 1,
                COUNT=flips is not None, HAS_OUT=out is not None, GROUPS=groups_of_a_tile(mode, m),
            )  # fmt: skip


def masked(weight: Tensor, layout: tuple[int, int, int], n: int, m: int) -> Tensor:
    """The masked weight, of `weight`'s shape and strides. layout: (outer, size, inner) of its memory."""
    outer, size, inner = layout
    made = torch.empty_like(weight)
    mode = VECTOR if mode_of(weight, None, layout, m) == mode_of(made, None, layout, m) == VECTOR else COLUMNS
    mode = LOOP if m > 16 else mode
    groups, word = outer * inner * triton.cdiv(size, m), _INTEGERS[8 * weight.element_size()]
    masked_kernel[(triton.cdiv(groups, groups_of_a_tile(mode, m)),)](
        weight.view(word), made.view(word), size, inner, groups, weight.numel(),
        N=n, M=m, MODE=mode, MAGNITUDE=(1 << (8 * word.itemsize - 1)) - 1, GROUPS=groups_of_a_tile(mode, m),
    )  # fmt: skip
    return made
