"""Each check of the battery catches the plugin that breaks its promise, and no other check does.

`tests/bad_plugins/` breaks the promise of each check, in a class or a file of its name; `_good.py` keeps them all.
"""

import inspect
from pathlib import Path

import pytest

from nmbench.plan.describe import load_task
from nmbench.testing import Failed, Skip, check, check_method, check_task, isolation, training_checks
from nmbench.testing.battery import run as run_checks
from nmbench.testing.bench import Bench
from nmbench.testing.isolation import ISOLATION_CHECKS
from nmbench.testing.method_checks import METHOD_CHECKS
from nmbench.testing.task_checks import TASK_CHECKS

BAD = Path(__file__).parent.parent / "bad_plugins"


def bad(name: str) -> str:
    """The task that breaks the promise of this check: a file where its import does, else a class."""
    file = BAD / f"{name.replace('-', '_')}.py"
    return f"path:{file}" if file.exists() else f"bad_tasks:{camel(name)}"


def camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


@pytest.fixture(autouse=True)
def _find_the_good_one(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BAD))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_a_good_task_passes_every_check_and_skips_none():
    battery = check_task(load_task("_good:Good"))
    assert battery.failed == ()
    assert battery.count("passed") == len(battery.outcomes) == len(TASK_CHECKS) + len(ISOLATION_CHECKS)
    battery.raise_for_failures()


@pytest.mark.parametrize("name", [one.name for one in TASK_CHECKS])
def test_the_check_catches_what_it_is_for(name, monkeypatch):
    if name == "smoke-is-short":
        monkeypatch.setattr(training_checks, "SMOKE_S", 0.5)
    battery = check_task(load_task(bad(name)), in_process=True)
    assert battery.failed == (name,)
    with pytest.raises(AssertionError, match=battery.failed[0]):
        battery.raise_for_failures()


@pytest.mark.slow
@pytest.mark.parametrize("name", [one.name for one in ISOLATION_CHECKS])
def test_the_check_in_a_process_of_its_own_catches_what_it_is_for(name, monkeypatch, tmp_path):
    """And no other check that reads what the same process said."""
    monkeypatch.setattr(isolation, "IMPORT_S", 2.0)
    alike = [one for one in ISOLATION_CHECKS if one.name.startswith("importing") == name.startswith("importing")]
    assert run_checks("it", alike, Bench(load_task(bad(name)), tmp_path)).failed == (name,)


def methods():
    import methods as module

    return {name: cls for name, cls in vars(module).items() if inspect.isclass(cls) and cls.__module__ == "methods"}


@pytest.mark.parametrize("one", METHOD_CHECKS, ids=lambda one: one.name)
def test_the_check_of_methods_catches_what_it_is_for(one):
    assert check_method(methods()[camel(one.name)]).failed == (one.name,)


def test_weights_that_do_not_load_again_are_a_failure():
    outcomes = check_task(load_task("bad_tasks:Grows"), in_process=True).outcomes
    (failed,) = [one for one in outcomes if one.name == "sparse-weights-matter"]
    assert failed.status == "failed"
    assert "what it saved does not load into what it builds" in failed.message
    assert "'extra'" in failed.message


def test_a_good_method_passes_every_check():
    assert check_method(methods()["HoldsFromTheStart"]).count("passed") == len(METHOD_CHECKS)


# -- the battery itself -------------------------------------------------------------------------------------------


@check("always fails")
def fails(_):
    raise Failed("as it should")


@check("cannot be made")
def skips(_):
    raise Skip("no reason to")


@check("stumbles")
def stumbles(_):
    raise KeyError("x")


@check("passes")
def passes(_):
    pass


def statuses(*checks, expected=None):
    return {o.name: o.status for o in run_checks("it", checks, None, expected).outcomes}


def test_every_ending_is_told_apart():
    assert statuses(fails, skips, stumbles, passes) == {
        "fails": "failed",
        "skips": "skipped",
        "stumbles": "failed",
        "passes": "passed",
    }


def test_an_expected_failure_is_counted_apart_and_one_that_passes_fails():
    assert statuses(fails, passes, expected={"fails": "known"}) == {"fails": "expected failure", "passes": "passed"}
    assert statuses(passes, expected={"passes": "once broken"}) == {"passes": "failed"}
    assert statuses(skips, passes, expected={"skips": "known"}) == {"skips": "skipped", "passes": "passed"}


def test_an_expected_failure_of_no_check_is_refused():
    with pytest.raises(ValueError, match="no check: typo"):
        run_checks("it", [passes], None, {"typo": "?"})


def test_a_battery_that_ran_nothing_is_not_ok():
    battery = run_checks("it", [skips], None)
    assert (battery.ok, battery.ran) == (False, 0)
    with pytest.raises(AssertionError, match="no check ran"):
        battery.raise_for_failures()


# -- the command line ---------------------------------------------------------------------------------------------


def test_the_command_prints_each_check_and_the_counts(nmbench):
    done = nmbench("check", "sr-ste", "dense")
    assert done.returncode == 0, done.stderr
    assert "ran               pattern-is-kept" in done.stdout
    assert f"method dense: {len(METHOD_CHECKS)} passed, 0 skipped, 0 expected failure, 0 failed" in done.stdout


@pytest.mark.slow
def test_a_failed_check_is_exit_status_1_and_says_how_beside_others_too(tmp_path, nmbench):
    folder = tmp_path / "plugins"
    folder.mkdir()
    source = (BAD / "_good.py").read_text().replace("class Good", "class Bad").replace('"good"', '"bad"')
    source = source.replace('Metric("accuracy", "%", margin=2.0), ', 'Metric("accuracy", "%"), ')
    (folder / "bad.py").write_text(source)
    done = nmbench("check", "bad", "dense", "--plugins", str(folder), "--workers", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED            declarations-are-complete" in done.stdout
    assert "has no margin" in done.stdout
    assert done.stdout.index("task bad: ") < done.stdout.index("method dense: ")


def test_an_unknown_name_is_exit_status_2(nmbench):
    done = nmbench("check", "no-such")
    assert done.returncode == 2
    assert "there is no task, method, pruner or backend 'no-such'; there are: admm, alps, asp, ast" in done.stderr
    assert done.stderr.count("dense") == 1
    assert "'tritn'; did you mean 'triton'?" in nmbench("check", "tritn").stderr
