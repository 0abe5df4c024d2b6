"""`nm_mask` against sorting: the stable descending sort of each group, of which the first n are scattered as ones.

    pytest benchmarks/test_mask_speed.py -o addopts= --benchmark-columns=median --benchmark-group-by=param:pattern

One thread. The last test prints how many times faster `nm_mask` is than the sort: the geometric mean over the weights
of ResNet-50 (every shape once) and Transformer-base, by pattern and over all.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nmbench.sparsity import NMPattern, nm_mask

PATTERNS = ["2:4", "1:4", "4:8", "2:8", "1:16"]
TRANSFORMER_BASE = [(512, 512), (1536, 512), (2048, 512), (512, 2048)]
#: out channels, input channels, kernel; the first convolution has 3 input channels and stays dense
RESNET_50 = [
    *((64, 64, 1), (64, 64, 3), (256, 64, 1), (64, 256, 1)),
    *((128, 256, 1), (128, 128, 3), (512, 128, 1), (512, 256, 1), (128, 512, 1)),
    *((256, 512, 1), (256, 256, 3), (1024, 256, 1), (1024, 512, 1), (256, 1024, 1)),
    *((512, 1024, 1), (512, 512, 3), (2048, 512, 1), (2048, 1024, 1), (512, 2048, 1)),
]
SHAPES = [(o, i, k, k) for o, i, k in RESNET_50] + TRANSFORMER_BASE

medians: dict[tuple[str, tuple[int, ...]], dict[str, float]] = defaultdict(dict)


def sort_mask(weight: Tensor, pattern: NMPattern) -> Tensor:
    """weight: (out, in, ...) with `in` a multiple of M."""
    grouped = weight.abs().reshape(weight.shape[0], -1, pattern.m, weight[0, 0].numel())
    order = torch.sort(grouped, dim=2, descending=True, stable=True).indices
    keep = torch.zeros_like(grouped, dtype=torch.bool)
    return keep.scatter_(2, order[:, :, : pattern.n], True).reshape(weight.shape)


WAYS: dict[str, Callable[[Tensor, NMPattern], Tensor]] = {"sort": sort_mask, "nm_mask": nm_mask}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("pattern", PATTERNS)
def test_mask_speed(benchmark, pattern, shape, way):
    torch.set_num_threads(1)
    parsed = NMPattern.parse(pattern)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mask = benchmark.pedantic(WAYS[way], (weight, parsed), rounds=5, iterations=1, warmup_rounds=1)
    assert torch.equal(mask, sort_mask(weight, parsed))
    if benchmark.stats is not None:
        medians[pattern, shape][way] = benchmark.stats.stats.median


def test_summary(capsys):
    done = {key: both["sort"] / both["nm_mask"] for key, both in medians.items() if len(both) == 2}
    if not done:
        pytest.skip("nothing was measured: run with -o addopts=")
    by_pattern = {p: [r for (q, _), r in done.items() if q == p] for p in PATTERNS}
    with capsys.disabled():
        print("\n\nnm_mask is faster than a stable sort by (geometric mean; smallest to largest):")
        for name, ratios in {**by_pattern, "all": list(done.values())}.items():
            if ratios:
                print(f"{name:>5}  {statistics.geometric_mean(ratios):7.1f}  ({min(ratios):.1f} to {max(ratios):.1f})")
