"""Cells whose layers have patterns of their own, from a matrix file to the report."""

MIXED = '["1:4", { "2" = "1:4", "*" = "2:4" }, "erk-1:8"]'


def test_a_matrix_gives_layers_patterns_and_the_report_shows_them(project):
    project.matrix(pattern=MIXED, method='["sr-ste", "wanda"]')
    assert "7 done now, 0 before, 0 failed" in project.run("run")
    records = {(r["cell"]["pattern"], r["cell"]["method"]): r for r in project.records()}
    for method in ("sr-ste", "wanda"):
        audit = records["2=1:4,*=2:4", method]["audit"]
        assert audit["ok"]
        assert audit["pattern"] == "2=1:4,*=2:4"
        own = {layer["name"]: (layer["pattern"], layer["density"]) for layer in audit["layers"]}
        assert own == {"0.weight": ("2:4", 0.5), "2.weight": ("1:4", 0.25), "4.weight": (None, 1.0)}
        assert records["1:4", method]["audit"]["layers"][0]["pattern"] is None
        erk = records["erk-1:8", method]["audit"]
        assert erk["ok"]
        assert erk["density"] <= 1 / 8
    cost = records["2=1:4,*=2:4", "sr-ste"]["cost"]
    assert cost["macs_effective"] == 16 * 32 // 2 + 32 * 16 // 4 + 32
    folders = sorted(path.name.rpartition("-")[0] for path in project.folder.glob("results/toys/toy/*sr-ste*"))
    assert folders == ["mlp-1x4-sr-ste-s0", "mlp-2-1x4_rest-2x4-sr-ste-s0", "mlp-erk-1x8-sr-ste-s0"]
    assert "nothing to do, 7 cells are done" in project.run("run")
    project.run("report")
    page = (project.folder / "reports" / "toys" / "README.md").read_text()
    table = page.split("Patterns by layer")[-1]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert [r"2=1:4,\*=2:4", "sr-ste", "1:4", "2"] in [row[:4] for row in rows]


def test_a_name_that_fits_no_layer_is_one_line_and_the_others_run(project):
    project.matrix(pattern='["2:4", { "convv" = "1:4" }]')
    out = project.run("run", expect=1)
    (bad,) = [r for r in project.records() if r["status"] != "ok"]
    assert bad["status"] == "invalid"
    assert bad["error"]["message"].startswith("pattern: 'convv' names no weight of this model")
    assert "2 done now" in out


def test_a_method_that_takes_no_allocation_is_told_before_anything_runs(project):
    project.matrix(pattern='"erk-1:4"', method='"domino"')
    out = project.run("run", expect=2)
    assert "method 'domino' takes no pattern for each layer, as erk-1:4 is" in out
    assert not list(project.folder.glob("results/**/record.json"))
