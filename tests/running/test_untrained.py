"""Cells of untrained models: no data, no training, no metric; what they cost and how fast they are."""

MATRIX = """
name = "toys"
scale = "paper"
tasks = ["classification"]
train = { untrained = true, classes = 10, image_size = 32, width = 8 }
speed = true
[[grid]]
models = ["resnet-narrow"]
pattern = ["1:4"]
method = ["one-shot"]
"""


def test_an_untrained_model_is_pruned_timed_and_reported_without_data(project):
    (project.folder / "toys.toml").write_text(MATRIX)
    said = project.run("run", "--workers", "1", "--device", "cpu")
    assert "speed 1/1 classification/resnet-narrow 1:4 one-shot" in said
    dense, sparse = sorted(project.records(), key=lambda record: record["cell"]["pattern"] != "dense")
    assert [record["status"] for record in (dense, sparse)] == ["ok", "ok"]
    assert not any("metrics" in record for record in (dense, sparse))
    assert sparse["audit"]["density"] == 0.25
    assert sparse["cost"]["macs_effective"] < dense["cost"]["macs_effective"]
    assert sparse["speed"]["rows"][0]["dense_ms"] > 0
    assert "quality" in " ".join(sparse["notes"])
    assert not list((project.folder / "data").glob("**/*.*")), "no data were made"
    project.run("report")
    page = (project.folder / "reports/toys/README.md").read_text()
    assert "1 untrained model ran" in page
    assert "Measured speed of inference" in page
    assert "no figure" not in page
    assert "no finite" not in page
