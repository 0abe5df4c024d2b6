"""Whole models of full size, untrained, dense by several engines against converted at several patterns: a table.

    OMP_NUM_THREADS=1 python benchmarks/model_speed.py [NAME ...] [--patterns 2:4 1:4 2:8 1:16] [--out FOLDER]

One thread, batch size 1, processor time; all engines and all converted models of a model take turns in one process.
Weights are random and pruned in one shot, as speed does not depend on them. Each model is a JSON file of the folder,
from all of which models.md is made.
"""

import argparse
import copy
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from converted_models import flow, gpt2, vision
from torch import Tensor, nn

from nmbench._util.machine import cpu_name
from nmbench.document.markdown import grid
from nmbench.kernels import Report, convert, engines
from nmbench.kernels.timing import compare
from nmbench.plan.catalogue import catalogue
from nmbench.plan.describe import load_task
from nmbench.sparsity import sparsify
from nmbench.task import Spec

CPU = torch.device("cpu")
#: model, its inputs, and which of its layers are pruned (as `sparsify` takes it)
Case = tuple[nn.Module, tuple[Any, ...], Any]


class Decoder(nn.Module):
    """Transformer-base's decoder, one step: a token's vector, and what earlier steps and the encoder left."""

    def __init__(
        self, layers: int = 6, width: int = 512, inner: int = 2048, heads: int = 8, entries: int = 32768
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, inner, heads) for _ in range(layers))
        self.output_projection = nn.Linear(width, entries, bias=False)

    def forward(self, x: Tensor, past: Tensor, source: Tensor) -> Tensor:
        """x (batch, width) -> logits. past, source: keys, values: (layers, 2, batch, heads, length, width / heads)."""
        for number, layer in enumerate(self.layers):
            x = layer(x, past[number], source[number])
        return self.output_projection(x)


class DecoderLayer(nn.Module):
    """Attention to what was written, attention to the source, two feed-forward layers; norms after each."""

    def __init__(self, width: int, inner: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o, self.cross_q, self.cross_o = (nn.Linear(width, width) for _ in range(6))
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm, self.cross_norm, self.last_norm = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, past: Tensor, source: Tensor) -> Tensor:
        """As `Decoder`'s, of one layer."""
        keys = torch.cat([past[0], self._split(self.k(x))], 2)
        values = torch.cat([past[1], self._split(self.v(x))], 2)
        x = self.norm(x + self.o(self._attention(self.q(x), keys, values)))
        x = self.cross_norm(x + self.cross_o(self._attention(self.cross_q(x), source[0], source[1])))
        return self.last_norm(x + self.fc2(torch.relu(self.fc1(x))))

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], self.heads, 1, -1)

    def _attention(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(self._split(q), keys, values).flatten(1)


def resnet50() -> Case:
    """224 x 224 pixels; BatchNorms as training leaves them, not as they begin."""
    model, (x,) = vision("resnet50")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model, (x,), None


def step(whole: bool) -> Case:
    """Position 16 of a target, source of 24 tokens. whole: is the output projection pruned too?"""
    past, source = torch.randn(6, 2, 1, 8, 16, 64), torch.randn(6, 2, 1, 8, 24, 64)
    layers = ["*"] if whole else lambda name, _: "output_projection" not in name
    return Decoder(), (torch.randn(1, 512), past, source), layers


def translation() -> Case:
    """fairseq's Transformer-base: a source and a target of 12 tokens, in one pass."""
    task = load_task(catalogue(None).tasks["translation"].reference)
    spec = Spec("translation", "transformer_wmt_en_de", "paper", 0, task.scales["paper"], "cpu")
    return task.build(spec), task.example_inputs(spec), None


class Logits(nn.Module):
    """A language model of transformers, tokens to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length) -> (batch, length, entries)."""
        return self.model(input_ids=tokens).logits


def language(tokens: int) -> Case:
    """GPT-2 of 124 M parameters."""
    model, given = gpt2(tokens)
    return Logits(model), (given["input_ids"],), None


MODELS: dict[str, tuple[str, Callable[[], Case]]] = {
    "resnet50": ("ResNet-50, 224 px", resnet50),
    "transformer-step": ("Transformer-base, one decoding step, output projection dense", lambda: step(False)),
    "transformer-step-whole": ("Transformer-base, one decoding step, all layers pruned", lambda: step(True)),
    "transformer": ("Transformer-base (fairseq), 12 + 12 tokens in one pass", translation),
    "raft-large": ("RAFT large, 12 updates, 128 x 192 px", lambda: (*flow("large"), None)),
    "gpt2": ("GPT-2 124M (transformers), 64 tokens", lambda: language(64)),
    "gpt2-token": ("GPT-2 124M (transformers), one token", lambda: language(1)),
}
HEAD = ("Model", "Pattern", "Dense, ms", "by", "Converted, ms", "Ratio", "Sparse weights", "As a whole")


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--patterns", nargs="*", default=["2:4", "1:4", "2:8", "1:16"])
    parser.add_argument("--engines", nargs="*", default=[*engines.ENGINES])
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of timing for a model")
    parser.add_argument("--out", type=Path, default=Path("results/models"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names or MODELS:
        found = measured(name, args.patterns, args.engines, args.budget)
        (args.out / f"model-{name}.json").write_text(json.dumps(found, indent=1) + "\n")
        (args.out / "models.md").write_text(page(args.out))
        print(grid(HEAD, rows(found), "llrlrrll"), flush=True)


def measured(name: str, patterns: list[str], names: list[str], budget_s: float) -> dict[str, Any]:
    """Milliseconds of every engine and pattern of a model."""
    title, make = MODELS[name]
    torch.manual_seed(0)
    model, inputs, layers = make()
    model.eval().requires_grad_(False)
    with torch.no_grad():
        runs, refused = engines.ready(model, inputs, names)
        reports: dict[str, Report] = {}
        for pattern in patterns:
            pruned = copy.deepcopy(model)
            sparsify(pruned, pattern, "one-shot", layers=layers).finalize()
            fast, reports[pattern] = convert(pruned, inputs, budget_s=0.2, inplace=False)
            runs[pattern] = lambda fast=fast: fast(*inputs)  # type: ignore[misc]
        before = os.getloadavg()
        times = compare({key: [run] for key, run in runs.items()}, CPU, budget_s=budget_s)
    return {
        "model": title,
        "times_ms": {key: round(one.us / 1e3, 4) for key, one in times.items()},
        "quartiles_ms": {key: [round(one.low / 1e3, 4), round(one.high / 1e3, 4)] for key, one in times.items()},
        "calls": {key: one.calls for key, one in times.items()},
        "refused": {key: re.sub(r"\x1b\[[0-9;]*m", "", why) for key, why in refused.items()},
        "reports": {key: one.to_dict() for key, one in reports.items()},
        "load": [round(one, 1) for one in (*before[:1], *os.getloadavg()[:1])],
        "machine": {"cpu": cpu_name(), "torch": torch.__version__, "threads": torch.get_num_threads()},
        "date": time.strftime("%Y-%m-%d"),
    }


def rows(found: dict[str, Any]) -> list[list[str]]:
    """One a pattern."""
    times = found["times_ms"]
    dense = {key: ms for key, ms in times.items() if key not in found["reports"]}
    best = min(dense, key=lambda key: dense[key])
    made = []
    for pattern, report in found["reports"].items():
        sparse = sum(row["winner"] != "dense" for row in report["rows"])
        whole = next((note for note in report["notes"] if "result" in note), "")
        ratio = dense[best] / times[pattern]
        figures = [f"{dense[best]:.4g}", best, f"{times[pattern]:.4g}", f"{ratio:.2f}"]
        made.append([found["model"], pattern, *figures, f"{sparse} of {len(report['rows'])}", whole])
    return made


def page(folder: Path) -> str:
    """The table of all models in the folder, the times of all engines, and how they were taken."""
    all_found = [json.loads(file.read_text()) for file in sorted(folder.glob("model-*.json"))]
    first = all_found[0]["machine"]
    lines = [
        f"# Whole models on {first['cpu']}",
        "Untrained models of full size, batch size 1, float32, one thread, milliseconds of processor time, medians of "
        "calls that took turns in one process. Dense is the fastest of the engines; a ratio above 1 is a gain.",
        grid(HEAD[:-1], [row[:-1] for found in all_found for row in rows(found)], "llrlrrl"),
        "## Dense engines",
    ]
    for found in all_found:
        told = ", ".join(f"{key} {ms:.4g}" for key, ms in found["times_ms"].items() if key not in found["reports"])
        not_run = "; ".join(f"{key} was not run: {why}" for key, why in found["refused"].items())
        about = f"load {' to '.join(map(str, found['load']))}, {found['date']}, torch {found['machine']['torch']}"
        lines.append(f"- {found['model']}: {told} ms; {about}. {not_run}".rstrip())
    return "\n\n".join(lines[:4]) + "\n\n" + "\n".join(lines[4:]) + "\n"


if __name__ == "__main__":
    main()
