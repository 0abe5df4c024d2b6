"""Results that are not as they should be are told in words, in every format.

`pytest tests/report/test_report_bad_input.py`
"""

import json

import pytest

from nmbench.document.escape_latex import inline
from nmbench.document.inline import to_html, to_plain
from nmbench.report.write import FORMATS, write_report

#: format -> (the file with the words, how inline markdown is written in it)
WORDS = {
    "md": ("README.md", str),
    "html": ("report.html", to_html),
    "csv": ("notes.csv", to_plain),
    "tex": ("report.tex", inline),
}


@pytest.fixture(params=list(FORMATS))
def says(request, results, tmp_path):
    """Does the report, in this format, say all of this in words, and is its page there?"""

    def check(*sentences):
        (page,) = write_report(results.folder, tmp_path / "out", "T", [request.param])
        assert page.is_file()
        name, written = WORDS[request.param]
        files = [tmp_path / "out" / name, *sorted((tmp_path / "out").glob("tables/*"))]
        # a quotation mark is doubled in CSV
        text = "".join(file.read_text(encoding="utf-8") for file in files).replace('""', '"')
        for sentence in sentences:
            assert written(sentence) in text, sentence
        return text

    return check


def test_no_folder_at_all(says):
    says("There is no readable record here yet.", "there is nothing to say about origins", "No cell failed.")


def test_an_empty_folder(says, results):
    results.folder.mkdir(parents=True)
    says("There is no readable record here yet.")


def test_only_failures(says, results):
    results.fail("oom")
    results.fail("nan", pattern="dense", method="dense")
    text = says(
        "None of 2 cells ended well (1 nan, 1 oom).",
        "No sparse cell ended well, so nothing can be said about sparsity.",
        "Quality against density: no figure.",
        "there is no cost to show",
    )
    assert "it broke" in text


def test_no_dense_twin(says, results):
    results.add()
    says(
        "1 no dense twin",
        "**No dense twin** to compare with, for some or all rows of classification/resnet20 (quick).",
        "2:4 sr-ste: seed 0: without a dense twin that ended well.",
    )


def test_one_seed(says, results):
    results.twin()
    results.add()
    says("**One seed** in every combination of pattern and method", "undecided (1 seed)")


def test_one_seed_in_some_rows(says, results):
    for seed in range(3):
        results.twin(seed, value=80.0 + seed)
        results.add(seed=seed, value=80.1 + 1.1 * seed)
    results.add("1:4")
    says("**One seed** in 1 combination of pattern and method")


def test_a_metric_that_is_no_number(says, results):
    results.twin()
    results.add(value=float("nan"))
    says(
        "**Values that are no numbers** were left out of classification 2:4 sr-ste (top1)",
        "1 of 1 pairs without a finite top1",
    )


def test_a_record_of_the_future(says, results):
    results.twin()
    results.add(schema_version=99)
    text = says(
        "One record could not be read and is listed below.",
        "**Records of a newer nmbench**: 1 record, not read here.",
    )
    assert "99" in text


def test_unreadable_records_are_counted_and_named(says, results):
    results.twin()
    for seed in range(2):
        results.add(seed=seed).write_text("{")
    text = says("Two records could not be read and are listed below.", "Nothing in this report comes from these files.")
    assert "record.json" in text


def test_one_cell_on_different_data(says, results):
    results.twin()
    results.add(data={"fingerprint": "a"})
    file = results.add(attempt=2, data={"fingerprint": "d" * 64})
    assert json.loads(file.read_text())["attempt"] == 2
    says(
        "**Different data**: 1 cell ran more than once, on data whose fingerprints differ.",
        "its attempts saw different data (the fingerprints differ)",
    )


def test_mixed_origins_raise_a_banner(says, results):
    results.twin()
    results.add(environment={"torch": "9.9"}, data={"fingerprint": "e" * 64})
    says("**Mixed origins.**", "torch: 2.11.0 (1 cell), 9.9 (1 cell)", "data of classification:")
