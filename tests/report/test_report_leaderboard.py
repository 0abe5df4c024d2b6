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
    ranks = [["2:4", "1", "asp", "3"], ["2:4", "1", "sr-ste", "3"], ["2:4", "3", "ste", "3"]]
    assert [row[1:5] for row in shown(found)] == ranks
    assert shown(found)[0][5] == "-"
    assert shown(found)[1][5].startswith("-0.03 % [-")
    assert shown(found)[2][5].startswith("-0.57 % [-")


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
    assert shown(table(leaderboard))[-1][1:6] == ["2:4", "not ranked", "one-shot", "1 seed", "-"]


def test_seeds_that_are_not_shared_tell_nothing(results, table):
    add(results, "ste", 0.0, 0.1, -0.1)
    for seed in (3, 4, 5):
        results.add("2:4", "asp", seed, value=99.0 + seed)
    assert [row[2:4] for row in shown(table(leaderboard))] == [["1", "asp"], ["1", "ste"]]


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


def timed(ms, alone=True, **more):
    return {"step_ms_median": ms, "alone": alone, "resumed": False, **more}


def costs(results, table):
    found = table(leaderboard)
    columns = [column.key for column in found.columns]
    return {row[3]: dict(zip(columns[6:], row[6:], strict=True)) for row in shown(found)}


def test_the_cost_of_each_method_stands_beside_its_rank(results, table):
    for seed in range(3):
        results.twin(seed, timings=timed(20.0))
        results.add("2:4", "ste", seed, timings=timed(22.0 + seed), memory={"method_bytes": 2048})
        cost = {"training_passes": 2.0}
        results.add("2:4", "asp", seed, value=85.0 + seed, timings=timed(20.0, alone=False), cost=cost)
    assert costs(results, table) == {
        "asp": {"step": "-", "passes": "2", "state": "-"},
        "ste": {"step": "1.15×", "passes": "1", "state": "2.00 KiB"},
    }


def test_times_of_a_resumed_cell_or_of_another_machine_are_not_compared(results, table):
    for seed in range(3):
        results.twin(seed, timings=timed(20.0))
        results.add("2:4", "ste", seed, timings=timed(22.0, resumed=True))
        elsewhere = {"cpu": "another", "gpu": None}
        results.add("2:4", "asp", seed, value=85.0 + seed, timings=timed(22.0), environment=elsewhere)
    assert all("step" not in cells for cells in costs(results, table).values())


def test_a_distilled_cell_is_a_row_of_its_own(results, table):
    add(results, "ast", 0.0, 0.1, -0.1)
    add(results, "ast", 1.0, 1.1, 1.0, cell={"distill": {"weight": 0.67, "temperature": 2}})
    assert [row[3] for row in shown(table(leaderboard))] == ["ast (distill: temperature=2, weight=0.67)", "ast"]


def test_many_methods_have_a_table_for_each_pattern(results, blocks):
    for pattern in ("2:4", "1:4"):
        for place in range(13):
            add(results, f"method-{place:02}", *(0.1 * place + noise for noise in (0.0, 0.1, -0.1)), pattern=pattern)
    (section,) = blocks(leaderboard)
    assert [(one.title, len(one.rows)) for one in section.content] == [
        ("Leaderboard at 2:4", 13),
        ("Leaderboard at 1:4", 13),
    ]
