"""What SR-STE adds to a training step of ResNet-50, paired in one run with dense and with sort-and-scatter.

    python benchmarks/cuda_training_overhead.py [--json FILE] [--steps 40] [--device cuda] [--model resnet50 | toy]

Batch 128, 224 px, bfloat16 autocast, channels_last, SGD with momentum; eager and under torch.compile. Three copies of
one model train on the same batch: dense, sparse by nmbench, and sparse by a straightforward version of the same method
written below from the paper's equations: sort each group, scatter the mask, once in each forward pass of each layer,
and the term added in a loop. Steps of the three alternate in a changing order; on a GPU CUDA events time them. Printed
and written: medians, and the median of the paired ratios to dense. On a CPU (--device cpu) it only shows that it runs.
"""

import argparse
import copy
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nmbench.sparsity import NMPattern, default_candidates, sparsify

LAMBDA = 2e-4


class SortAndScatter(torch.autograd.Function):
    """W~ = E * W forward, the gradient unchanged backward (STE)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, n: int, m: int) -> Tensor:
        return weight * sorted_mask(weight, n, m)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad, None, None


def sorted_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """weight: (out, in, ...) with `in` a multiple of m."""
    groups = weight.detach().abs().movedim(1, -1).reshape(-1, m)
    order = groups.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(groups).scatter_(1, order[:, :n], 1.0)
    moved = weight.movedim(1, -1).shape
    return mask.reshape(moved).movedim(-1, 1)


class PlainConv2d(nn.Conv2d):
    pattern = (2, 4)

    def forward(self, x: Tensor) -> Tensor:
        weight = SortAndScatter.apply(self.weight, *self.pattern)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def straightforward(model: nn.Module, pattern: NMPattern) -> list[nn.Conv2d]:
    """Every convolution whose input channels M divides becomes a PlainConv2d."""
    convs = [m for m in model.modules() if type(m) is nn.Conv2d and m.weight.shape[1] % pattern.m == 0]
    for conv in convs:
        conv.__class__ = PlainConv2d
        conv.pattern = (pattern.n, pattern.m)  # type: ignore[assignment]
    return convs


def add_term(convs: list[nn.Conv2d], pattern: NMPattern) -> None:
    """g + lambda_w * (1 - E) * W."""
    with torch.no_grad():
        for conv in convs:
            if conv.weight.grad is not None:
                pruned = conv.weight * (1 - sorted_mask(conv.weight, pattern.n, pattern.m))
                conv.weight.grad.add_(pruned, alpha=LAMBDA)


def toy() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(16, 10)),
    )


def build(name: str) -> nn.Module:
    if name == "toy":
        return toy()
    import torchvision

    return torchvision.models.resnet50(weights=None)


def clock(device: str, run: Any) -> float:
    """Milliseconds of one call."""
    if device == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))
    begin = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - begin)


def measure(args: argparse.Namespace, compiled: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    pattern = NMPattern.parse(args.pattern)
    first = build(args.model).to(args.device, memory_format=torch.channels_last)
    models = {"dense": first, "nmbench": copy.deepcopy(first), "sort-and-scatter": copy.deepcopy(first)}
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    images = images.to(memory_format=torch.channels_last)
    target = torch.randint(0, 10, (args.batch,), device=args.device)
    optimizers = {k: torch.optim.SGD(m.parameters(), 1e-3, momentum=0.9, weight_decay=5e-5) for k, m in models.items()}
    chosen = default_candidates(models["nmbench"])
    sparsify(models["nmbench"], pattern, "sr-ste", layers=chosen, lambda_w=LAMBDA).bind(optimizers["nmbench"])
    convs = straightforward(models["sort-and-scatter"], pattern)
    runs: dict[str, Any] = {k: torch.compile(m) if compiled else m for k, m in models.items()}

    def step(which: str) -> None:
        optimizers[which].zero_grad()
        with torch.autocast(args.device, torch.bfloat16):
            loss = F.cross_entropy(runs[which](images), target)
        loss.backward()
        if which == "sort-and-scatter":
            add_term(convs, pattern)
        optimizers[which].step()

    names = list(models)
    for _ in range(args.warmup):
        for name in names:
            step(name)
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(args.steps):
        for name in names[i % 3 :] + names[: i % 3]:
            times[name].append(clock(args.device, lambda name=name: step(name)))
    rows: dict[str, Any] = {"compiled": compiled, "steps": args.steps}
    for name in names:
        ratios = [a / b for a, b in zip(times[name], times["dense"], strict=True)]
        rows[name] = {"ms": statistics.median(times[name]), "ratio_to_dense": statistics.median(ratios)}
        if len(ratios) > 1:
            rows[name]["ratio_quartiles"] = statistics.quantiles(ratios, n=4)
        if args.steps > 0:
            print(f"{'compiled' if compiled else 'eager':>8} {name:>17} {rows[name]['ms']:9.3f} ms a step", end="")
            print(f"  {100 * (rows[name]['ratio_to_dense'] - 1):+7.2f} % (median of paired ratios)")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--model", default="resnet50", choices=["resnet50", "toy"])
    parser.add_argument("--pattern", default="2:4")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--modes", nargs="+", default=["eager", "compiled"], choices=["eager", "compiled"])
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device: --device cpu --model toy --batch 4 --size 16 --steps 2 shows that it runs")
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else None
    about = {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()}
    settings = {k: v for k, v in vars(args).items() if k != "json"}
    rows = [measure(args, mode == "compiled") for mode in args.modes]
    if args.json:
        args.json.write_text(json.dumps({"about": about, "settings": settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
