"""A measurement of every cell, from a stranger's package of one file: in the record by itself, and harmless."""

import os

ONE_FILE = """
class Zeros:
    name = "zeros"
    unit = "%"

    def measure(self, trained):
        weight = trained.model[0].weight
        assert trained.record.metrics["accuracy"] >= 0, "the cell was evaluated before"
        return 100 * float((weight == 0).float().mean())


class Broken:
    name = "broken"
    unit = ""

    def measure(self, trained):
        raise KeyError("no such layer")


class NotFinite(Broken):
    def measure(self, trained):
        return float("nan")
"""


def test_it_lands_in_the_record_and_in_the_frame_and_one_that_fails_is_a_note(project, monkeypatch):
    from nmbench import frame

    packages = project.folder / "packages"
    about = packages / "zeros-1.0.dist-info"
    about.mkdir(parents=True)
    (packages / "zeros.py").write_text(ONE_FILE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zeros\nVersion: 1.0\n")
    points = (
        "[nmbench.measurements]\nzeros = zeros:Zeros\nbroken = zeros:Broken\nnan = zeros:NotFinite\ngone = zeros:Gone\n"
    )
    (about / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(packages), os.environ.get("PYTHONPATH")])))
    project.run("run")
    (taken,) = project.ok("2:4")["measurements"]
    assert taken == {"name": "zeros", "unit": "%", "value": 50.0, "source": "zeros"}
    assert project.ok("dense")["measurements"][0]["value"] == 0.0
    rows = frame(project.folder / "results")
    assert sorted(rows["measurement.zeros"]) == [0.0, 50.0]
    notes = [note for note in project.ok("2:4")["notes"] if note.startswith("The measurement")]
    assert notes == [
        "The measurement broken was not taken: KeyError: 'no such layer'",
        "The measurement gone was not taken: AttributeError: module 'zeros' has no attribute 'Gone'",
        "The measurement nan was not taken: InvalidResult: the measurement 'nan' is nan",
    ]
