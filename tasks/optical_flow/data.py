"""What a stage trains on: pairs in an order and under augmentation that depend on (seed, epoch, index) only.

Augmented        the pairs of a stage; `pairs[place, seed]` is one of them, augmented from `seed`
Keys             what a stage draws, step by step, from the run's streams
batches          batch after batch, by `workers` processes or by none, with equal results
normalised       uint8 images -> float images in -1..1, as torchvision's RAFT wants them
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from nmbench.task import Run
from nmbench_tasks._shared.loading import Key, Loader
from nmbench_tasks.optical_flow import colour, spatial
from nmbench_tasks.optical_flow.prepare import Part
from nmbench_tasks.optical_flow.scales import Stage
from nmbench_tasks.optical_flow.sets import Pair


class Augmented(Dataset[Pair]):
    """All pairs of a stage, each as often as its part says; crops of the stage's size."""

    def __init__(self, parts: list[Part], stage: Stage, augment: str) -> None:
        self.parts, self.size, self.whole = parts, (stage.crop_height, stage.crop_width), augment == "raft"
        self._ends = np.cumsum([len(part.pairs) * part.repeat for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, key: Key) -> Pair:
        place, seed = key
        number = int(np.searchsorted(self._ends, place, side="right"))
        part = self.parts[number]
        begin = int(self._ends[number - 1]) if number else 0
        pair = part.pairs[(place - begin) % len(part.pairs)]
        return self._augmented(pair, part, np.random.default_rng(seed))

    def _augmented(self, pair: Pair, part: Part, rng: np.random.Generator) -> Pair:
        sparse = part.pairs.sparse
        if self.whole:
            first, second = colour.jitter(pair.first, pair.second, rng, sparse)
            pair = pair._replace(first=first, second=colour.erase(second, rng))
            pair = spatial.random_zoom(pair, rng, self.size, part.scales, sparse)
        across, down = rng.random(2) < part.mirror
        return spatial.random_crop(spatial.mirror(pair, bool(across), bool(down)), rng, self.size, sparse)


class Keys(Sampler[Key]):
    """The keys of the stage with the number `stage`: `count` of them, less the first `skip`, which a resumed run saw.

    Epochs follow each other without a gap, each in an order of its own.
    """

    def __init__(self, run: Run, stage: int, pairs: int, count: int, skip: int = 0) -> None:
        self._run, self._stage, self._pairs, self._count, self._skip = run, stage, pairs, count, skip

    def __len__(self) -> int:
        return self._count - self._skip

    def __iter__(self) -> Iterator[Key]:
        last, order = -1, np.empty(0, dtype=np.int64)
        for index in range(self._skip, self._count):
            epoch, within = divmod(index, self._pairs)
            if epoch != last:
                last, order = epoch, self._run.rng(epoch, f"order/{self._stage}").permutation(self._pairs)
            yield int(order[within]), self._run.stream(epoch, f"augment/{self._stage}/{within}")


def batches(
    pairs: Dataset[Pair], keys: Iterable[Key], batch: int, workers: int, device: torch.device
) -> Iterator[Pair]:
    """Pairs with a first dimension (batch): float images and flow, bool mask, on `device`.

    Raises DataError for a file that cannot be read.
    """
    for batch_of in Loader(pairs, batch_size=batch, sampler=keys, num_workers=workers):
        first, second, flow, valid = (field.to(device, non_blocking=True) for field in batch_of)
        yield Pair(normalised(first), normalised(second), flow, valid)


def normalised(images: Tensor) -> Tensor:
    """uint8 (..., height, width) as float32 in -1..1."""
    return images.float() / 127.5 - 1.0
