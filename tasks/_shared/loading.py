"""Data loading whose results depend on (seed, epoch, index) only, whatever the number of processes.

Key       what a data set is asked for: a place, and the seed of its augmentation
Loader    torch's DataLoader that draws nothing from the global generators and hands on DataErrors as they were raised
Wrapped   a data set around another one
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from nmbench.task import DataError

#: place in the data set, and the seed of the augmentation
Key = tuple[int, int]


class Loader(DataLoader[Any]):
    """`options` are DataLoader's. Iterating raises DataError, from a loading process too, with its own text."""

    def __init__(self, dataset: Dataset[Any], collate_fn: Callable[[list[Any]], Any] = default_collate, **options: Any):
        # a generator of its own: the loader would otherwise draw a number from the global one
        generator = torch.Generator().manual_seed(0)
        super().__init__(_Guarded(dataset), collate_fn=_Collate(collate_fn), generator=generator, **options)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch promises its own iterator class
        for batch in super().__iter__():
            if isinstance(batch, DataError):
                raise batch
            yield batch


class Wrapped(Dataset[Any]):
    """`inner`, to be changed in a subclass: length and all attributes are its own."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "inner":  # a copy asks before there is one
            raise AttributeError(name)
        return getattr(self.inner, name)


class _Guarded(Wrapped):
    """Returns a DataError that the data set raises: from a loading process it would arrive as a traceback's text."""

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.inner[key]
        except DataError as error:
            return error


class _Collate:
    """The batch, or the first DataError in it. A class, since loading processes may be spawned."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[Any]) -> Any:
        broken = next((item for item in items if isinstance(item, DataError)), None)
        return broken if broken is not None else self.collate(items)
