"""A folder that fairseq-preprocess wrote: read as it lies, and each fault is named."""

import os
import shutil

import pytest
import torch
from task_helpers import data_refused

from nmbench.run import Run
from nmbench.task import DataError
from nmbench_tasks.translation import Translation, compat  # noqa: F401
from nmbench_tasks.translation.corpus import Corpus
from nmbench_tasks.translation.scales import Settings

# isort: split
from fairseq import options
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder
from fairseq_cli import preprocess


@pytest.fixture
def folder(text, tmp_path):
    """Binarised by fairseq itself, with a dictionary for each side, as its examples do it; subwords joined by "@@ "."""
    for file in text.iterdir():
        file.write_text(file.read_text().replace(".", "@@ .").replace("!", "@@ !"))
    arguments = ["--source-lang", "en", "--target-lang", "de", "--destdir", str(tmp_path / "bin")]
    for split in ("train", "valid", "test"):
        arguments += [f"--{split}pref", str(text / split)]
    preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    return tmp_path / "bin"


def spec_for(spec_of, folder, **over):
    return spec_of(**{"data": str(folder), "post_process": "subword_nmt", "test_pairs": 0, **over})


def prepared(spec_of, folder, **over):
    return Translation().prepare(spec_for(spec_of, folder, **over), folder.parent / "data")


def test_it_is_read_where_it_lies(spec_of, folder):
    info = prepared(spec_of, folder)
    assert info.path == folder
    assert info.counts == {"train": 60, "valid": 8, "test": 8}
    assert not (folder.parent / "data").exists()
    moved = folder.rename(folder.parent / "moved")
    assert prepared(spec_of, moved).fingerprint == info.fingerprint


def test_it_trains_and_evaluates_with_a_dictionary_for_each_side(spec_of, folder, text, tmp_path):
    spec, task = spec_for(spec_of, folder), Translation()
    run = Run(spec, task.prepare(spec, tmp_path / "data"), None, tmp_path / "work")
    model = task.build(spec)
    assert model.encoder.embed_tokens.weight is not model.decoder.embed_tokens.weight
    assert model.decoder.output_projection.weight is model.decoder.embed_tokens.weight
    task.train(model, run)
    task.evaluate(model, run)
    joined = [line.replace("@@ ", "") for line in (text / "test.de").read_text().splitlines()]
    assert run.texts["references"] == joined


def test_text_beside_it_is_what_translations_are_compared_with(spec_of, folder, tmp_path):
    spec, task = spec_for(spec_of, folder), Translation()
    written = [f"Satz {number}" for number in range(8)]
    (folder / "test.de").write_text("".join(f"{line}\n" for line in written))
    corpus = Corpus(task.prepare(spec, tmp_path / "data").path, Settings.of(spec))
    assert corpus.text("test", 1) == written


@pytest.mark.parametrize("count", [7, 9])
def test_text_beside_it_of_another_length_is_refused(spec_of, folder, count):
    (folder / "test.de").write_text("".join(f"Satz {number}\n" for number in range(count)))
    with pytest.raises(DataError, match=rf"test.de has {count} lines, .* has 8 pairs of test"):
        prepared(spec_of, folder)


def rewrite(folder, name, sentences):
    """Sentences (lists of tokens) in place of the split `name`."""
    builder = MMapIndexedDatasetBuilder(str(folder / f"{name}.bin"), dtype=__import__("numpy").uint16)
    for sentence in sentences:
        builder.add_item(torch.tensor(sentence))
    builder.finalize(str(folder / f"{name}.idx"))


def shorter_dictionary(folder):
    lines = (folder / "dict.de.txt").read_text().splitlines(keepends=True)
    (folder / "dict.de.txt").write_text("".join(lines[:4]))


def overwrite(path, place, data):
    held = path.read_bytes()
    path.write_bytes(held[:place] + data + held[place + len(data) :])


FAULTS = {
    "no dictionary": (lambda f: (f / "dict.de.txt").unlink(), "no dictionary .*dict.de.txt"),
    "broken dictionary": (lambda f: (f / "dict.en.txt").write_text("no count here\n"), "dict.en.txt cannot be read"),
    "not utf-8": (lambda f: (f / "dict.en.txt").write_bytes(b"gr\xf6\xdfe 3\n"), "dict.en.txt cannot be read"),
    "no test": (lambda f: (f / "test.en-de.en.idx").unlink(), "no split test"),
    "no index": (lambda f: (f / "train.en-de.en.bin").unlink(), "no split train"),
    "one side": (lambda f: (f / "train.en-de.de.bin").unlink(), "no translations of train"),
    "other format": (lambda f: (f / "train.en-de.en.idx").write_bytes(b"nonsense" * 9), "cannot be read: .*Index file"),
    "no type": (lambda f: overwrite(f / "train.en-de.en.idx", 17, b"\0"), "split train in .* cannot be read"),
    "index cut off": (lambda f: os.truncate(f / "train.en-de.en.idx", 12), "split train in .* cannot be read"),
    "cut off": (lambda f: os.truncate(f / "train.en-de.en.bin", 300), "train.en-de.en.bin is not as long"),
    "lengths": (lambda f: rewrite(f, "train.en-de.de", [[5, 6, 2]] * 59), "same number of examples"),
    "empty side": (lambda f: rewrite(f, "test.en-de.de", [[5, 2]] * 5 + [[2]] + [[6, 2]] * 2), "sentence 6 is empty"),
    "other dictionary": (shorter_dictionary, r"has token \d+, dict.de.txt only 8 entries"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(spec_of, folder, fault):
    harm, message = FAULTS[fault]
    harm(folder)
    with data_refused(message):
        prepared(spec_of, folder)


def test_a_joined_dictionary_ties_all_embeddings(spec_of, folder, tmp_path):
    joined = Dictionary.load(str(folder / "dict.en.txt"))
    joined.update(Dictionary.load(str(folder / "dict.de.txt")))
    other = tmp_path / "joined"
    shutil.copytree(folder, other)
    for language in ("en", "de"):
        joined.save(str(other / f"dict.{language}.txt"))
    spec, task = spec_for(spec_of, other), Translation()
    task.prepare(spec, tmp_path)
    model = task.build(spec)
    assert model.encoder.embed_tokens.weight is model.decoder.output_projection.weight
