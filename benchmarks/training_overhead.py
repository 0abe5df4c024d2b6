"""What a method adds to a training step: paired in one process, steps alternating, medians.

    python benchmarks/training_overhead.py [--model resnet18|quick] [--method sr-ste] [--steps 60] [--set every=10]

Two copies of one model train on the same batches, one dense, one sparse; a dense step and a sparse step alternate, so
that both see the same state of the machine. Both train by AdamW where the method reads its moments, else by SGD; a
method of two passes is in its second. Printed: the median of each, the median of the paired ratios, and the ratio of
the sums.
"""

import argparse
import copy
import statistics
import time

import torch
from torch import nn

from nmbench.sparsity import default_candidates, sparsify
from nmbench.sparsity.methods import load


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18", choices=["resnet18", "quick"])
    parser.add_argument("--method", default="sr-ste")
    parser.add_argument("--pattern", default="2:4")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the method: name=number")
    args = parser.parse_args()
    hyper = {name: float(value) for name, _, value in (text.partition("=") for text in args.set)}
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dense, images, classes = build(args.model)
    target = torch.randint(0, classes, (len(images),))
    models = [dense, copy.deepcopy(dense)]
    layers, planned = default_candidates(models[1]), 2 * args.steps
    handle = sparsify(models[1], args.pattern, args.method, layers, steps=planned, **hyper)
    handle.start_phase(handle.method.phases - 1)
    optimizers = [optimizer(m, adam=load(args.method).adam) for m in models]
    handle.bind(optimizers[1])

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
    mean = 100 * (sum(b for _, b in pairs) / sum(a for a, _ in pairs) - 1)
    print(f"{args.model} {args.pattern} {args.method}, torch {torch.__version__}, one thread, {args.steps} pairs")
    print(f"dense  {1e3 * statistics.median(a for a, _ in pairs):8.2f} ms a step (median)")
    print(f"sparse {1e3 * statistics.median(b for _, b in pairs):8.2f} ms a step (median)")
    added = 100 * (statistics.median(ratios) - 1)
    print(f"added  {added:8.2f} % (median of paired ratios; quartiles {quartiles[0]:.3f} {quartiles[2]:.3f})")
    print(f"mean   {mean:8.2f} % (of all steps together, those that make masks included)")


if __name__ == "__main__":
    main()
