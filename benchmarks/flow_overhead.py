"""What a method adds to a training step of RAFT in the quick set-up: paired in one process, steps alternating, medians.

    python benchmarks/flow_overhead.py [--model raft_small] [--method sr-ste] [--pattern 2:4] [--steps 60]

Two copies of one model train on the same batch with the batch, crop and updates of the scale `quick`, one dense, one
sparse; a dense step and a sparse step alternate, so that both see the same state of the machine. A step is forward,
sequence loss, backward, clipping and AdamW. Times are processor times of the one thread. Printed: the median of each,
and the median of the paired ratios.
"""

import argparse
import copy
import statistics
import time

import torch

from nmbench.sparsity import sparsify
from nmbench.task import Spec
from nmbench_tasks.optical_flow import OpticalFlow
from nmbench_tasks.optical_flow.metrics import sequence_loss
from nmbench_tasks.optical_flow.plan import stages
from nmbench_tasks.optical_flow.scales import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="raft_small", choices=OpticalFlow.models)
    parser.add_argument("--method", default="sr-ste")
    parser.add_argument("--pattern", default="2:4")
    parser.add_argument("--updates", type=int, default=0, help="0: those of the scale quick")
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = OpticalFlow()
    settings = Settings()
    (stage,) = stages(settings)
    updates = args.updates or settings.updates
    dense = task.build(Spec(task.name, args.model, "quick", 0, settings.model_dump()))
    first, second = torch.rand(2, stage.batch, 3, stage.crop_height, stage.crop_width) * 2 - 1
    flow = 5 * torch.randn(stage.batch, 2, stage.crop_height, stage.crop_width)
    valid = torch.ones(stage.batch, stage.crop_height, stage.crop_width, dtype=torch.bool)
    models = [dense, copy.deepcopy(dense)]
    optimizers = [torch.optim.AdamW(m.parameters(), stage.lr, weight_decay=stage.weight_decay) for m in models]
    sparsify(models[1], args.pattern, args.method, layers=task.candidates(models[1])).bind(optimizers[1])

    def step(which: int) -> float:
        start = time.process_time()
        optimizers[which].zero_grad()
        estimates = models[which](first, second, num_flow_updates=updates)
        sequence_loss(estimates, flow, valid, settings.gamma, settings.max_flow).backward()
        torch.nn.utils.clip_grad_norm_(models[which].parameters(), settings.clip)
        optimizers[which].step()
        return time.process_time() - start

    for _ in range(3):
        step(0), step(1)
    pairs = [(step(0), step(1)) if i % 2 else (step(1), step(0))[::-1] for i in range(args.steps)]
    ratios = [b / a for a, b in pairs]
    quartiles = statistics.quantiles(ratios, n=4)
    print(
        f"{args.model} {args.pattern} {args.method}, batch {stage.batch}, {stage.width} x {stage.height} px, "
        f"{updates} updates, torch {torch.__version__}, one thread, {args.steps} pairs"
    )
    print(f"dense  {1e3 * statistics.median(a for a, _ in pairs):8.2f} ms a step (median)")
    print(f"sparse {1e3 * statistics.median(b for _, b in pairs):8.2f} ms a step (median)")
    added = 100 * (statistics.median(ratios) - 1)
    print(f"added  {added:8.2f} % (median of paired ratios; quartiles {quartiles[0]:.3f} {quartiles[2]:.3f})")


if __name__ == "__main__":
    main()
