"""What a method adds to a training step: paired in one process, steps alternating, time of this thread's processor.

    python benchmarks/training_overhead.py [--model resnet18|quick] [--method sr-ste] [--steps 60] [--set every=10]
    python benchmarks/training_overhead.py --model quick --steps 120 --method all

Two copies of one model train on the same batches, one dense, one sparse; a dense step and a sparse step alternate, so
that both see the same state of the machine. Both train by AdamW where the method reads its moments, else by SGD; a
method of two passes is in its second, and a share of training is one of twice the steps. Printed for each method: the
median of each kind of step, the median of the paired ratios with its quartiles, and the ratio of the sums, in which the
steps that make masks count with their share. `all`: every method that takes the pattern, a line each.
"""

import argparse
import copy
import statistics
import time

import torch
from torch import nn

from nmbench.sparsity import NMPattern, default_candidates, sparsify
from nmbench.sparsity.methods import load, names


def build(name: str) -> tuple[nn.Module, torch.Tensor, int]:
    import torchvision

    if name == "resnet18":
        return torchvision.models.resnet18(num_classes=10), torch.randn(32, 3, 64, 64), 10
    from nmbench.task import Spec
    from nmbench_tasks.classification import Classification

    task = Classification()
    train = task.scales["quick"]
    spec = Spec("classification", task.models[0], "quick", 0, train)
    return task.build(spec), torch.randn(int(train["batch"]), 3, 32, 32), 10


def optimizer(model: nn.Module, *, adam: bool) -> torch.optim.Optimizer:
    if adam:
        return torch.optim.AdamW(model.parameters(), 1e-3)
    return torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-5)


def pairs_of(args: argparse.Namespace, method: str, hyper: dict[str, float]) -> list[tuple[float, float]]:
    """Seconds of a dense and of a sparse step, pair by pair."""
    torch.manual_seed(0)
    dense, images, classes = build(args.model)
    target = torch.randint(0, classes, (len(images),))
    models = [dense, copy.deepcopy(dense)]
    layers, planned = default_candidates(models[1]), 2 * args.steps
    handle = sparsify(models[1], args.pattern, method, layers, steps=planned, **hyper)
    handle.start_phase(handle.method.phases - 1)
    optimizers = [optimizer(m, adam=load(method).adam) for m in models]
    handle.bind(optimizers[1])

    def step(which: int) -> float:
        start = time.thread_time()
        optimizers[which].zero_grad()
        nn.functional.cross_entropy(models[which](images), target).backward()
        optimizers[which].step()
        return time.thread_time() - start

    for _ in range(3):
        step(0), step(1)
    return [(step(0), step(1)) if i % 2 else (step(1), step(0))[::-1] for i in range(args.steps)]


def line(method: str, pairs: list[tuple[float, float]]) -> str:
    """What was measured of a method."""
    ratios = [b / a for a, b in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    medians = [1e3 * statistics.median(side) for side in zip(*pairs, strict=True)]
    mean = 100 * (sum(b for _, b in pairs) / sum(a for a, _ in pairs) - 1)
    added = 100 * (statistics.median(ratios) - 1)
    return (
        f"{method:14} dense {medians[0]:7.2f} ms, sparse {medians[1]:7.2f} ms; added {added:6.1f} % (median of pairs; "
        f"quartiles {low:.3f} {high:.3f}), {mean:6.1f} % of all steps together"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18", choices=["resnet18", "quick"])
    parser.add_argument("--method", default="sr-ste", help="or all")
    parser.add_argument("--pattern", default="2:4")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the method: name=number")
    args = parser.parse_args()
    hyper = {name: float(value) for name, _, value in (text.partition("=") for text in args.set)}
    torch.set_num_threads(1)
    print(f"{args.model} {args.pattern}, torch {torch.__version__}, one thread, {args.steps} pairs", flush=True)
    for method in names() if args.method == "all" else [args.method]:
        if method != "dense" and not load(method)().refuses(NMPattern.parse(args.pattern)):
            print(line(method, pairs_of(args, method, hyper)), flush=True)


if __name__ == "__main__":
    main()
