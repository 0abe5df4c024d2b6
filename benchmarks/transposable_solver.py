"""How long the solver of transposable masks takes, on one thread, and how much of each tile it keeps.

    python benchmarks/transposable_solver.py [--size 4096] [--pattern 4:8]

Printed: seconds of this process's own processor time, and the kept share of the sum of magnitudes beside that of the
plain N:M mask of the rows, which is an upper bound.
"""

import argparse
import time

import torch

from nmbench.sparsity import NMPattern, nm_mask
from nmbench.sparsity.methods.tiles import transposable_mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--pattern", default="4:8")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    pattern = NMPattern.parse(args.pattern)
    weight, m = torch.randn(args.size, args.size), pattern.m
    begun = time.process_time()
    tiles = weight.abs().reshape(args.size // m, m, -1, m).transpose(1, 2).reshape(-1, m, m)
    mask = transposable_mask(tiles, pattern.n)
    seconds = time.process_time() - begun
    exact = bool((mask.sum(1) == pattern.n).all() and (mask.sum(2) == pattern.n).all())
    kept, bound = float((tiles * mask).sum()), float(weight.abs()[nm_mask(weight, pattern)].sum())
    print(f"{args.size} x {args.size}, {pattern}: {seconds:.1f} s of one core; exactly N both ways: {exact}")
    print(
        f"kept {kept / float(tiles.sum()):.4f} of the magnitude; rows alone would keep {bound / float(tiles.sum()):.4f}"
    )


if __name__ == "__main__":
    main()
