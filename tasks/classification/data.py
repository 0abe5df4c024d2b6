"""Images from an ImageFolder split, in an order and under augmentation that depend on (seed, epoch, index) only.

Examples        a split as uint8 tensors; small sets are decoded once and kept in memory
EpochKeys       what a training epoch draws: (index, seed of its augmentation), from the run's streams
batches         mini-batches, by `workers` processes or by none, with equal results
normalised      batch of images -> float batch on the model's device
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from nmbench.task import DataError, Run
from nmbench_tasks._shared import folders
from nmbench_tasks._shared.loading import Key, Loader
from nmbench_tasks.classification.scales import Settings

_CACHE_BYTES = 256 * 2**20
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# ImageNet's principal components of colour as SR-STE's authors have them, scaled by their deviations; a row each.
# Their rows are AlexNet's columns in reverse order, so that they add other colours than that paper describes.
_COLOURS = torch.tensor([[0.2175], [0.0188], [0.0045]]) * torch.tensor(
    [[0.4009, 0.7192, -0.5675], [-0.8140, -0.0045, -0.5808], [0.4203, -0.6948, -0.5836]]
)
_to_float = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(_MEAN, _STD)])


class Examples(Dataset[tuple[Tensor, int]]):
    """The split `split` ("train" or "val") of the ImageFolder set in `root`, ordered by class, then by name.

    `examples[index, seed]` is an image, uint8 (3, image_size, image_size), or float32 from 0 to 1 where colour noise is
    added, and its class. Images of train are augmented, from `seed`; those of val are not. Raises DataError for an
    image that cannot be decoded.
    """

    def __init__(self, root: Path, split: str, settings: Settings) -> None:
        size = settings.image_size
        samples = ImageFolder(root / split).samples
        limit = settings.train_images if split == "train" else settings.val_images
        self.samples = [samples[place] for place in folders.spread(len(samples), limit)]
        self.transform, fixed_size = _transform(settings.transform, split, size)
        if split == "train" and settings.lighting:
            noise = functools.partial(_lit, settings.lighting)
            self.transform = v2.Compose([self.transform, v2.ToDtype(torch.float32, scale=True), noise])
        self._load: Callable[[str], Any] = functools.partial(_sized, size) if fixed_size else _decode
        self._cache: list[Tensor] | None = None
        if fixed_size and len(self.samples) * 3 * size**2 <= _CACHE_BYTES:
            self._cache = [_sized(size, path) for path, _ in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        index, seed = key
        path, label = self.samples[index]
        image = self._load(path) if self._cache is None else self._cache[index]
        with _torch_seed(seed):
            return self.transform(image), label


class EpochKeys(Sampler[Key]):
    """The first `count` keys of a training epoch, in order, less `skip` of them, which a resumed run has seen."""

    def __init__(self, run: Run, epoch: int, examples: int, count: int, skip: int = 0) -> None:
        self._run, self._epoch = run, epoch
        self._order = run.rng(epoch).permutation(examples)[skip:count]

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Key]:
        for index in map(int, self._order):
            yield index, self._run.stream(self._epoch, index)


def batches(examples: Examples, keys: Iterable[Key], batch: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Images (batch, 3, size, size) and labels (batch,), for `keys` in their order; the last may be short."""
    yield from Loader(examples, batch_size=batch, sampler=keys, num_workers=workers)


def normalised(images: Tensor, device: torch.device) -> Tensor:
    """Images (batch, 3, h, w) as float32 on `device`, with ImageNet's mean and deviation taken out."""
    result: Tensor = _to_float(images.to(device, non_blocking=True))
    return result


def _transform(name: str, split: str, size: int) -> tuple[Callable[[Any], Tensor], bool]:
    """The transform, and whether it wants a tensor of the final size (else a PIL image)."""
    train = split == "train"
    if name == "digits":  # never mirrored: a mirrored 2 is no 2
        return v2.RandomCrop(size, padding=2, padding_mode="reflect") if train else v2.Identity(), True
    random = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()]
    centre = [v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)]
    return v2.Compose([*(random if train else centre), v2.PILToTensor()]), False


def _lit(deviation: float, image: Tensor) -> Tensor:
    """Colour noise, equal over the image (3, h, w) in 0 to 1; not clamped."""
    return image + (torch.randn(1, 3) * deviation @ _COLOURS).view(3, 1, 1)


def _sized(size: int, path: str) -> Tensor:
    """A file as a uint8 tensor (3, size, size)."""
    image = _decode(path)
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _decode(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            folders.refuse_deep(image, path)
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"cannot decode the image {path} ({type(error).__name__}); replace or remove it") from error


@contextmanager
def _torch_seed(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator for a while. `torch.random.fork_rng` does the same sixty times slower."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)
