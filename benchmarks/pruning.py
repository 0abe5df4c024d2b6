"""Seconds of one core that pruning one layer takes, its calibration included: `python benchmarks/pruning.py`.

By default 2048 x 2048 at 2:4 with 4,096 rows of inputs. The time is the thread's own on the processor, best of several.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from nmbench.sparsity import NMPattern
from nmbench.sparsity.permutation import find
from nmbench.sparsity.pruning import Columns, Statistics, load


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Thread time of each repetition."""
    took = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        took.append(time.thread_time() - start)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pruner", nargs="*", default=["wanda", "sparsegpt"])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--pattern", default="2:4")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--permutation", action="store_true", help="the search for an order of the columns too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(options.size, options.size, generator=made)
    inputs = torch.randn(options.rows, options.size, generator=made)
    pattern = NMPattern.parse(options.pattern)
    print(f"{options.size} x {options.size}, {options.rows} rows, {pattern}, one thread; seconds, best (median)")
    for name in options.pruner:
        pruner = load(name)()

        def work(pruner=pruner) -> None:
            stats = Statistics(sequences=options.rows, gradient=weight.abs() if "gradient" in pruner.needs else None)
            stats.add(inputs, pruner.needs)
            pruner.prune(weight, stats, Columns(pattern, options.size))

        took = seconds(work, options.repeats)
        print(f"{name:12s} {min(took):8.2f} ({statistics.median(took):.2f})", flush=True)
    if options.permutation:
        took = seconds(lambda: find(weight.abs(), pattern), 1)
        print(f"permutation  {took[0]:8.2f}", flush=True)


if __name__ == "__main__":
    main()
