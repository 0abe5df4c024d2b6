"""How much of the memory bandwidth the fused passes and the storage reach, beside a copy measured in the same run.

    python benchmarks/cuda_bandwidth.py [--json FILE] [--device cuda] [--elements 268435456]

For each: bytes that have to move, GB/s (bytes / 1e9 a second) and the share of a device-to-device copy's GB/s. Medians
of CUDA events. On a CPU (--device cpu --elements 4096) it only shows that it runs, by the torch paths.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nmbench.kernels.nmtensor import compress, decompress
from nmbench.sparsity import NMPattern, nm_mask
from nmbench.sparsity.fast import fused as _fused
from nmbench.sparsity.mask import Grouping, torch_mask
from nmbench.sparsity.methods.sr_ste import SRSTE

COLUMNS = 4096


def clock(device: str, run: Callable[[], Any], times: int) -> float:
    """Median seconds of a call."""
    for _ in range(3):
        run()
    taken = []
    for _ in range(times):
        if device == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            run()
            end.record()
            end.synchronize()
            taken.append(start.elapsed_time(end) / 1e3)
        else:
            begin = time.perf_counter()
            run()
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


def cases(weight: torch.Tensor, pattern: NMPattern) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Name -> (bytes that have to be read and written, what to run)."""
    mask = nm_mask(weight, pattern) if weight.device.type == "cpu" else torch_mask(weight, pattern, Grouping())
    baked, grad = weight * mask, torch.zeros_like(weight)
    stored = compress(baked, pattern)
    count, size = weight.numel(), weight.element_size()
    fleet, method = _fused.Fleet(), SRSTE()

    def renew() -> None:
        if _fused.takes(weight):
            layout = (weight.shape[0], weight.shape[1], 1)
            fleet.renew([weight], [mask], [layout], (pattern.n, pattern.m), masked=True)
        else:
            torch.where(torch_mask(weight, pattern, Grouping()), weight, 0.0)

    return {
        "fused mask": (count * (2 * size + 2), renew),
        "SR-STE term": (count * (3 * size + 1), lambda: method.gradients([grad], [weight], [mask])),
        "compress": (count * size + stored.nbytes, lambda: compress(baked, pattern)),
        "decompress": (count * size + stored.nbytes, lambda: decompress(stored)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--elements", type=int, default=2**26, help="of the weight; far beyond L2 by default")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--patterns", nargs="+", default=["2:4", "1:4", "4:8", "2:8", "1:16"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device: --device cpu --elements 4096 shows that it runs")
    source = torch.randn(args.elements, device=args.device)
    target = torch.empty_like(source)
    copied = 8 * args.elements / clock(args.device, lambda: target.copy_(source), args.times) / 1e9
    print(f"copy {copied:9.1f} GB/s")
    rows = []
    for dtype in args.dtypes:
        weight = source.view(-1, min(COLUMNS, args.elements)).to(getattr(torch, dtype))
        for text in args.patterns:
            for name, (moved, run) in cases(weight, NMPattern.parse(text)).items():
                seconds = clock(args.device, run, args.times)
                rate = moved / seconds / 1e9
                fused = _fused.available(weight.device)
                row = {"what": name, "pattern": text, "dtype": dtype, "bytes": moved, "seconds": seconds}
                rows.append({**row, "GB/s": rate, "share_of_copy": rate / copied, "fused": fused})
                print(f"{name:>12} {text:>5} {dtype:>9} {rate:9.1f} GB/s  {rate / copied:6.1%} of a copy", flush=True)
    if args.json:
        gpu = torch.cuda.get_device_name() if args.device == "cuda" else None
        about = {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda}
        about["python"] = platform.python_version()
        made = {"about": about, "elements": args.elements, "copy_GB/s": copied, "rows": rows}
        args.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
