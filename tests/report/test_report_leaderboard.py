"""Methods ranked on equal seeds, ties where the seeds do not tell. `pytest tests/report/test_report_leaderboard.py`"""

from cells import shown

from nmbench.document.model import Prose
from nmbench.report.sections.leaderboard import leaderboard

TOP1 = {"name": "top1", "unit": "%", "higher_is_better": True, "margin": 1.0}
#: the spread that all methods of one seed share
SHARED = (0.0, 2.0, 4.0, 1.0)


def add(results, method, *gaps, pattern="2:4", **changes):
    for seed, gap in enumerate(gaps):
        results.add(pattern, method, seed, value=80.0 + SHARED[seed] + gap, **changes)


def test_methods_are_ranked_by_paired_differences(results, table):
    # the spread over seeds is far larger than the differences: only pairs tell them apart
    add(results, "ste", 0.0, 0.1, -0.1)
    add(results, "sr-ste", 0.5, 0.6, 0.5)
    add(results, "asp", 0.4, 0.8, 0.5)
    found = table(leaderboard)
    assert [column.title for column in found.columns[1:5]] == ["Pattern", "Rank", "Method", "Seeds"]
    # asp has the better mean, and its pairs with sr-ste do not tell
    assert [row[1:5] for row in shown(found)] == [["2:4", "1", "asp, sr-ste", "3"], ["2:4", "3", "ste", "3"]]
    assert shown(found)[0][5] == "-"
    assert shown(found)[1][5].startswith("-0.57 % [-")


def test_nothing_is_ranked_on_two_seeds(results, blocks):
    add(results, "ste", 0.0, 0.1)
    assert blocks(leaderboard) == ()  # one method is no leaderboard
    add(results, "asp", 5.0, 5.1)
    (section,) = blocks(leaderboard)
    assert section.content == (Prose("Nothing is ranked: it takes 3 seeds of two methods at one pattern of one task."),)


def test_a_method_with_one_seed_is_named_not_ranked(results, table):
    add(results, "ste", 0.0, 0.1, -0.1)
    add(results, "asp", 1.0, 1.1, 1.0)
    add(results, "one-shot", 9.0)
    assert shown(table(leaderboard))[-1][1:] == ["2:4", "not ranked", "one-shot", "1 seed", "-"]


def test_seeds_that_are_not_shared_tell_nothing(results, table):
    add(results, "ste", 0.0, 0.1, -0.1)
    for seed in (3, 4, 5):
        results.add("2:4", "asp", seed, value=99.0 + seed)
    assert [row[2:4] for row in shown(table(leaderboard))] == [["1", "asp, ste"]]


def test_patterns_and_tasks_have_ranks_of_their_own(results, table):
    for pattern in ("2:4", "1:4"):
        for task, metric in (("a", TOP1), ("b", {**TOP1, "higher_is_better": False})):
            add(results, "ste", 0.0, 0.1, -0.1, pattern=pattern, cell={"task": task}, metric=metric)
            add(results, "asp", 1.0, 1.1, 1.0, pattern=pattern, cell={"task": task}, metric=metric)
    found = table(leaderboard)
    assert found.columns[0].title == "Setting"
    assert [tuple(row[:4]) for row in shown(found)] == [
        (task, pattern, rank, method)
        for task, order in (("a", ("asp", "ste")), ("b", ("ste", "asp")))
        for pattern in ("2:4", "1:4")
        for rank, method in zip("12", order, strict=True)
    ]
