"""A tile of groups as separate columns, so that the elements of a group are compared without a loop, and back."""
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, misc, assignment"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def split_columns(tile, M: tl.constexpr, GROUPS: tl.constexpr):
    """(GROUPS, M) -> M columns (GROUPS,), in order; M is a power of two."""
    if M == 1:
        return (tl.reshape(tile, [GROUPS]),)
    else:  # what follows a return would be compiled too
        even, odd = tl.split(tl.reshape(tile, [GROUPS, M // 2, 2]))
        evens = split_columns(even, M // 2, GROUPS)
        odds = split_columns(odd, M // 2, GROUPS)
        columns = ()
        for j in tl.static_range(M // 2):
            columns = columns + (evens[j], odds[j])  # noqa: RUF005 - triton knows no unpacking in a tuple
        return columns


@triton.jit
def join_columns(columns, M: tl.constexpr, GROUPS: tl.constexpr):
    """The way back."""
    if M == 1:
        return tl.reshape(columns[0], [GROUPS, 1])
    else:
        even = join_columns(columns[0::2], M // 2, GROUPS)
        odd = join_columns(columns[1::2], M // 2, GROUPS)
        return tl.reshape(tl.join(even, odd), [GROUPS, M])
