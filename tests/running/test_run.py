"""From a matrix file to records, with real worker processes."""

import json

from nmbench.contract.samples import read


def test_run_does_everything_once_and_then_nothing(project):
    out = project.run("run")
    assert "2 done now, 0 before, 0 failed" in out
    assert {r["cell"]["pattern"] for r in project.records()} == {"dense", "2:4"}
    assert "nothing to do, 2 cells are done" in project.run("run")
    assert len(project.records()) == 2


def test_the_record_says_what_a_report_needs(trained):
    record = trained.ok("2:4")
    assert record["metrics"]["accuracy"] > 60
    assert record["audit"]["ok"]
    assert record["audit"]["density"] == 0.5
    assert {layer["role"] for layer in record["audit"]["layers"]} == {"sparse", "dense"}
    assert record["sad"]["weights"] == 16 * 32 + 32 * 16
    assert len(record["sad"]["flips"]) == 20
    assert sum(record["sad"]["flips"]) == record["sad"]["total"] == sum(record["sad"]["per_layer"].values())
    assert record["sad"]["snapshots"]["steps"] == [0, 1, 2, 4, 8, 16, 20]
    assert record["cost"]["macs_dense"] == 16 * 32 * 2 + 32
    assert record["cost"]["macs_effective"] == 16 * 32 + 32
    assert record["timings"]["alone"] is True
    assert record["timings"]["steps"] == 20
    assert record["data"]["counts"] == {"train": 64, "val": 64}
    assert record["command"].endswith(f"--only {record['cell_id']}")
    dense = trained.ok("dense")
    assert dense["audit"]["pattern"] is None
    assert dense["sad"]["total"] > 0  # the shadow mask of the dense run moves too


def test_what_a_task_stores_is_kept_and_shown(trained):
    record = trained.ok("2:4")
    assert record["baselines"] == {"chance": {"accuracy": 50.0}}
    assert record["facts"] == {"examples": 32}
    assert record["notes"] == ["made up", "a toy"]
    (folder,) = trained.folder.glob("results/toys/toy/*2x4*/attempt-1")
    answers = json.loads((folder / "texts.json").read_text())["answers"]
    correct = json.loads((folder / "per_example.json").read_text())["correct"]
    assert [answer == "yes" for answer in answers] == [value == 1.0 for value in correct]
    first, second = read(folder / "samples.json")
    assert (first.name, second.name) == ("example 0", "example 1")
    assert (first.given["truth"] == first.output["answer"]) == (answers[0] == "yes")
    trained.run("report")
    page = (trained.folder / "reports" / "toys" / "README.md").read_text()
    assert "For scale: chance reaches accuracy 50 %." in page
    assert "2:4 sr-ste" in page.split("**Examples**")[1]


def test_the_record_names_no_person_and_no_place(project):
    project.matrix(train='{ fail = "error" }')
    project.run("run", expect=1)
    for record in project.records():
        assert str(project.folder) not in json.dumps(record)
    for trace in project.folder.glob("results/**/traceback.txt"):
        assert str(project.folder) not in trace.read_text()


def test_trap_7_twins_see_the_same_batches_and_take_as_many_steps(project):
    project.matrix(method='["sr-ste", "ste", "one-shot"]')
    project.run("run", "--trace-batches")
    traces = [p.read_text().split() for p in project.folder.glob("results/toys/toy/*/attempt-1/batches.txt")]
    assert len(traces) == 4
    assert len(set(traces[0])) == 20
    assert all(trace == traces[0] for trace in traces)


def test_asp_trains_the_schedule_twice(project):
    project.matrix(method='"asp"')
    project.run("run")
    record = project.ok("2:4")
    assert record["timings"]["steps"] == 40
    assert record["cost"]["training_passes"] == 2
    assert record["curve"]["phase"] == [0] * 20 + [1] * 20


def test_equal_n_and_m_is_bit_equal_to_dense(project):
    project.matrix(pattern='"4:4"')
    project.run("run")
    assert project.weights("4:4") == project.weights("dense")
    assert project.ok("4:4")["metrics"] == project.ok("dense")["metrics"]


def test_init_starts_from_given_weights(trained, another):
    second = another()
    (second.folder / "dense.safetensors").write_bytes(trained.weights("dense"))
    text = (second.folder / "toys.toml").read_text()
    init = f'init = "{second.folder}/dense.safetensors"\n'
    (second.folder / "toys.toml").write_text(text.replace("tasks =", init + "tasks ="))
    second.run("run")
    first, later = trained.ok("dense"), second.ok("dense")
    assert first["cell_id"] != later["cell_id"]
    assert later["curve"]["loss"][0] < first["curve"]["loss"][0]
    assert str(second.folder) not in json.dumps(later), "no absolute path gets into a record"


def test_init_of_another_architecture_is_told(trained):
    (trained.folder / "w.safetensors").write_bytes(trained.weights("dense"))
    text = (trained.folder / "toys.toml").read_text()
    text = text.replace("tasks =", 'init = "w.safetensors"\ntasks =').replace('["toy"]', '["toy/wide"]')
    (trained.folder / "toys.toml").write_text(text)
    trained.run("run", expect=1)
    record = trained.records()[-1]
    assert record["status"] == "data"
    assert "does not fit this model" in record["error"]["message"]
