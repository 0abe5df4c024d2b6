"""dsnot: from Wanda's mask, weights are swapped within their group while that cancels the row's expected error.

Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse LLMs (Zhang et al. 2024), zyxxmu/DSnoT 4c029df,
lib/prune.py, which is the same in every commit; there is no golden data. Departures: it starts from Wanda's mask, as
their README does (they can start from SparseGPT's score on the unchanged weights, or from magnitude, too); every layer
is swapped in, where their `skip_layer` leaves the feed-forward ones with the first mask by default. The variance is
that of all rows (theirs merges batches without the shift of their means), and an input that never varies divides by
1e-12 (theirs by zero). A row is done when no pruned weight is left that cancels error (theirs goes on to weights that
are kept already, and prunes for them); a group whose kept weights were all swapped out is passed over (theirs prunes
none there, so that more than N stay).
"""

import torch
from pydantic import BaseModel, Field
from torch import Tensor

from nmbench.sparsity.pruning.base import Statistics, given
from nmbench.sparsity.pruning.columns import Columns
from nmbench.sparsity.pruning.pruners.wanda import Wanda


class Settings(BaseModel):
    """Hyper-parameters."""

    cycles: int = Field(50, ge=0, description="swaps in a row, at most")
    threshold: float = Field(0.1, ge=0, description="expected error of a row below which it is left")
    power: float = Field(1.0, ge=0, description="of the input's variance, by which regrowing is divided")


class DSnoT(Wanda):
    """Regrow what cancels most of a row's error, prune the least of that group; while the error keeps its sign."""

    name = "dsnot"
    settings = Settings

    def prune(self, weight: Tensor, stats: Statistics, columns: Columns) -> tuple[Tensor, Tensor]:
        """(new weight, mask)."""
        score = self.score(weight, stats)
        mask = columns.top(score)
        mean = given(stats.total, "total") / max(1, stats.tokens)
        variance = given(stats.square, "square") / max(1, stats.tokens) - mean.square()
        share = weight * given(stats.total, "total") / max(1, stats.sequences)  # of each weight in the row's output
        worth = share / variance.clamp_min(1e-12) ** float(self.hyper["power"])
        mask = self._swapped(mask, score, share, worth, columns)
        return torch.where(mask, weight, 0), mask

    def _swapped(self, mask: Tensor, score: Tensor, share: Tensor, worth: Tensor, columns: Columns) -> Tensor:
        """The mask after all cycles; all are (rows, columns)."""
        number = torch.arange(mask.shape[1], device=mask.device)
        group = torch.empty_like(number)
        for i, (start, end) in enumerate(columns.groups(len(number))):
            group[start:end] = i
        error = torch.where(mask, 0, share).sum(1)
        sign = error.sign()
        free, held = ~mask, mask.clone()  # what may be regrown, what may be pruned: each weight moves once
        mask, rows = mask.clone(), torch.arange(len(mask), device=mask.device)
        active = sign != 0
        for _ in range(int(self.hyper["cycles"])):
            if not bool(active.any()):
                break
            gain = (worth * sign[:, None]).masked_fill(~free, -torch.inf)
            best, regrown = gain.max(1)
            beside = held & (group == group[regrown][:, None])
            least, pruned = score.masked_fill(~beside, torch.inf).min(1)
            after = error + share[rows, pruned] - share[rows, regrown]
            active &= best > 0
            possible = active & torch.isfinite(least)
            swap = possible & (after.sign() == sign) & (error.abs() > float(self.hyper["threshold"]))
            active &= swap | ~possible
            free[rows, regrown] = False
            mask[rows[swap], regrown[swap]] = True
            mask[rows[swap], pruned[swap]] = False
            held[rows[swap], pruned[swap]] = False
            error = torch.where(swap, after, error)
        return mask
