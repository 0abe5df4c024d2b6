"""Examples, baselines, facts and notes on the page. `pytest tests/report/test_report_gallery.py`"""

import numpy as np
import pytest
from cells import shown
from PIL import Image

from nmbench.contract import samples
from nmbench.contract.samples import Sample
from nmbench.report.sections.examples import examples
from nmbench.report.write import write_report

BLUE = np.full((8, 12, 3), (0, 0, 255), np.uint8)
RED = np.full((8, 12, 3), (255, 0, 0), np.uint8)


def keep(record, *answers, image=RED):
    """Samples beside `record`: one a text, with a picture each."""
    many = [
        Sample(f"no {i}", {"source": f"Q{i}", "input": BLUE}, {"answer": a, "seen": image})
        for i, a in enumerate(answers)
    ]
    samples.write(many, record.with_name(samples.FILE))


@pytest.mark.parametrize(
    "broken",
    [
        "{",
        '{"samples": [{"name": "a"}]}',
        '{"samples": 3}',
        '{"samples": [{"name": "a", "given": {}, "output": {"x": {"image": "data:image/png;base64,AAAA"}}}]}',
    ],
)
def test_a_broken_file_is_a_remark_and_the_rest_is_shown(results, tmp_path, broken):
    keep(results.twin(), "right")
    results.add("2:4", "ste").with_name(samples.FILE).write_text(broken)
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    assert "The examples of 2:4 ste cannot be shown" in page
    assert "| right" in page


def test_texts_stand_side_by_side_given_first(results, tmp_path):
    keep(results.twin(), "one", "two")
    keep(results.add("2:4", "ste"), "eins", "zw|ei")
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    lines = [[cell.strip() for cell in line.split(" | ")] for line in page.splitlines() if line.startswith("| ")]
    shown = [line[1] for line in lines if line[1] == "source" or "answer" in line[1]]
    assert shown == ["source", "dense: answer", "2:4 ste: answer"] * 2
    assert "zw\\|ei" in page


def test_the_figure_shows_the_very_pixels(results, tmp_path):
    keep(results.twin(), "one")
    keep(results.add("2:4", "ste"), "eins", image=BLUE)
    write_report(results.folder, tmp_path / "out", "T")
    with Image.open(tmp_path / "out" / "figures" / "classification-examples.png") as image:
        colours = {colour for count, colour in image.convert("RGB").getcolors(1 << 20) if count > 1000}
    assert {(0, 0, 255), (255, 0, 0)} <= colours


def test_the_seed_of_the_dense_twin_is_taken(results, table):
    for seed in (3, 4):
        keep(results.twin(seed), f"dense {seed}")
    keep(results.add("2:4", "ste", 4), "sparse 4")
    keep(results.add("2:4", "ste", 3), "sparse 3")
    keep(results.add("1:4", "ste", 4), "other 4")
    texts = [text for row in shown(table(examples)) for text in row]
    assert "dense 3" in texts
    assert "sparse 3" in texts
    assert "1:4 ste (seed 4): answer" in texts
    assert "sparse 4" not in texts


def test_baselines_facts_and_notes_are_said_once_where_all_agree(results, tmp_path):
    same = {"baselines": {"chance": {"top1": 10.0}}, "facts": {"signature": "v|1"}, "notes": ["12 lines were left out"]}
    results.twin(0, **same)
    results.add("2:4", "ste", 0, **{**same, "notes": [*same["notes"], "resumed"]})
    page = write_report(results.folder, tmp_path / "out", "T")[0].read_text()
    assert "For scale: chance reaches top1 10 %." in page
    assert page.count("12 lines were left out") == 1
    assert "- 12 lines were left out\n" in page
    assert "- resumed (2:4 ste)\n" in page
    assert "How it was done: signature `v|1`." in page
