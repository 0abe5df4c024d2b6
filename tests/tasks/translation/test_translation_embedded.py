"""The embedded corpus on disk: text, subwords and binarised data say the same, and prepare can be called anyhow."""

import pytest
from task_helpers import bytes_of

from nmbench.task import DataError
from nmbench_tasks.translation import embedded as module
from nmbench_tasks.translation import phrases
from nmbench_tasks.translation.corpus import Corpus
from nmbench_tasks.translation.scales import Settings


def test_it_is_what_fairseq_preprocess_writes(embedded):
    expected = {"dict.en.txt", "dict.de.txt"}
    expected |= {
        f"{split}.en-de.{language}.{ending}"
        for split in ("train", "valid", "test")
        for language in ("en", "de")
        for ending in ("bin", "idx")
    }
    assert {path.name for path in (embedded.path / "binary").iterdir()} == expected


@pytest.mark.parametrize("split", ["train", "test"])
def test_binarised_data_say_what_the_text_says(embedded, spec_of, split):
    corpus = Corpus(embedded.path, Settings.of(spec_of(test_pairs=0)))
    dataset = corpus.dataset(split)
    for side, language, tokens in ((0, "en", dataset.src), (1, "de", dataset.tgt)):
        text = (embedded.path / "text" / f"{split}.{language}").read_text(encoding="utf-8").splitlines()
        assert [corpus.sentence(tokens[index], side) for index in range(400)] == text[:400]
        assert corpus.text(split, side) == text


def test_both_sides_share_one_dictionary_of_the_declared_size(embedded, spec_of):
    task = Corpus(embedded.path, Settings.of(spec_of())).task
    assert task.source_dictionary == task.target_dictionary
    assert len(task.source_dictionary) == module.ENTRIES


def test_no_word_of_the_test_is_unknown_and_digits_stand_alone(embedded, spec_of):
    corpus = Corpus(embedded.path, Settings.of(spec_of()))
    words, dataset = corpus.task.target_dictionary, corpus.dataset("test")
    assert all(words.unk() not in dataset.tgt[index] for index in range(len(dataset)))
    assert [symbol for symbol in words.symbols if sum(letter.isdigit() for letter in symbol) > 1] == []


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(phrases, "SIZES", {"train": 600, "valid": 20, "test": 20})
    monkeypatch.setattr(module, "PIECES", 300)


def test_written_again_elsewhere_it_has_the_same_bytes(small, tmp_path, spec_of):
    one, again = module.prepare(spec_of(), tmp_path / "one"), module.prepare(spec_of(), tmp_path / "again")
    assert one.fingerprint == again.fingerprint
    assert bytes_of(one.path) == bytes_of(again.path)
    assert one.counts == {"train": 600, "valid": 20, "test": 20}


def test_settings_that_it_cannot_serve(spec_of, tmp_path):
    with pytest.raises(DataError, match="WMT14"):
        module.prepare(spec_of(scale="paper"), tmp_path)
    with pytest.raises(DataError, match="from en to de"):
        module.prepare(spec_of(target_lang="fr"), tmp_path)
