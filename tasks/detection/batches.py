"""Training batches in an order and under augmentation that depend on (seed, epoch, index) only.

    Order         the indices of an epoch that this rank trains on, from the run's streams
    Batches       keys (index, seed of its augmentation) by the batch; starts where a resumed run goes on
    Seeded        mmdet's data set, whose pipeline draws from generators seeded for each image
    loader        the three of them together, with equal results for any number of workers

mmdet's pipelines draw from the global generators of Python, numpy and torch, so all of these are seeded.
"""

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import pseudo_collate
from torch.utils.data import BatchSampler, Sampler

from nmbench.task import DataError, Run
from nmbench_tasks._shared.loading import Key, Loader, Wrapped
from nmbench_tasks.detection.scales import Settings


class Order(Sampler[int]):
    """Indices of one epoch for rank `rank` of `ranks`: every `ranks`-th of the first `count` of a permutation."""

    def __init__(self, run: Run, dataset: Any, count: int, rank: int = 0, ranks: int = 1) -> None:
        self.dataset = dataset  # mmdet's AspectRatioBatchSampler looks sizes up in it
        self.epoch = 0
        self._run, self._count, self._rank, self._ranks = run, count, rank, ranks

    def __len__(self) -> int:
        return self._count // self._ranks

    def __iter__(self) -> Iterator[int]:
        order = self._run.rng(self.epoch).permutation(len(self.dataset))[: self._count]
        return map(int, order[self._rank :: self._ranks])


class Batches(Sampler[list[Key]]):
    """Lists of keys. `skip` batches, which a resumed run has seen, are left out of the next epoch.

    With `endless`, epoch follows epoch by itself, for schedules that count iterations.
    """

    def __init__(self, run: Run, indices: Sampler[list[int]], order: Order, endless: bool = False) -> None:
        self.skip = 0
        self.endless = endless
        self._run, self._indices, self._order = run, indices, order

    def begin(self, epoch: int) -> None:
        """The epoch that the next iteration over this is of; endless batches begin with 0 and go on."""
        if not self.endless:
            self._order.epoch = epoch

    def __len__(self) -> int:
        return len(self._indices)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[Key]]:
        skip, self.skip = self.skip, 0
        yield from itertools.islice(self._epoch(), skip, None)
        while self.endless:
            self._order.epoch += 1
            yield from self._epoch()

    def _epoch(self) -> Iterator[list[Key]]:
        epoch = self._order.epoch
        for batch in self._indices:
            yield [(index, self._run.stream(epoch, index)) for index in batch]


class Seeded(Wrapped):
    """A data set under keys: item (index, seed) is its item `index`, made with all global generators set from `seed`.

    Raises DataError for an image that cannot be decoded.
    """

    def __getitem__(self, key: Key) -> Any:
        index, seed = key
        with _seeded(seed):
            try:
                return self.inner[index]
            except AssertionError as error:
                if "failed to load image" in str(error):
                    raise DataError(f"cannot decode an image: {error}; replace or remove it") from error
                raise


def loader(
    run: Run, dataset: Any, batch: int, count: int, grouping: dict[str, Any] | None = None, endless: bool = False
) -> Loader:
    """Training batches of `batch` images for this rank, `count` images an epoch over all ranks.

    `grouping` is a config's batch sampler (AspectRatioBatchSampler, say); without one, images come in plain order.
    """
    order = Order(run, dataset, count, run.rank, run.ranks)
    indices = (
        BatchSampler(order, batch, drop_last=False)
        if grouping is None
        else DATA_SAMPLERS.build(grouping, default_args={"sampler": order, "batch_size": batch})
    )
    workers = Settings.of(run.spec).workers
    return Loader(
        Seeded(dataset),
        pseudo_collate,
        batch_sampler=Batches(run, indices, order, endless),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Set the global generators for a while. `torch.random.fork_rng` does the same sixty times slower."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
