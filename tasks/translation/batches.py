"""Training batches by tokens, in fairseq's own order: a function of (seed, epoch) only, to be continued anywhere."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nmbench.task import DataError, Run
from nmbench_tasks.translation import compat  # noqa: F401
from nmbench_tasks.translation.corpus import Batch, Corpus
from nmbench_tasks.translation.scales import Settings

# isort: split
from fairseq.data import data_utils
from fairseq.data.iterators import EpochBatchIterator, GroupedIterator


class TrainingBatches:
    """`next(batches)` is a list of `update_freq` batches, for one optimizer step (fewer at the end of an epoch).

    As in fairseq, batches are made once, of pairs of similar length, and shuffled anew in each epoch.
    Raises DataError if no pair is left to train on.
    """

    def __init__(self, corpus: Corpus, run: Run) -> None:
        settings, dataset = Settings.of(run.spec), corpus.dataset("train")
        # neighbouring seeds of fairseq share orders (it adds the epoch to the seed); these have nothing in common
        seed = run.stream(0, "batches") % 2**31
        with data_utils.numpy_seed(seed):
            order = dataset.ordered_indices()
        kept = order[np.isin(order, corpus.indices("train"))]
        if len(kept) == 0:
            raise DataError(f"no training pair has at most max_length = {settings.max_length} tokens on both sides")
        batches = dataset.batch_by_size(kept, max_tokens=settings.max_tokens)
        self._epochs = EpochBatchIterator(dataset, dataset.collater, batches, seed=seed, num_workers=settings.workers)
        self._group = settings.update_freq
        self._steps: Any = None  # fairseq's iterator over one epoch

    def __next__(self) -> list[Batch]:
        if self._steps is None or not self._steps.has_next():
            with _generators_untouched():
                epoch = self._epochs.next_epoch_itr(shuffle=True)
            self._steps = GroupedIterator(epoch, self._group)
        group: list[Batch] = next(self._steps)
        return group

    def state_dict(self) -> dict[str, Any]:
        """Plain values: the epoch and the batches that were used of it."""
        state: dict[str, Any] = self._epochs.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        with _generators_untouched():
            self._epochs.load_state_dict(state)
        self._steps = None


@contextmanager
def _generators_untouched() -> Iterator[None]:
    """A DataLoader draws a number when it starts, in mid-epoch where a run was resumed: dropout must not notice."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")  # fairseq always asks for pinned memory
        yield
