"""Which products are measured. Suites are data: nothing of mmdet, fairseq or torchvision is imported.

Case       one product: kind, shapes, and how often a forward pass does it
SUITES     name -> what it is, in words
cases      suite, rows, batches -> its cases

`shapes.json` holds the products of the five tasks' paper models at batch size 1, only those whose weights the task may
make sparse; benchmarks/trace_shapes.py wrote it by running the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

__all__ = ["BATCHES", "ROWS", "SUITES", "Case", "cases", "products"]

#: (in, out) of linear layers: projections and feed-forward layers of models with 4096 and 8192 units
_LINEAR: Mapping[str, tuple[tuple[int, int], ...]] = {
    "llm": (
        (4096, 4096),
        (4096, 11008),
        (11008, 4096),
        (4096, 14336),
        (14336, 4096),
        (8192, 8192),
        (8192, 14336),
        (14336, 8192),
    ),
    "squares": tuple((size, size) for size in (512, 1024, 2048, 4096, 8192, 16384)),
    "tiny": ((64, 64), (128, 64)),
}
SUITES: Mapping[str, str] = {
    "llm": "linear layers of large Transformers: 4096, 8192, 11008, 14336",
    "squares": "square linear layers, 512 to 16384",
    "classification": "ResNet-50, 224 px",
    "detection": "Faster R-CNN R50-FPN, 1344 x 800 px",
    "segmentation": "Mask R-CNN R50-FPN, 1344 x 800 px",
    "optical-flow": "RAFT large",
    "translation": "Transformer base, 12 tokens a sentence",
    "translation-big": "Transformer big, 12 tokens a sentence",
    "tiny": "two small linear layers, to try the benchmark itself",
}
ROWS = tuple(2**power for power in range(15))  # 1 ... 16384
BATCHES = (1, 8)


@dataclass(frozen=True)
class Case:
    """One product. weight: (out, in) or OIHW; input: (rows, in) or NCHW; rows: of the matrix product.

    calls: how often one forward pass of the suite's model does it (1 in suites that are no model's).
    """

    suite: str
    kind: Literal["linear", "conv2d"]
    weight: tuple[int, ...]
    input: tuple[int, ...]
    rows: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    calls: int = 1
    layer: str = ""

    @property
    def shape(self) -> str:
        """For people: "4096 -> 11008", or "256 -> 64, 3x3, stride 2"."""
        out, deep = self.weight[0], self.weight[1] * self.groups
        if self.kind == "linear":
            return f"{deep} -> {out}"
        extra = [f"stride {self.stride[0]}"] * (self.stride != (1, 1)) + [f"{self.groups} groups"] * (self.groups > 1)
        return ", ".join([f"{deep} -> {out}", f"{self.weight[2]}x{self.weight[3]}", *extra])

    @property
    def flops(self) -> int:
        """Two for each multiply-accumulate of the dense product."""
        size = 1
        for length in self.weight:
            size *= length
        return 2 * self.rows * size


@cache
def products() -> dict[str, dict[str, Any]]:
    """shapes.json: suite -> {model, products}."""
    loaded: dict[str, dict[str, Any]] = json.loads(files(__package__).joinpath("shapes.json").read_text("utf-8"))
    return loaded


def cases(suite: str, rows: Sequence[int] = ROWS, batches: Sequence[int] = BATCHES) -> list[Case]:
    """The cases of a suite, all rows (of a model's suite: all batch sizes) of one shape side by side.

    Raises KeyError for an unknown suite.
    """
    if suite in _LINEAR:
        return [Case(suite, "linear", (out, deep), (r, deep), r) for deep, out in _LINEAR[suite] for r in rows]
    return list(_of_model(suite, products()[suite]["products"], batches))


def _of_model(suite: str, told: Sequence[Mapping[str, Any]], batches: Sequence[int]) -> Iterator[Case]:
    for one in told:
        for batch in batches:
            weight, (first, *rest) = tuple(one["weight"]), one["input"]
            shape = (first * batch, *rest)
            if one["kind"] == "linear":
                yield Case(suite, "linear", weight, shape, shape[0], calls=one["calls"], layer=one["layer"])
                continue
            s, p, d = ((a, b) for a, b in (one["stride"], one["padding"], one["dilation"]))
            height, width = ((rest[1 + i] + 2 * p[i] - d[i] * (weight[2 + i] - 1) - 1) // s[i] + 1 for i in range(2))
            count = shape[0] * height * width
            yield Case(suite, "conv2d", weight, shape, count, s, p, d, one["groups"], one["calls"], one["layer"])
