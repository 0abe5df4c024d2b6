"""The figures: what is drawn, what is left out in words, equal bytes. `pytest tests/report/test_report_figures.py`"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmbench.analysis.rows import compare
from nmbench.analysis.series import layer_flips
from nmbench.analysis.study import Study
from nmbench.document.model import Fold, Picture
from nmbench.records.frame import load
from nmbench.report.sections import forest, layers, tradeoff, training
from nmbench.report.sections.tradeoff import front
from nmbench.report.style import few, sheet, shorten, slugs, styles

PNG = b"\x89PNG\r\n\x1a\n"
FIGURES = {
    "tradeoff": tradeoff.figure,
    "speed-tradeoff": tradeoff.measured,
    "forest": forest.figure,
    "flips": training.flips,
    "layers": layers.figure,
    "curves": training.curves,
}
LAYERS = ("body.weight", "gate.weight")


def by_layer(total=100, bins=4):
    """`sad` by layer as a study cell has it: body has 128*64*9 weights, gate 96*96."""
    return {
        **{"pattern": "2:4", "weights": 128 * 64 * 9 + 96 * 96, "total": 2 * total},
        **{"step": [10 * (place + 1) for place in range(bins)], "flips": [2 * total // bins] * bins},
        "per_layer": dict.fromkeys(LAYERS, total),
    }


@pytest.fixture
def many(results):
    """Three seeds, two patterns, two methods and a second setting of one of them; another task with a loss."""
    loss = {"name": "loss", "unit": "nats", "higher_is_better": False, "margin": 0.1}
    for seed in range(3):
        results.twin(seed, value=80.0 + seed, sad=by_layer(80))
        results.twin(seed, value=1.0, metric=loss, cell={"task": "translation"})
        results.add("2:4", "ste", seed, value=1.2, metric=loss, cell={"task": "translation"})
        for pattern, worse in (("2:4", 0.75), ("1:16", 6.0)):
            for method in ("ste", "sr-ste"):
                value = 80.0 + seed - worse + 0.1 * seed
                results.add(pattern, method, seed, value=value, sad=by_layer(200 if method == "ste" else 100))
        results.add("2:4", "sr-ste", seed, value=20.0, cell={"hyper": {"lambda_w": -1.0}})
    return results


@pytest.fixture
def drawn(results, tmp_path):
    """Figures of all rows, every one if none is named: name -> (its block, its PNG, its SVG as text)."""

    def draw(*names, folder="a", task="classification"):
        figures = tmp_path / folder
        figures.mkdir()
        study = Study.of(load(results.folder), figures)
        found = {}
        with sheet():
            for name in names or FIGURES:
                rows = study.rows if "tradeoff" in name else study.tasks[task]
                block = next(iter(FIGURES[name](study, rows)), None)
                block = block.content[0] if isinstance(block, Fold) else block
                file = figures / block.file if isinstance(block, Picture) else None
                found[name] = block, file and file.read_bytes(), file and file.with_suffix(".svg").read_text()
        return found

    return draw


def words(svg):
    """The texts of an SVG whose letters are outlines: matplotlib leaves each as a comment."""
    return re.findall(r"<!-- (.*?) -->", svg)


@pytest.mark.usefixtures("many")
def test_equal_records_give_equal_figures_as_png_and_svg(drawn):
    names = [name for name in FIGURES if name != "speed-tradeoff"]  # no speed was measured
    one, two = drawn(*names), drawn(*names, folder="b")
    assert one == two
    for name, (block, png, svg) in one.items():
        assert png.startswith(PNG), name
        assert svg.rstrip().endswith("</svg>"), name
        assert (block.title, block.caption.endswith(".")) != ("", False)
        assert b"Software" not in png
        assert not re.search(r"<dc:date>|[Mm]atplotlib v|\b20\d\d-\d\d", svg)
        # letters are outlines: else a drawing would look different where another font is installed
        assert "<text" not in svg


def test_nothing_to_show_is_a_sentence_or_nothing(results, drawn, tmp_path):
    results.fail("oom")
    for name, (block, _, _) in drawn().items():
        assert block is None or "no figure." in block.text, name
    assert list((tmp_path / "a").iterdir()) == []


def test_one_seed_and_one_row_are_drawn(results, drawn):
    results.twin()
    results.add()
    found = drawn()
    assert {name for name, (_, png, _) in found.items() if png} == {"tradeoff", "forest", "flips", "curves"}
    assert "one seed" in words(found["forest"][2])


def test_a_name_with_dollars_is_no_mathematics(results, drawn):
    cell = {"task": "a$\\frac$b", "model": "$x^$"}
    for seed in range(3):
        results.twin(seed, cell=cell)
        results.add("2:4", "$\\bad$", seed, cell=cell)
    assert "2:4 $\\bad$" in words(drawn("forest", task=cell["task"])["forest"][2])


def test_what_is_too_much_is_left_out_in_words(results, drawn):
    results.twin()
    for place in range(40):
        results.add("2:4", "sr-ste", cell={"hyper": {"a_setting_with_a_long_name": place}})
    found = drawn("forest", "tradeoff", "curves")
    assert "the first 30 of 40 rows" in found["forest"][0].caption
    assert "the first 16 of 41 methods and settings" in found["tradeoff"][0].caption
    assert "the first 12 of up to 41 lines" in found["curves"][0].caption


# -- what each says -------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("many")
def test_the_forest_names_rows_and_verdicts(drawn):
    said = set(words(drawn("forest")["forest"][2]))
    assert {"2:4 ste", "1:16 sr-ste", "worse", "difference in top1 (%), right is better"} <= said
    loss = drawn("forest", folder="b", task="translation")["forest"][2]
    assert "difference in loss (nats), left is better" in words(loss)


@pytest.mark.usefixtures("many")
def test_the_first_figure_has_a_panel_a_task_and_what_is_saved(drawn):
    said = words(drawn("tradeoff")["tradeoff"][2])
    assert {"classification", "translation", "MACs, share of dense", "difference in loss (nats)", "1:16"} <= set(said)


def test_measured_speed_has_a_figure_of_its_own(results, drawn):
    timed = {"batch": 8, "dense_ms": 2.0, "converted_ms": 1.5, "ratio": 4 / 3}
    results.twin()
    assert drawn("speed-tradeoff", folder="b")["speed-tradeoff"][0] is None
    results.add(speed={"device": "Example GPU", "dtype": "float16", "how": "wall", "type": "cuda", "rows": [timed]})
    block, _, svg = drawn("speed-tradeoff")["speed-tradeoff"]
    assert block.title == "Quality against speed"
    assert "measured time of inference, share of dense" in words(svg)
    assert "MACs, share of dense" in words(drawn("tradeoff", folder="c")["tradeoff"][2])


@pytest.mark.usefixtures("many")
def test_flips_by_layer_are_per_weight_one_panel_a_pattern(many, drawn):
    block, _, svg = drawn("layers")["layers"]
    assert "mean over 3 seeds" in block.caption
    said = {text.replace("\N{NO-BREAK SPACE}", " ") for text in words(svg)}
    assert {"2:4", "1:16", "ste", "sr-ste", "body (73.7 k)"} <= said
    loaded = load(many.folder)
    found = layer_flips(next(row for row in compare(loaded.frame) if row.name == "2:4 ste"), loaded.records)
    assert (found.names, found.sizes, found.seeds) == (LAYERS, (128 * 64 * 9, 96 * 96), 3)
    assert found.total.tolist() == pytest.approx([200 / (128 * 64 * 9), 200 / 96**2])


# -- the parts ------------------------------------------------------------------------------------------------------
def test_a_method_keeps_its_colour_and_no_two_rows_look_alike(many):
    rows = compare(load(many.folder).frame)
    all_of, some = styles(rows), styles(row for row in rows if row.method != "sr-ste")
    assert all_of["ste"].colour == some["ste"].colour
    looks = [(style.colour, style.marker) for style in all_of.values()]
    assert len(set(looks)) == len(looks)
    assert set(all_of) >= {row.label for row in rows}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20), st.booleans())
def test_every_point_is_beaten_by_the_front_or_on_it(points, higher):
    turn = 1 if higher else -1
    best = [points[place] for place in front(points, higher)]
    assert all(any(x <= px and turn * y >= turn * py for x, y in best) for px, py in points)
    costs = [x for x, _ in best]
    assert costs == sorted(set(costs))


def test_names_are_cut_in_the_middle_and_lists_at_the_end():
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert shorten("abc", 5) == "abc"
    assert few([1, 2, 3], 2, "rows") == ([1, 2], " Drawn are the first 2 of 3 rows.")
    assert few([1, 2], 2, "rows") == ([1, 2], "")


def test_tasks_of_one_slug_have_figures_of_their_own():
    assert slugs(["a/b", "a-b", "ä b"]) == {"a/b": "a-b", "a-b": "a-b-2", "ä b": "-b"}
