"""Whatever stands in one record, nothing crashes: it is a row or it is named, and everything after it goes on."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmbench.analysis.study import Study
from nmbench.analysis.two_sets import between
from nmbench.claims import judge
from nmbench.claims.published import beside, published_table
from nmbench.claims.section import claims_section
from nmbench.document.markdown import markdown
from nmbench.records.frame import load
from nmbench.report.sections import intro, leaderboard, overview, quality, remarks, seeds
from nmbench.report.sections.two_sets import page

SAD = {
    **{"pattern": "2:4", "weights": 100, "total": 50, "per_layer": {"a": 20, "b": 30}, "uncounted": 0},
    **{"step": [1, 2, 3, 4], "flips": [20, 10, 10, 10]},
    "layers": {"step": [2, 4], "flips": {"a": [10, 10], "b": [20, 10]}},
    "snapshots": {"steps": [0, 4], "consecutive": [30], "first_last": 30},
}
TIMED = {"batch": 8, "dense_ms": 2.0, "converted_ms": 1.5, "ratio": 1.3}
SPEED = {"device": "cpu", "dtype": "float32", "rows": [TIMED]}
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**20), 1e308, float("nan"), float("inf"), -0.5]),
    st.sampled_from(["", "x", "2:4", "dense", "ok", "0:0", "{", "\x00", "a|b\n<b>"]),
    st.sampled_from([[], {}, [1], ["x"], [None], {"x": 1}, [[1]], {"lambda_w": "x"}, {"lambda_w": 0.0}]),
)
SECTIONS = (
    *(intro.outcome, intro.cautions, overview.patterns_by_tasks, leaderboard.leaderboard),
    *(quality.table, quality.others, seeds.precision, seeds.over_evaluation, remarks.remarks),
)


def paths(value, at=()):
    """Every place in a nested value."""
    if at:
        yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in inner:
        yield from paths(part, (*at, key))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory, factory):
    """Three seeds of dense, STE, ASP and SR-STE, and the file of one of them, which the test replaces."""
    results_, make_record = factory
    results = results_(tmp_path_factory.mktemp("fuzz") / "results" / "quick")
    for seed in range(3):
        for method in ("dense", "ste", "asp", "sr-ste"):
            pattern = "dense" if method == "dense" else "2:4"
            record = make_record(pattern, method, seed, value=80.0 + seed, sad=SAD, speed=SPEED)
            file = results.put(json.dumps(record), record["cell"], record["cell_id"])
    return results.folder, file, record


def everything(folder):
    """All that is made of a folder's records, figures and page apart."""
    study = Study.of(load(folder), folder)
    found = [
        claims_section(judge(study.loaded, study.rows)),
        published_table(beside(study.rows, study.loaded.records)),
        markdown(page(study.loaded, study.loaded, ("a", "b"), between(study.loaded, study.loaded))),
        [list(section(study, study.rows)) for section in SECTIONS if study.rows],
    ]
    return study.loaded, found


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_record_with_anything_in_it_is_a_row_or_is_named(healthy, data):
    folder, file, record = healthy
    places = st.sampled_from(sorted(paths(record), key=str))
    changes = data.draw(st.lists(st.tuples(places, JUNK | st.just("delete")), min_size=1, max_size=3))
    broken = copy.deepcopy(record)
    for path, junk in changes:
        at = broken
        try:
            for key in path[:-1]:
                at = at[key]
            if junk == "delete":
                del at[path[-1]]
            else:
                at[path[-1]] = copy.deepcopy(junk)  # else a later change could put it into itself
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    file.write_text(json.dumps(broken))
    loaded, _ = everything(folder)
    assert len(loaded.frame) + len(loaded.unreadable) == 12
    assert loaded.unfinished == 0
    for one in loaded.unreadable:
        assert one.reason
        assert "\n" not in one.reason


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 3000))
def test_half_a_record_is_named(healthy, cut):
    folder, file, record = healthy
    whole_text = json.dumps(record)
    file.write_text(whole_text[: min(cut, len(whole_text) - 1)])
    loaded, _ = everything(folder)
    assert (len(loaded.frame), len(loaded.unreadable)) == (11, 1)


def test_the_healthy_folder_is_judged(healthy):
    """Or the tests above would be green with nothing to judge."""
    folder, file, record = healthy
    file.write_text(json.dumps(record))
    loaded, (claims, *_) = everything(folder)
    assert len(loaded.frame) == 12
    assert {row[0].text for row in claims.content[0].rows} == {"C1", "C2", "C3", "C4", "C6", "C8", "C9"}
