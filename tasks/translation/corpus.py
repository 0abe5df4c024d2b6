"""A binarised corpus as fairseq's TranslationTask sees it: dictionaries, data sets, batches, and text again.

Corpus         a folder that fairseq-preprocess wrote, or one of this task's with such a folder `binary` in it
moved          a batch on another device
TrainingBatches    by tokens, in fairseq's own order: a function of (seed, epoch) only, to be continued anywhere
"""

import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nmbench._util.errors import first_line
from nmbench.task import DataError, Run
from nmbench_tasks._shared.folders import spread
from nmbench_tasks.translation import compat  # noqa: F401  (before fairseq)
from nmbench_tasks.translation.rawtext import Lines
from nmbench_tasks.translation.scales import Settings

# isort: split
from fairseq import utils
from fairseq.data import Dictionary, LanguagePairDataset, data_utils, encoders
from fairseq.data.indexed_dataset import MMapIndexedDataset
from fairseq.data.iterators import EpochBatchIterator, GroupedIterator
from fairseq.tasks.translation import TranslationConfig, TranslationTask

#: what fairseq collates: "id", "net_input" {"src_tokens", "src_lengths", "prev_output_tokens"}, "target", "ntokens"
Batch = dict[str, Any]


def translation_task(settings: Settings, source: Dictionary, target: Dictionary, folder: str = "") -> Any:
    """fairseq's TranslationTask with these dictionaries; data sets are looked for in `folder`."""
    length = settings.max_length
    config = TranslationConfig(
        data=folder,
        source_lang=settings.source_lang,
        target_lang=settings.target_lang,
        max_source_positions=length,
        max_target_positions=length,
        # these three default to references into a configuration that is not used here
        dataset_impl="mmap",
        train_subset="train",
        required_seq_len_multiple=1,
    )
    return TranslationTask(config, source, target)


class Corpus:
    """The corpus in `path`. Raises DataError for a dictionary or a data set that is missing or cannot be read."""

    def __init__(self, path: Path, settings: Settings | Mapping[str, Any]) -> None:
        self.settings = settings = Settings.model_validate(settings)
        self.path = path
        self.folder = path / "binary" if (path / "binary").is_dir() else path
        self.languages = (settings.source_lang, settings.target_lang)
        source, target = (_dictionary(self.folder / f"dict.{language}.txt") for language in self.languages)
        self.task: TranslationTask = translation_task(settings, source, target, str(self.folder))
        self._tokenizer = _tokenizer(settings)

    def has(self, split: str) -> bool:
        """Is there a split of this name?"""
        return bool(MMapIndexedDataset.exists(str(self._prefix(split, self.languages[0]))))

    def dataset(self, split: str) -> LanguagePairDataset:
        """The pairs of `split`, all of them, in their order on disk."""
        if split not in self.task.datasets:
            try:
                self.task.load_dataset(split)
            except FileNotFoundError as error:
                name = self._prefix(split, self.languages[0]).name
                raise DataError(f"{self.folder} has no split {split} ({name}.idx and .bin are missing)") from error
            except Exception as error:  # of a broken index fairseq raises KeyError, AssertionError, struct.error, ...
                raise DataError(f"the split {split} in {self.folder} cannot be read: {first_line(error)}") from error
            if self.task.datasets[split].tgt is None:
                name = self._prefix(split, self.languages[1]).name
                raise DataError(f"{self.folder} has no translations of {split} ({name}.idx or .bin is missing)")
        return self.task.datasets[split]

    def indices(self, split: str) -> NDArray[np.int64]:
        """Positions of the pairs in use, ascending: within `max_length`, and no more than `<split>_pairs`."""
        dataset = self.dataset(split)
        limits = (self.settings.max_length,) * 2
        kept, _ = dataset.filter_indices_by_size(np.arange(len(dataset)), limits)
        limit = {"train": self.settings.train_pairs, "test": self.settings.test_pairs}.get(split, 0)
        return np.asarray(kept)[spread(len(kept), limit)]

    def batches(self, split: str, max_tokens: int) -> Iterator[Batch]:
        """The pairs in use, always in the same order, each batch of sources of one length. Draws no random number.

        Of one length: fairseq's search bounds the length of a translation by that of the longest source beside it.
        """
        dataset, kept = self.dataset(split), self.indices(split)
        by_length = kept[np.lexsort((kept, dataset.tgt_sizes[kept], dataset.src_sizes[kept]))]
        for length in np.unique(dataset.src_sizes[kept]):
            alike = by_length[dataset.src_sizes[by_length] == length]
            for batch in dataset.batch_by_size(alike, max_tokens=max_tokens):
                yield dataset.collater([dataset[index] for index in batch])

    def text(self, split: str, side: int) -> list[str]:
        """The sentences in use (0 source, 1 target): as they were written if the text lies beside, else detokenised.

        Raises DataError if the text beside has another number of lines than there are pairs, or is no UTF-8.
        """
        dataset, language = self.dataset(split), self.languages[side]
        for file in (self.path / "text" / f"{split}.{language}", self.path / f"{split}.{language}"):
            if file.is_file():
                lines = list(Lines(file))
                if len(lines) != len(dataset):
                    raise DataError(f"{file} has {len(lines)} lines, {self.folder} has {len(dataset)} pairs of {split}")
                return [lines[index] for index in self.indices(split)]
        tokens = dataset.src if side == 0 else dataset.tgt
        return [self.sentence(tokens[index], side) for index in self.indices(split)]

    def sentence(self, tokens: torch.Tensor, side: int = 1) -> str:
        """Text of `tokens` (length,), with its subwords and words joined."""
        words = (self.task.source_dictionary, self.task.target_dictionary)[side]
        joiner = "sentencepiece" if self.folder != self.path else self.settings.post_process
        text: str = words.string(tokens.cpu(), joiner, extra_symbols_to_ignore={words.pad()})
        return text if self._tokenizer is None else self._tokenizer.decode(text)

    def _prefix(self, split: str, language: str) -> Path:
        return self.folder / f"{split}.{'-'.join(self.languages)}.{language}"


def moved(batch: Batch, device: torch.device) -> Batch:
    """`batch` with every tensor on `device`."""
    there: Batch = utils.apply_to_sample(lambda tensor: tensor.to(device, non_blocking=True), batch)
    return there


def _dictionary(path: Path) -> Dictionary:
    try:
        return Dictionary.load(str(path))
    except FileNotFoundError as error:
        raise DataError(f"there is no dictionary {path}; fairseq-preprocess writes it") from error
    except Exception as error:  # fairseq raises RuntimeError, ValueError and plain Exception here
        raise DataError(f"the dictionary {path} cannot be read: {first_line(error)}") from error


def _tokenizer(settings: Settings) -> Any:
    """fairseq's detokeniser, None if words are as they are written. Raises DataError if its package is missing."""
    if settings.tokenizer == "none":
        return None
    source, target = settings.source_lang, settings.target_lang
    try:
        return encoders.build_tokenizer(Namespace(tokenizer="moses", source_lang=source, target_lang=target))
    except ImportError as error:
        raise DataError(f"tokenizer = 'moses': {str(error).strip()}") from error


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
