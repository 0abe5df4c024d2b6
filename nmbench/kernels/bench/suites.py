"""Which products are measured. Suites are data: nothing of mmdet, fairseq or torchvision is imported.

`shapes.json` holds the products of the five tasks' paper models at batch size 1, only those whose weights the task may
make sparse; benchmarks/trace_shapes.py wrote it by running the models.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from nmbench.kernels.problem import Problem, conv2d_problem, linear_problem
from nmbench.sparsity import NMPattern

#: (in, out) of linear layers: projections and feed-forward layers of models with 4096 and 8192 units
_LINEAR: Mapping[str, tuple[tuple[int, int], ...]] = {
    "llm": (
        *((4096, 4096), (4096, 11008), (11008, 4096), (4096, 14336), (14336, 4096)),
        *((8192, 8192), (8192, 14336), (14336, 8192)),
    ),
    "squares": tuple((size, size) for size in (512, 1024, 2048, 4096, 8192, 16384)),
    "decode": ((1024, 1024), (2048, 2048), (4096, 4096)),
    "linear": ((1024, 1024), (512, 2048), (2048, 512)),
    "tiny": ((64, 64), (128, 64)),
}
#: of suites that are about few or many rows
_ROWS_OF: Mapping[str, tuple[int, ...]] = {"decode": (1, 4, 16), "linear": (48, 128, 512)}
SUITES: Mapping[str, str] = {
    "llm": "linear layers of large Transformers: 4096, 8192, 11008, 14336",
    "squares": "square linear layers, 512 to 16384",
    "classification": "ResNet-50, 224 px",
    "detection": "Faster R-CNN R50-FPN, 1344 x 800 px",
    "segmentation": "Mask R-CNN R50-FPN, 1344 x 800 px",
    "optical-flow": "RAFT large",
    "translation": "Transformer base, 12 tokens a sentence",
    "translation-big": "Transformer big, 12 tokens a sentence",
    "decode": "square linear layers at 1 to 16 rows, as when text is generated",
    "linear": "linear layers of Transformers of 512 and 1024 units at 48 to 512 rows",
    "tiny": "two small linear layers, to try the benchmark itself",
}
ROWS = tuple(2**power for power in range(15))  # 1 ... 16384
BATCHES = (1, 8)
#: pattern, dtype and device of a case
_ANY = (NMPattern(1, 1), torch.float32, torch.device("cpu"))


@dataclass(frozen=True)
class Case:
    """One product. problem: its shapes; pattern, dtype and device are for whoever measures it to set.

    calls: how often one forward pass of the suite's model does it (1 in suites that are no model's).
    """

    suite: str
    problem: Problem
    calls: int = 1
    layer: str = ""

    @property
    def shape(self) -> str:
        """For people: "4096 -> 11008", or "256 -> 64, 3x3, stride 2"."""
        p = self.problem
        sizes = f"{p.weight[1] * p.groups} -> {p.weight[0]}"
        if p.kind == "linear":
            return sizes
        extra = [f"stride {p.stride[0]}"] * (p.stride != (1, 1)) + [f"{p.groups} groups"] * (p.groups > 1)
        return ", ".join([sizes, f"{p.weight[2]}x{p.weight[3]}", *extra])

    @property
    def flops(self) -> int:
        """Two for each multiply-accumulate of the dense product."""
        return 2 * self.problem.rows * math.prod(self.problem.weight)


@cache
def products() -> dict[str, dict[str, Any]]:
    """shapes.json: suite -> {model, products}."""
    loaded: dict[str, dict[str, Any]] = json.loads(files(__package__).joinpath("shapes.json").read_text("utf-8"))
    return loaded


def cases(suite: str, rows: Sequence[int] = (), batches: Sequence[int] = BATCHES) -> list[Case]:
    """The cases of a suite, all rows (of a model's suite: all batch sizes) of one shape side by side.

    rows: () are the suite's own. Raises KeyError for an unknown suite.
    """
    if suite in _LINEAR:
        rows = rows or _ROWS_OF.get(suite, ROWS)
        return [
            Case(suite, linear_problem((out, deep), (r, deep), *_ANY)) for deep, out in _LINEAR[suite] for r in rows
        ]
    return [_of_model(suite, product, batch) for product in products()[suite]["products"] for batch in batches]


def _of_model(suite: str, product: Mapping[str, Any], batch: int) -> Case:
    weight, (first, *rest) = tuple(product["weight"]), product["input"]
    shape = (first * batch, *rest)
    if product["kind"] == "linear":
        return Case(suite, linear_problem(weight, shape, *_ANY), product["calls"], product["layer"])
    s, p, d = ((a, b) for a, b in (product["stride"], product["padding"], product["dilation"]))
    problem = conv2d_problem(weight, shape, *_ANY, s, p, d, product["groups"])
    return Case(suite, problem, product["calls"], product["layer"])
