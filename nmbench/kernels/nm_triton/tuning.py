"""What the autotuner may choose from.

tuned     makes a kernel an autotuned one
configs   tiles as Triton's configurations
fits      whether a thread can hold its share of a tile in registers
prune     those of a kernel's configurations that fit, for the call at hand
bucket    what stands for the number of rows in the autotuner's key

The limits were read off the compile check for sm_80 and sm_90: they keep out what spills registers by hundreds of bytes
a thread, with few exceptions, and let tens of bytes through, which timing then judges. They were read for M <= 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton

from nmbench.kernels.nm_triton.expand import interpreted

__all__ = ["bucket", "configs", "fits", "prune", "tuned"]


def tuned(tiles: list[tuple[int, int, int, int, int]], key: list[str]) -> Any:
    """A decorator. key: the arguments by whose values a choice is kept, "bucket" among them instead of "rows"."""
    return triton.autotune(configs=configs(tiles), key=key, prune_configs_by={"early_config_prune": prune})


def configs(tiles: list[tuple[int, int, int, int, int]]) -> list[triton.Config]:
    """tiles: (BLOCK_OUT, BLOCK_ROWS, BLOCK_K, warps, stages). BLOCK_K is 64 or more, as M may be 64."""
    if interpreted():
        tiles = [(16, 16, 64, 1, 1)]
    return [
        triton.Config({"BLOCK_OUT": out, "BLOCK_ROWS": rows, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
        for out, rows, k, warps, stages in tiles
    ]


def fits(config: triton.Config, n: int, m: int, itemsize: int, *, convolution: bool) -> bool:
    """Whether sums and expanded weights, so many elements a thread, keep below the limit for N:M."""
    tile = config.kwargs
    threads = 32 * config.num_warps
    weights = tile["BLOCK_OUT"] * tile["BLOCK_K"] // threads
    sums = tile["BLOCK_OUT"] * tile["BLOCK_ROWS"] // threads
    return weights + sums <= _limit(n, m, itemsize, convolution) and (n <= 2 or weights < 64)


def _limit(n: int, m: int, itemsize: int, convolution: bool) -> int:
    power = m & (m - 1) == 0
    if itemsize == 4 or (convolution and not power):  # float32 is summed without tensor cores
        return 40
    if n <= 2 and m <= 8 and power:
        return 128 if convolution else 160
    if convolution:
        return 64
    return 128 if n <= 2 and power else 96


def prune(known: list[triton.Config], given: Mapping[str, Any], **constants: Any) -> list[triton.Config]:
    """`prune_configs_by` of triton.autotune: x, N and M of the call decide. At least one is left."""
    n, m, convolution = constants["N"], constants["M"], "KH" in constants
    left = [one for one in known if fits(one, n, m, given["x"].element_size(), convolution=convolution)]
    return left or known[:1]


def bucket(rows: int) -> int:
    """The least power of two >= rows, so that a batch of another size is not always tuned anew."""
    return 1 << max(rows - 1, 0).bit_length()
