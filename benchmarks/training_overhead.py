"""What a method adds to a training step: paired in one process, steps alternating, medians.

    python benchmarks/training_overhead.py [--model resnet18|quick] [--method sr-ste] [--steps 60]

Two copies of one model train on the same batches, one dense, one sparse; a dense step and a sparse step alternate, so
that both see the same state of the machine. Printed: the median of each and the median of the paired ratios.
"""

import argparse
import copy
import statistics
import time

import torch
from torch import nn

from nmbench.sparsity import default_candidates, sparsify


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18", choices=["resnet18", "quick"])
    parser.add_argument("--method", default="sr-ste")
    parser.add_argument("--pattern", default="2:4")
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dense, images, classes = build(args.model)
    target = torch.randint(0, classes, (len(images),))
    models = [dense, copy.deepcopy(dense)]
    optimizers = [torch.optim.SGD(m.parameters(), 0.01, momentum=0.9, weight_decay=5e-5) for m in models]
    sparsify(models[1], args.pattern, args.method, layers=default_candidates(models[1])).bind(optimizers[1])

    def step(which: int) -> float:
        start = time.perf_counter()
        optimizers[which].zero_grad()
        nn.functional.cross_entropy(models[which](images), target).backward()
        optimizers[which].step()
        return time.perf_counter() - start

    for _ in range(3):
        step(0), step(1)
    pairs = [(step(0), step(1)) if i % 2 else (step(1), step(0))[::-1] for i in range(args.steps)]
    ratios = [b / a for a, b in pairs]
    quartiles = statistics.quantiles(ratios, n=4)
    print(f"{args.model} {args.pattern} {args.method}, torch {torch.__version__}, one thread, {args.steps} pairs")
    print(f"dense  {1e3 * statistics.median(a for a, _ in pairs):8.2f} ms a step (median)")
    print(f"sparse {1e3 * statistics.median(b for _, b in pairs):8.2f} ms a step (median)")
    added = 100 * (statistics.median(ratios) - 1)
    print(f"added  {added:8.2f} % (median of paired ratios; quartiles {quartiles[0]:.3f} {quartiles[2]:.3f})")


if __name__ == "__main__":
    main()
