"""The figures: what is drawn, what is left out in words, equal bytes. `pytest tests/report/test_report_figures.py`"""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmbench.analysis.rows import compare
from nmbench.analysis.series import layer_flips
from nmbench.records.frame import load
from nmbench.report.panels import few, shorten, styles
from nmbench.report.scale import edge, spread
from nmbench.report.sections.cost_figure import front
from nmbench.report.sections.figures import draw, draw_overall
from nmbench.report.sections.heat_map import in_margins
from nmbench.sparsity.pattern import NMPattern

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = ("quality", "forest", "methods", "cost", "sad", "layers", "curves")
LAYERS = ("body.weight", "gate.weight")
# between a number and the next one there may be no room for a centre
FINITE = st.floats(-100, 100, allow_subnormal=False)


def by_layer(total=100, bins=4):
    """`sad` by layer as a study cell has it: body has 128*64*9 weights, gate 96*96."""
    steps = [10 * (place + 1) for place in range(bins)]
    flips = dict.fromkeys(LAYERS, [total // bins] * bins)
    return {
        **{"pattern": "2:4", "weights": 128 * 64 * 9 + 96 * 96, "total": 2 * total, "step": steps},
        **{"flips": [2 * total // bins] * bins, "per_layer": dict.fromkeys(LAYERS, total)},
        "layers": {"step": steps, "flips": flips},
    }


@pytest.fixture
def study(results):
    """Three seeds, two patterns, two methods and a second setting of one of them; another task with a loss."""
    loss = {"name": "loss", "unit": "nats", "higher_is_better": False, "margin": 0.1}
    for seed in range(3):
        results.twin(seed, value=80.0 + seed, sad=by_layer(80))
        results.twin(seed, value=1.0, metric=loss, cell={"task": "translation"})
        results.add("2:4", "ste", seed, value=1.2, metric=loss, cell={"task": "translation"})
        for pattern in ("2:4", "1:16"):
            for method in ("ste", "sr-ste"):
                value = 80.0 + seed - 3 / NMPattern.parse(pattern).density / 8 + 0.1 * seed
                results.add(pattern, method, seed, value=value, sad=by_layer(200 if method == "ste" else 100))
        results.add("2:4", "sr-ste", seed, value=20.0, cell={"hyper": {"lambda_w": -1.0}})
    return results


def drawn(results, folder, task="classification"):
    """Everything that a report draws: name -> (Drawn, its PNG, its SVG as text)."""
    folder.mkdir(exist_ok=True)
    loaded = load(results.folder)
    rows = compare(loaded.frame)
    found = draw("t", [row for row in rows if row.setting.task == task], loaded.records, folder)
    pairs = [*zip(NAMES, found, strict=True), ("overall", draw_overall(rows, folder)[0])]
    files = {one.file: folder / one.file for _, one in pairs if one.file}
    texts = {name: file.with_suffix(".svg").read_text() for name, file in files.items()}
    return {
        name: (one, files[one.file].read_bytes() if one.file else b"", texts.get(one.file, "")) for name, one in pairs
    }


def words(svg):
    """The texts of an SVG whose letters are outlines: matplotlib leaves each as a comment."""
    return re.findall(r"<!-- (.*?) -->", svg)


def test_every_figure_is_a_png_and_an_svg(study, tmp_path):
    for name, (one, png, svg) in drawn(study, tmp_path / "a").items():
        assert png.startswith(PNG), name
        assert svg.rstrip().endswith("</svg>"), name
        assert (one.title, one.caption.endswith(".")) != ("", False)


def test_equal_records_give_equal_figures(study, tmp_path):
    one, two = drawn(study, tmp_path / "a"), drawn(study, tmp_path / "b")
    assert one == two
    for _, png, svg in one.values():
        assert b"Software" not in png
        assert "<dc:date>" not in svg
        assert not re.search(r"[Mm]atplotlib v|\b20\d\d-\d\d", svg)


def test_letters_are_outlines(study, tmp_path):
    # else a drawing would look different where another font is installed
    assert all("<text" not in svg for _, _, svg in drawn(study, tmp_path / "a").values())


def test_a_readers_own_settings_change_nothing(study, tmp_path):
    import matplotlib

    one = drawn(study, tmp_path / "a")
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "none", "axes.facecolor": "red", "savefig.dpi": 30}):
        two = drawn(study, tmp_path / "b")
    assert one == two


def test_nothing_to_show_is_a_sentence(results, tmp_path):
    results.fail("oom")
    for name, (one, _, _) in drawn(results, tmp_path / "a").items():
        assert one.file is None, name
        assert one.caption.endswith(".")
    assert list((tmp_path / "a").iterdir()) == []


def test_one_seed_and_one_row_are_drawn(results, tmp_path):
    results.twin()
    results.add()
    found = drawn(results, tmp_path / "a")
    assert {name for name, (one, _, _) in found.items() if one.file} == {"quality", "forest", "cost", "sad", "curves"}
    assert "one seed" in words(found["forest"][2])
    assert "one seed, bars" in found["quality"][0].caption


def test_values_that_are_no_numbers_stop_nothing(results, tmp_path):
    for seed in range(3):
        results.twin(seed, value=80.0 + seed)
        results.add("2:4", "ste", seed, value=1e100 * (seed + 1))
        results.add("2:4", "sr-ste", seed, metrics={"top1": None})
        results.add("1:4", "odd", seed, cell={"pattern": "odd"})
    found = drawn(results, tmp_path / "a")
    assert all(png for name, (_, png, _) in found.items() if name in ("quality", "forest", "cost"))


def test_what_is_too_much_is_left_out_in_words(results, tmp_path):
    results.twin(model="x")
    for place in range(40):
        results.add("2:4", "sr-ste", cell={"hyper": {"a_setting_with_a_long_name": place}})
    found = drawn(results, tmp_path / "a")
    assert "the first 30 of 40 rows" in found["forest"][0].caption
    assert all("the first 16 of 41 methods and settings" in found[name][0].caption for name in ("quality", "cost"))
    assert "the first 12 of up to 41 lines" in found["curves"][0].caption


# -- forest and heat map --------------------------------------------------------------------------------------------
def test_the_forest_names_rows_and_verdicts(study, tmp_path):
    _, _, svg = drawn(study, tmp_path / "a")["forest"]
    assert {"2:4 ste", "1:16 sr-ste", "worse", "difference in top1 (%), right is better"} <= set(words(svg))
    # the wild row stands at the edge with its number
    assert any(text.startswith("←") for text in words(svg))
    loss = drawn(study, tmp_path / "b", "translation")["forest"][2]
    assert "difference in loss (nats), left is better" in words(loss)


def test_a_heat_map_prints_difference_and_verdict(study, tmp_path):
    one, _, svg = drawn(study, tmp_path / "a")["overall"]
    said = words(svg)
    assert {"classification", "translation", "2:4 ste", "undecided"} & set(said) >= {"classification", "2:4 ste"}
    assert any(text.startswith("+0.200") for text in said)
    assert "of the task's margin" in one.caption


def test_margins_are_turned_so_that_positive_is_better(study):
    rows = {
        (row.setting.task, row.pattern_text, row.method, row.hyper): row for row in compare(load(study.folder).frame)
    }
    assert in_margins(rows["translation", "2:4", "ste", "{}"]) == pytest.approx(-2.0)
    assert in_margins(rows["classification", "2:4", "sr-ste", '{"lambda_w":-1}']) == pytest.approx(-61.0)
    assert math.isnan(in_margins(rows["translation", "dense", "dense", "{}"]))


# -- by layer -------------------------------------------------------------------------------------------------------
def test_flips_by_layer_are_per_weight(study):
    loaded = load(study.folder)
    row = next(row for row in compare(loaded.frame) if (row.pattern_text, row.method) == ("2:4", "ste"))
    found = layer_flips(row, loaded.records)
    assert found.names == LAYERS
    assert found.sizes == (128 * 64 * 9, 96 * 96)
    assert found.total.tolist() == pytest.approx([200 / (128 * 64 * 9), 200 / 96**2])
    assert found.edges.tolist() == [0, 10, 20, 30, 40]
    assert found.rate[1].tolist() == pytest.approx([50 / 10 / 96**2] * 4)
    assert found.seeds == 3


def test_records_without_steps_by_layer_still_have_totals(results, tmp_path):
    results.twin()
    results.add(sad={key: value for key, value in by_layer().items() if key != "layers"})
    one, _, svg = drawn(results, tmp_path / "a")["layers"]
    assert "Right:" not in one.caption
    assert "body (73.7 k)" in [text.replace("\N{NO-BREAK SPACE}", " ") for text in words(svg)]


@pytest.mark.parametrize("step", [[0, 10, 20, 30], [10, 20, None, 30]])
def test_steps_that_do_not_rise_are_no_series(results, step):
    sad = by_layer()
    sad["layers"]["step"] = step
    results.add(sad=sad)
    loaded = load(results.folder)
    (found,) = (layer_flips(row, loaded.records) for row in compare(loaded.frame))
    assert (found.edges.size, found.rate.shape, found.seeds) == (0, (2, 0), 1)


def test_strips_put_ste_beside_sr_ste(study, tmp_path):
    one, _, svg = drawn(study, tmp_path / "a")["layers"]
    assert "all on one colour scale" in one.caption
    titles = [text for text in words(svg) if text in ("2:4", "ste", "sr-ste", "dense", "1:16")]
    assert {"2:4", "1:16", "ste", "sr-ste"} <= set(titles)


# -- the parts ------------------------------------------------------------------------------------------------------
def test_a_method_keeps_its_colour_and_no_two_rows_look_alike(study):
    rows = compare(load(study.folder).frame)
    all_of, some = styles(rows), styles(row for row in rows if row.method != "sr-ste")
    assert all_of["ste"].colour == some["ste"].colour
    looks = [(style.colour, style.marker) for style in all_of.values()]
    assert len(set(looks)) == len(looks)
    assert set(all_of) >= {row.label for row in rows}


def test_the_front_is_what_nothing_beats():
    points = [(1.0, 90.0), (0.5, 92.0), (0.5, 85.0), (0.2, 80.0), (2.0, 92.0), (0.2, 80.0)]
    assert front(points, True) == [3, 1]
    assert front([(1.0, 3.0), (0.5, 4.0), (2.0, 1.0)], False) == [1, 0, 2]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20), st.booleans())
def test_every_point_is_beaten_by_the_front_or_on_it(points, higher):
    turn = 1 if higher else -1
    best = [points[place] for place in front(points, higher)]
    assert all(any(x <= px and turn * y >= turn * py for x, y in best) for px, py in points)
    costs = [x for x, _ in best]
    assert costs == sorted(set(costs))


@given(st.lists(FINITE, min_size=1, max_size=30), FINITE)
def test_most_values_and_the_centre_are_inside(values, centre):
    low, high = spread(values, centre)
    assert low < centre < high
    outside = sum(edge(value, (low, high))[1] != 0 for value in values)
    assert outside <= max(1, 0.2 * len(values))


def test_only_a_wild_value_is_outside():
    assert spread([1.0, 2.0, 3.0, 1000.0], 0.0)[1] < 4
    assert spread([1.0, 2.0, 3.0, 8.0], 0.0)[1] > 8
    assert spread([math.nan, math.inf, 5.0], 5.0) == pytest.approx((4.75, 5.25))


def test_names_are_cut_in_the_middle_and_lists_at_the_end():
    assert shorten("abcdefghij", 5) == "ab…ij"
    assert shorten("abc", 5) == "abc"
    assert few([1, 2, 3], 2, "rows") == ([1, 2], " Drawn are the first 2 of 3 rows.")
    assert few([1, 2], 2, "rows") == ([1, 2], "")
