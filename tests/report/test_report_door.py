"""A stranger's section: one file; what breaks in it is a sentence. `pytest tests/report/test_report_door.py`"""

import textwrap

import pytest

from nmbench.report.write import write_report

STABILITY = """
    from nmbench.document.model import Picture, Section
    from nmbench.document.table import Cell, Column, Table


    class Spread:
        '''The range of the values over the seeds, of every row of a setting.'''

        place, order = "setting", 35

        def blocks(self, study, rows):
            columns = (Column("row", "Row"), Column("range", "Range", "r"))
            body = [(Cell(row.name), Cell(f"{max(row.values) - min(row.values):.2f}")) for row in rows if row.values]
            yield Table("range", "Range over the seeds", columns, tuple(body))


    class Front:
        place, order = "front", 1

        def blocks(self, study, rows):
            return [Section(f"{len(rows)} rows of {len(study.tasks)} task", ())]


    class Broken:
        place, order = "setting", 1

        def blocks(self, study, rows):
            yield from Spread().blocks(study, rows)
            raise KeyError("no such column\\nand more")


    class Undrawn:
        place, order = "task", 1

        def blocks(self, study, rows):
            yield Picture("never-drawn.png", "Nothing", "x", "y")


    class Misplaced:
        place, order = "everywhere", 1


    def nothing():
        class Section:
            place, order, blocks = "end", 1, lambda *_: None

        return Section()
"""


@pytest.fixture
def page(results, tmp_path, monkeypatch):
    """The pages of a report with these sections (name = object in the plugin's one file) installed."""

    def write(**sections):
        site = tmp_path / "site"
        (site / "stranger-1.0.dist-info").mkdir(parents=True)
        (site / "stranger_sections.py").write_text(textwrap.dedent(STABILITY))
        (site / "stranger-1.0.dist-info" / "METADATA").write_text("Name: stranger\nVersion: 1.0\n")
        points = "".join(f"{name} = {value}\n" for name, value in sections.items())
        (site / "stranger-1.0.dist-info" / "entry_points.txt").write_text(f"[nmbench.sections]\n{points}")
        monkeypatch.syspath_prepend(site)
        for seed in range(3):
            results.twin(seed, value=80.0 + seed)
            results.add(seed=seed, value=79.0 + seed)
        markdown, html = write_report(results.folder, tmp_path / "out", "T")
        return markdown.read_text(), html.read_text()

    return write


def test_a_strangers_section_stands_in_its_place_in_every_format(page):
    markdown, html = page(spread="stranger_sections:Spread", front="stranger_sections:Front")
    assert markdown.startswith("# T\n\n## 2 rows of 1 task\n")
    setting = markdown[markdown.index("### resnet20, scale quick") :]
    assert setting.index("**Quality**") < setting.index("**Range over the seeds**") < setting.index("**Cost and gain**")
    assert "| 2:4 sr-ste |    2.00 |" in setting
    # named after its place, so that it may stand in every setting
    assert 'id="table-classification-resnet20-quick-range"' in html


BREAKING = {
    "stranger_sections:Broken": "KeyError: 'no such column",
    "stranger_sections:Undrawn": "FileNotFoundError: ",
    "stranger_sections:Misplaced": "ValueError: 'everywhere' is not a valid Place`",
    "stranger_sections:Missing": "AttributeError: ",
    "no_such_module:Missing": "ModuleNotFoundError: ",
    "stranger_sections:nothing": "TypeError: 'NoneType' object is not iterable`",
}


def test_what_breaks_is_a_sentence_and_the_rest_is_there(page):
    markdown, html = page(**{f"stranger{place}": section for place, section in enumerate(BREAKING)})
    for place, why in enumerate(BREAKING.values()):
        assert f"Section `stranger{place}` failed: `{why}" in markdown
    assert "**Quality**" in markdown
    assert "**Range over the seeds**" in markdown, "what a section gave before it broke"
    assert "How to read this report</h2>" in html
