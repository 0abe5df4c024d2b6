"""Write nmbench/kernels/bench/shapes.json: the products of the five tasks' paper models, by tracing one forward pass.

    python benchmarks/trace_shapes.py [--suite translation] [--out FILE]

Needs what the tasks need (torchvision, mmdet, fairseq). `trace` is what the test compares the file with.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nmbench._util import random as rng
from nmbench.task import Spec, Task

OUT = Path(__file__).parent.parent / "nmbench" / "kernels" / "bench" / "shapes.json"

#: suite -> (reference of the task, model)
MODELS = {
    "classification": ("nmbench_tasks.classification:Classification", "resnet50"),
    "detection": ("nmbench_tasks.detection:Detection", "faster-rcnn-r50"),
    "segmentation": ("nmbench_tasks.detection:Segmentation", "mask-rcnn-r50"),
    "optical-flow": ("nmbench_tasks.optical_flow:OpticalFlow", "raft_large"),
    "translation": ("nmbench_tasks.translation:Translation", "transformer_wmt_en_de"),
    "translation-big": ("nmbench_tasks.translation:Translation", "transformer_vaswani_wmt_en_de_big"),
}


class _Products(TorchDispatchMode):
    """Notes each convolution and linear product whose weight is one of `names` (by storage)."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.found: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def _name(self, weight: Tensor) -> str | None:
        return self.names.get(weight.untyped_storage().data_ptr())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        kind = func.overloadpacket.__name__
        if kind == "convolution" and (name := self._name(args[1])) is not None and not args[6]:
            self.found[name].append(_convolution(args, out))
        elif kind in ("mm", "addmm"):
            left, right = args[-2:]
            if (name := self._name(right)) is not None:
                self.found[name].append({"kind": "linear", "weight": [right.shape[1], right.shape[0]],
                                         "input": list(left.shape)})  # fmt: skip
        return out


def _convolution(args: Any, out: Tensor) -> dict[str, Any]:
    told = {"kind": "conv2d", "weight": list(args[1].shape), "input": list(args[0].shape)}
    return told | {"stride": args[3], "padding": args[4], "dilation": args[5], "groups": args[8]}


def trace(suite: str) -> list[dict[str, Any]]:
    """The products of one forward pass at batch size 1 with candidate weights, equal ones counted, in their order."""
    reference, name = MODELS[suite]
    module, _, cls = reference.partition(":")
    task: Task = getattr(__import__(module, fromlist=[cls]), cls)()
    spec = Spec(task.name, name, "paper", 0, task.scales["paper"])
    rng.seed_all(0, "init")
    model = task.build(spec).eval()
    wanted = task.candidates(model)
    if wanted is None:
        from nmbench.sparsity import default_candidates

        wanted = default_candidates(model)
    parameters = dict(model.named_parameters())
    mode = _Products({parameters[one].untyped_storage().data_ptr(): one for one in wanted})
    with torch.no_grad(), mode:
        model(*task.example_inputs(spec))
    return _counted(mode.found)


def _counted(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for name, products in found.items():
        for product in products:
            row = rows.setdefault(json.dumps(product), product | {"layer": name, "layers": 0, "calls": 0})
            row["calls"] += 1
            row.setdefault("_names", set()).add(name)
    for row in rows.values():
        row["layers"] = len(row.pop("_names"))
    return list(rows.values())


def write(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """One product a line, so that a change of a model shows line by line."""
    blocks = []
    for suite, rows in found.items():
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        blocks.append(f' {json.dumps(suite)}: {{"model": {json.dumps(MODELS[suite][1])}, "products": [\n{lines}\n ]}}')
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", action="append", choices=list(MODELS))
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for suite in args.suite or MODELS:
        found[suite] = trace(suite)
        print(f"{suite}: {len(found[suite])} different products, {sum(row['calls'] for row in found[suite])} in all")
    write(found, args.out)


if __name__ == "__main__":
    main()
