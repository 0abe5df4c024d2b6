"""A user's text files: what is accepted, that each fault is named with its place, and what is left out is counted."""

import shutil

import pytest
from task_helpers import data_refused

from nmbench.run import Run
from nmbench.task import DataError
from nmbench_tasks.translation import Translation
from nmbench_tasks.translation.corpus import Corpus
from nmbench_tasks.translation.scales import Settings

PIECES = 36


def prepared(spec_of, text, **over):
    return Translation().prepare(spec_of(data=str(text), **{"pieces": PIECES, **over}), text.parent / "data")


def test_counts_and_fingerprint(spec_of, text):
    info = prepared(spec_of, text)
    assert info.counts == {"train": 60, "valid": 8, "test": 8}
    assert info.notes == ()
    assert prepared(spec_of, text) == info
    moved = text.rename(text.parent / "elsewhere")
    assert prepared(spec_of, moved).fingerprint == info.fingerprint
    german = moved / "train.de"
    german.write_text(german.read_text().replace("A", "Ä"))
    assert prepared(spec_of, moved).fingerprint != info.fingerprint


def test_without_valid_and_with_windows_line_ends(spec_of, text):
    for language in ("en", "de"):
        (text / f"valid.{language}").unlink()
        (text / f"test.{language}").write_bytes((text / f"test.{language}").read_bytes().replace(b"\n", b"\r\n"))
    info = prepared(spec_of, text)
    assert info.counts == {"train": 60, "test": 8}
    assert "\r" not in (info.path / "text" / "test.de").read_bytes().decode()


def test_a_byte_order_mark_is_no_word(spec_of, text):
    expected = (text / "test.de").read_text()
    (text / "test.de").write_bytes(b"\xef\xbb\xbf" + expected.encode())
    assert (prepared(spec_of, text).path / "text" / "test.de").read_text() == expected


def test_a_line_ends_at_a_line_feed_only(spec_of, text):
    """A carriage return, a vertical tab or Unicode's line separator within a line moves no later reference."""
    lines = [
        f"A{mark}B {number}!" for number, mark in enumerate(("\r", "\v", "\f", "\x85", "\u2028", "\x1e", " ", " "))
    ]
    (text / "test.de").write_bytes("".join(f"{line}\n" for line in lines).encode())
    spec = spec_of(data=str(text), pieces=PIECES, test_pairs=0)
    info = Translation().prepare(spec, text.parent / "data")
    assert info.counts["test"] == 8
    assert Corpus(info.path, Settings.of(spec)).text("test", 1) == lines


def test_a_line_of_which_no_subword_is_left_is_named(spec_of, text):
    line_of("test.en", 3, "\u200b".encode())(text)
    with pytest.raises(DataError, match=r"test.en: sentence 3 is empty in subwords"):
        prepared(spec_of, text)


def line_of(name: str, number: int, content: bytes):
    def harm(text):
        lines = (text / name).read_bytes().splitlines()
        lines[number - 1] = content
        (text / name).write_bytes(b"\n".join(lines) + b"\n")

    return harm


FAULTS = {
    "no folder": (shutil.rmtree, "no data folder"),
    "no corpus": (lambda text: [path.unlink() for path in text.iterdir()], "has no train.en, train.de, test.en"),
    "one side missing": (lambda text: (text / "test.de").unlink(), "has no test.de"),
    "half a valid": (lambda text: (text / "valid.en").unlink(), "has no valid.en"),
    "longer": (
        lambda text: (text / "train.de").open("a").write("noch eine\n"),
        "train.en has 60 lines, train.de has 61",
    ),
    "shorter test": (lambda text: (text / "test.en").write_text("a b\n"), "test.en has 1 lines, test.de has 8"),
    "empty line": (line_of("train.de", 17, b""), "train.de, line 17 is empty"),
    "blank line": (line_of("test.en", 3, b" \t \xc2\xa0 "), "test.en, line 3 is empty"),
    "empty file": (lambda text: (text / "train.en").write_bytes(b""), "train.en is empty"),
    "no utf-8": (line_of("train.en", 42, "größe".encode("latin-1")), "train.en, line 42: byte 0xf6 at position 3"),
    "no utf-8 in test": (line_of("test.de", 8, b"ab\xff"), "test.de, line 8: byte 0xff at position 3"),
}


@pytest.mark.parametrize(
    ("over", "said"),
    [({"pieces": 5000}, "no 5000 subwords"), ({"max_length": 2}, "every pair of train has more than max_length = 2")],
)
def test_settings_that_do_not_fit_the_text(spec_of, text, over, said):
    with pytest.raises(DataError, match=said):
        prepared(spec_of, text, **over)


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(spec_of, text, fault):
    harm, message = FAULTS[fault]
    harm(text)
    with data_refused(message, text):
        prepared(spec_of, text)
    assert not list(text.parent.glob("data/translation/text-*"))  # nothing half-made is left to be believed


def test_long_sentences_are_left_out_and_counted(spec_of, text, tmp_path):
    for split, number in (("train", 2), ("test", 5)):
        line_of(f"{split}.en", number, b"a b c d e f g h " * 10)(text)
    info = prepared(spec_of, text, max_length=30)
    assert info.counts == {"train": 59, "valid": 8, "test": 7}
    assert [note[:34] for note in info.notes] == [
        "1 of the 60 pairs of train are lef",
        "1 of the 8 pairs of test are left ",
    ]
    assert all("max_length = 30" in note for note in info.notes)
    spec = spec_of(data=str(text), pieces=PIECES, max_length=30, test_pairs=0)
    task = Translation()
    run = Run(spec, task.prepare(spec, tmp_path / "data"), None, tmp_path / "work")
    model = task.build(spec)
    assert model.encoder.embed_tokens.num_embeddings == PIECES - 1 + 4
    task.train(model, run)  # a sentence beyond the positions of the model would raise
    assert set(task.evaluate(model, run)) == {metric.name for metric in Translation.metrics}
    references = (text / "test.de").read_text().splitlines()
    assert run.texts["references"] == references[:4] + references[5:]
    assert len(run.per_example["loss"]) == 7
