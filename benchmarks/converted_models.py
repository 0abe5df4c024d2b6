"""Which layers of well-known models run sparse on this machine after `convert`, and why the others do not: a table.

    python benchmarks/converted_models.py [--pattern 1:4] [--only NAME ...] [--page PAGE.md]

Untrained weights pruned in one shot; each model once through `convert`, with its output held against the dense model's.
The sizes of inputs are those of each field, one example. What is not installed is left out, and said. Exit status: 1 if
a converted model was wrong.
"""

import argparse
import importlib.util
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nmbench._util.machine import cpu_name
from nmbench.document.markdown import grid
from nmbench.kernels import Report, convert
from nmbench.plan.catalogue import catalogue
from nmbench.plan.describe import load_task
from nmbench.sparsity import sparsify
from nmbench.task import Spec

Case = tuple[nn.Module, Any]


HEAD = ("Model", "Runs sparse", "Why the rest stays dense", "Folded and fused", "As a whole")
TEXT = """# What runs sparse in well-known models

What [`convert`](../howto/sparse-inference.md) did with untrained models, pruned to {pattern} in one shot, on one thread
of an {cpu}: how many weights a sparse kernel runs, and why the others stay dense. A layer that is "slower" keeps its
dense product by choice. Made by `python benchmarks/converted_models.py --page docs/explanation/converted-models.md`.

{table}
"""


def vision(name: str, size: int = 224) -> Case:
    """A classifier of torchvision."""
    import torchvision

    return torchvision.models.get_model(name, weights=None), (torch.randn(1, 3, size, size),)


def flow(name: str) -> Case:
    """RAFT, twelve updates."""
    import torchvision

    model = (
        torchvision.models.optical_flow.raft_large if name == "large" else torchvision.models.optical_flow.raft_small
    )
    return model(), (torch.rand(1, 3, 128, 192) * 2 - 1, torch.rand(1, 3, 128, 192) * 2 - 1)


def task(name: str, model: str, scale: str) -> Case:
    """A model of one of the suite's own tasks."""
    loaded = load_task(catalogue(None).tasks[name].reference)
    spec = Spec(name, model, scale, 0, loaded.scales[scale], "cpu")
    return loaded.build(spec), loaded.example_inputs(spec)


def gpt2(tokens: int) -> Case:
    """GPT-2 of 124 M parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(use_cache=False))
    return model, {"input_ids": torch.arange(tokens)[None]}


MODELS: dict[str, Callable[[], Case]] = {
    "ResNet-18": lambda: vision("resnet18"),
    "ResNet-50": lambda: vision("resnet50"),
    "MobileNetV3 large": lambda: vision("mobilenet_v3_large"),
    "ViT-B/16": lambda: vision("vit_b_16"),
    "Swin-T": lambda: vision("swin_t"),
    "RAFT small": lambda: flow("small"),
    "RAFT large": lambda: flow("large"),
    "Faster R-CNN R18, narrow (mmdet)": lambda: task("detection", "faster-rcnn-r18-narrow", "quick"),
    "RetinaNet R50 (mmdet)": lambda: task("detection", "retinanet-r50", "paper"),
    "Transformer, narrow (fairseq)": lambda: task("translation", "transformer_narrow", "quick"),
    "GPT-2 124M, 64 tokens (transformers)": lambda: gpt2(64),
}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pattern", default="1:4")
    parser.add_argument("--budget", type=float, default=0.1, help="seconds of timing for each layer")
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--page", type=Path, help="a page whose table gets the rows; others of it stay")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, wrong = [], False
    for name in args.only or MODELS:
        try:
            model, inputs = MODELS[name]()
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        row, right = converted(name, model, inputs, args.pattern, args.budget)
        rows.append(row)
        wrong |= not right
        print(" | ".join(row), flush=True)
    print(grid(HEAD, rows, "lrlll"))
    if args.page is not None:
        args.page.write_text(page(args.page, rows, args.pattern))
    return int(wrong)


def page(file: Path, rows: list[list[str]], pattern: str) -> str:
    """The page with these rows in place of those of the same models."""
    lines = file.read_text().splitlines() if file.is_file() else []
    held = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    by_name = {row[0]: row for row in (*held, *rows)}
    ordered = sorted(by_name.values(), key=lambda row: list(MODELS).index(row[0]) if row[0] in MODELS else len(MODELS))
    return TEXT.format(pattern=pattern, cpu=cpu_name(), table=grid(HEAD, ordered, "lrlll"))


def converted(name: str, model: nn.Module, inputs: Any, pattern: str, budget_s: float) -> tuple[list[str], bool]:
    """(the model's row, is its result right?)."""
    torch.manual_seed(0)
    sparsify(model.eval(), pattern, "one-shot").finalize()
    begun = time.perf_counter()
    _, report = convert(model, inputs, budget_s=budget_s, cache=False)
    print(f"{name}: converted in {time.perf_counter() - begun:.0f} s")
    notes = [note for note in report.notes if "fused" in note or "folded" in note]
    whole = next((note for note in report.notes if "whole" in note), "the dense model itself")
    right = "off by" not in whole and "another form" not in whole
    whole = whole.removeprefix("as a whole it ")
    return [name, f"{len(report.sparse)} of {len(report.rows)}", reasons(report), "; ".join(notes), whole], right


def reasons(report: Report) -> str:
    """Why weights stay dense, and how many for each reason."""
    told = Counter(_short(row.reason) for row in report.rows if not row.sparse)
    return "; ".join(f"{count} {why}" for why, count in told.most_common(6))


def _short(reason: str) -> str:
    """Without figures and shapes; of what each backend says, what one for a CPU does."""
    ours = next((part for part in reason.split("; ") if part.startswith("cpu")), reason).removeprefix("cpu, cpu-rows: ")
    return ours.split(":")[0].split(" (")[0][:60]


if __name__ == "__main__":
    assert importlib.util.find_spec("torchvision"), "torchvision is needed"
    raise SystemExit(main())
