"""A cell of a method that trains sparse and leaves a dense model (fst) is done, and its record says what it is."""


def test_a_method_that_ends_dense_ends_well(project):
    project.matrix(pattern='"2:4"', method='"fst"')
    project.run("run", "--workers", "1", "--device", "cpu")
    record = project.ok("2:4")
    assert record["metrics"]
    assert record["audit"]["density"] == 1.0
    assert record["cost"]["nonzeros"] > 0.9 * record["cost"]["parameters"]
    assert any("leaves a dense model" in note for note in record["notes"])
    project.run("report")
