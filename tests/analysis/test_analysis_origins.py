"""Like is compared with like: code, plugin and data of one task with those of the same task."""

import pytest

from nmbench.analysis.origins import mixture, origins
from nmbench.records.frame import load


def environment(record_factory, **changes):
    return {**record_factory[1]()["environment"], **changes}


def test_each_task_has_code_of_its_own_and_that_is_no_mixture(results, factory):
    for task, code in (("classification", "c0de-a"), ("translation", "c0de-b")):
        results.add(cell={"task": task}, environment=environment(factory, code=code), data={"fingerprint": task})
    records = load(results.folder).records
    assert mixture(records) == {}
    assert dict(origins(records)["code of translation"]) == {"b": 1}


def test_two_codes_of_one_task_are_a_mixture(results, factory):
    for seed, code in enumerate(("c0de-old", "c0de-new")):
        results.add(seed=seed, environment=environment(factory, code=code))
    assert mixture(load(results.folder).records) == {"code of classification": {"old": 1, "new": 1}}


def test_another_machine_is_a_mixture_between_tasks_too(results, factory):
    for task, cpu in (("classification", "one"), ("translation", "other")):
        results.add(cell={"task": task}, environment=environment(factory, cpu=cpu))
    assert mixture(load(results.folder).records) == {"cpu": {"one": 1, "other": 1}}


def test_a_method_with_code_of_its_own_is_no_mixture_with_its_dense_twin(results, factory):
    results.twin(environment=environment(factory, code="c0de-a"))
    results.add(method="own", environment=environment(factory, code="c0de-a-b"))
    assert mixture(load(results.folder).records) == {}


@pytest.mark.slow
def test_a_fresh_run_of_two_tasks_has_no_banner(project):
    file = project.folder / "toys.toml"
    file.write_text(file.read_text().replace('["toy"]', '["toy", "ranked"]'))
    project.run("run", "--device", "cpu")
    records = load(project.folder / "results" / "toys").records
    codes = origins(records)
    assert codes["code of toy"].keys() != codes["code of ranked"].keys()
    project.run("report")
    assert "Mixed origins" not in (project.folder / "reports" / "toys" / "README.md").read_text()
