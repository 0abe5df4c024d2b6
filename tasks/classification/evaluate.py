"""Metrics of a model on the split val, computed in float32."""

import torch
from torch import nn

from nmbench.task import Run, evaluating
from nmbench_tasks.classification.data import Examples, batches, normalised
from nmbench_tasks.classification.scales import Settings


def evaluate(model: nn.Module, run: Run) -> dict[str, float]:
    """top1 and top5 in %, loss in nats (mean cross-entropy, without label smoothing).

    With fewer than five classes top5 is 100. The model's mode and the global generators are left as they were.
    """
    settings = Settings.of(run.spec)
    examples = Examples(run.data.path, "val", settings)
    device = next(model.parameters()).device
    keys = [(index, 0) for index in range(len(examples))]
    loss = 0.0
    ranks: list[int] = []  # how many classes scored above the true one
    with torch.no_grad(), evaluating(model):
        for images, labels in batches(examples, keys, settings.eval_batch, settings.workers):
            logits, labels = model(normalised(images, device)).float(), labels.to(device)
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            true = logits.gather(1, labels[:, None])
            # a tie or a NaN counts against the model: one that answers the same for every class knows nothing
            ranks += ((~(logits < true)).sum(dim=1) - 1).tolist()
            run.alive()
    run.store_per_example("correct", [float(rank == 0) for rank in ranks])
    return {"top1": _share(ranks, 1), "top5": _share(ranks, 5), "loss": loss / len(ranks)}


def _share(ranks: list[int], k: int) -> float:
    """Percentage of ranks below `k`."""
    return 100.0 * sum(rank < k for rank in ranks) / len(ranks)
