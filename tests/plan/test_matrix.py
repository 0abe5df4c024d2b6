"""Matrix files: what they unfold into, and the one line that a wrong one gets."""

import os
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from nmbench._util.errors import UsageError
from nmbench._util.settings import Settings
from nmbench.plan.catalogue import Catalogue
from nmbench.plan.declarations import MethodDeclaration, Plugin, PluginStatus, TaskDeclaration
from nmbench.plan.matrix import load, shipped
from nmbench.plan.refusals import Refusal
from nmbench.plan.unfold import cells
from nmbench.task import Metric


class Ranges(BaseModel):
    steps: int = Field(20, ge=1)
    mode: Literal["a", "b"] = "a"


SMOKE = {"lr": 0.1, "data": "x", "amp": False}
TOY = TaskDeclaration(
    name="toy",
    metrics=(Metric("a"),),
    models=("mlp", "wide"),
    default_models={"paper": "wide"},
    scales={"smoke": Settings.declared(SMOKE, Ranges), "paper": Settings.declared({"steps": 1})},
)


def _method(name, **defaults):
    settings = Settings.declared(defaults)
    declaration = MethodDeclaration(settings=settings, layerwise=name != "searching")
    return Plugin(name, "m:a", "d", "1", declaration=declaration)


def _choosy():
    refusals = (
        Refusal(reason="too many", axis="input", m=8, least=3, most=5),
        *(Refusal(reason="no outputs", axis="kernel", m=m, least=1, most=m - 1) for m in (4, 8)),
    )
    declaration = MethodDeclaration(settings=Settings.declared({"permute": False}), refusals=refusals)
    return Plugin("choosy", "m:a", "d", "1", declaration=declaration)


PRUNER = MethodDeclaration(settings=Settings.declared({"start": "twin"}), starts_dense=True)
CATALOGUE = Catalogue(
    {
        "toy": Plugin("toy", "m:a", "d", "1", declaration=TOY),
        "talker": Plugin(
            "talker", "m:a", "d", "1", declaration=TOY.model_copy(update={"name": "talker", "logits": True})
        ),
        "broken": Plugin("broken", "m:a", "d", "1", status=PluginStatus.IMPORT),
    },
    {
        name: _method(name, **defaults)
        for name, defaults in (("sr-ste", {"lambda_w": 2e-4}), ("ste", {}), ("dense", {}), ("searching", {}))
    }
    | {"wanda": Plugin("wanda", "m:a", "d", "1", declaration=PRUNER), "choosy": _choosy()},
    [],
)


def unfold(tmp_path, text, head='name = "m"\nscale = "smoke"\ntasks = ["toy"]\n'):
    path = tmp_path / "m.toml"
    path.write_text(head + text)
    return cells(load(str(path)), CATALOGUE)


def labels(found):
    return [cell.label.replace("toy/mlp ", "") for cell in found]


def test_distillation_multiplies_is_complete_and_leaves_the_twin_alone(tmp_path):
    grid = '[[grid]]\ntasks = "talker"\npattern = "2:4"\ndistill = { weight = [0.3, 0.6] }\n'
    dense, *taught = unfold(tmp_path, grid)
    assert dense.distill == {}
    assert [cell.distill for cell in taught] == [{"weight": w, "temperature": 2} for w in (0.3, 0.6)]
    assert {cell.twin.id for cell in taught} == {dense.id}
    assert len({cell.id for cell in taught}) == 2


def test_the_dense_twin_of_each_seed_is_added_once(tmp_path):
    found = unfold(tmp_path, 'seeds = [0, 1]\n[[grid]]\npattern = ["2:4", "1:4"]\nmethod = ["ste", "sr-ste"]\n')
    assert len(found) == 2 * (1 + 4)
    assert labels(found)[0] == "dense seed 0"
    assert sum(cell.is_dense for cell in found) == 2


def test_lists_multiply_and_twins_follow_the_engine_settings(tmp_path):
    grid = '[[grid]]\npattern = "2:4"\nhyper = { lambda_w = [1e-4, 1e-3] }\ntrain = { steps = [5, 6] }\n'
    assert labels(unfold(tmp_path, grid)) == [
        "dense steps=5 seed 0",
        "dense steps=6 seed 0",
        "2:4 sr-ste steps=5 lambda_w=0.0001 seed 0",
        "2:4 sr-ste steps=5 lambda_w=0.001 seed 0",
        "2:4 sr-ste steps=6 lambda_w=0.0001 seed 0",
        "2:4 sr-ste steps=6 lambda_w=0.001 seed 0",
    ]


def test_a_pattern_may_be_a_table_of_layers(tmp_path):
    table = '{ "*.conv1" = "dense", "*" = "1:4" }'
    found = unfold(tmp_path, f'[[grid]]\npattern = ["2:4", {table}, "erk-1:16", "*.conv1=dense,*=1:4"]\n')
    assert labels(found)[1:] == ["2:4 sr-ste seed 0", "*.conv1=dense,*=1:4 sr-ste seed 0", "erk-1:16 sr-ste seed 0"]
    assert labels(unfold(tmp_path, f"[[grid]]\npattern = {table}\n")) == [labels(found)[0], labels(found)[2]]


def test_patterns_that_some_layer_can_have_are_not_refused(tmp_path):
    """N = M prunes nothing, and of Erdos-Renyi shares only the model says which they are."""
    grid = '[[grid]]\npattern = ["8:8", "4:4@kernel", "erk-4:8", "2:8", "5:16"]\nmethod = "choosy"\n'
    assert len(unfold(tmp_path, grid)) == 6


def test_settings_at_their_default_make_no_new_cell(tmp_path):
    plain = unfold(tmp_path, '[[grid]]\npattern = "2:4"\n')
    spelt = unfold(
        tmp_path, '[[grid]]\npattern = "2:4@input"\nhyper = { lambda_w = 2e-4 }\ntrain = { steps = 20, lr = 0.1 }\n'
    )
    assert [c.id for c in plain] == [c.id for c in spelt]


def test_a_whole_float_is_the_integer_that_the_task_declares(tmp_path):
    whole, spelt = (unfold(tmp_path, f'[[grid]]\npattern = "2:4"\ntrain = {{ steps = {n} }}\n') for n in ("5", "5.0"))
    assert [cell.to_dict() for cell in whole] == [cell.to_dict() for cell in spelt]
    assert type(spelt[0].train["steps"]) is int


def test_the_scale_may_choose_the_model_and_the_matrix_another(tmp_path):
    head = 'name = "m"\nscale = "paper"\ntasks = ["toy"]\n'
    assert {c.model for c in unfold(tmp_path, '[[grid]]\npattern = "2:4"\n', head)} == {"wide"}
    head = head.replace('"toy"', '"toy/mlp"')
    assert {c.model for c in unfold(tmp_path, '[[grid]]\npattern = "2:4"\n', head)} == {"mlp"}


def test_the_dense_method_is_the_twin(tmp_path):
    assert labels(unfold(tmp_path, '[[grid]]\npattern = "2:4"\nmethod = "dense"\n')) == ["dense seed 0"]


def test_a_task_that_cannot_be_imported_keeps_its_row(tmp_path):
    found = unfold(tmp_path, '[[grid]]\npattern = "2:4"\ntasks = ["broken", "toy"]\n')
    assert {c.task for c in found} == {"toy", "broken"}


WRONG = {
    '[[grid]]\npatern = "2:4"\n': "unknown key 'grid.1.patern'; did you mean 'pattern'?",
    'seedss = [1]\n[[grid]]\npattern = "2:4"\n': "unknown key 'seedss'; did you mean 'seeds'?",
    "": "the key 'grid' is missing",
    "grid = []\n": "'grid' is empty",
    "[[grid]]\npattern = []\n": "'grid.1.pattern' is empty",
    '[[grid]]\npattern = "5:4"\n': "pattern 5:4: N must lie between 1 and M",
    '[[grid]]\npattern = { a = "2-4" }\n': "'grid.1.pattern': pattern '2-4': write N:M",
    '[[grid]]\npattern = [{ "*" = "2:4", b = "1:4" }]\n': "'b' comes after '*', which fits every layer",
    '[[grid]]\npattern = "a=2:4,b"\n': "'b' is no rule",
    '[[grid]]\npattern = "erk-1:4"\nmethod = "searching"\n': "method 'searching' takes no pattern for each layer",
    '[[grid]]\npattern = ["2:8", "4:8"]\nmethod = "choosy"\n': "method 'choosy' cannot do 4:8: too many",
    '[[grid]]\npattern = { a = "2:4", b = "1:4@kernel" }\nmethod = "choosy"\n': "cannot do 1:4@kernel: no outputs",
    '[[grid]]\npattern = "erk-1:4@kernel"\nmethod = "choosy"\n': "cannot do erk-1:4@kernel: no outputs",
    '[[grid]]\npattern = "1:16@kernel"\nmethod = "choosy"\nhyper = { permute = true }\n': (
        "permute: channels are reordered for patterns along the input only, not 1:16@kernel"
    ),
    '[[grid]]\npattern = "2-4"\n': "pattern '2-4': write N:M",
    '[[grid]]\npattern = "2:4"\nmethod = "sr-set"\n': "unknown method 'sr-set'; did you mean 'sr-ste'?",
    '[[grid]]\npattern = "2:4"\ntasks = "toi"\n': "unknown task 'toi'; did you mean 'toy'?",
    '[[grid]]\npattern = "2:4"\nmodels = "mlpp"\n': "has no model 'mlpp'; did you mean 'mlp'?",
    '[[grid]]\npattern = "2:4"\nhyper = { lamda_w = 1.0 }\n': "no setting 'lamda_w'; did you mean 'lambda_w'?",
    '[[grid]]\npattern = "2:4"\nhyper = { lambda_w = "a" }\n': "lambda_w must be like 0.0002, not 'a'",
    '[[grid]]\npattern = "2:4"\ntrain = { step = 1 }\n': "no setting 'step'; did you mean 'steps'?",
    '[[grid]]\npattern = "2:4"\ntrain = { mode = "c" }\n': "mode must be one of 'a', 'b', not 'c'",
    '[[grid]]\npattern = "2:4"\nseeds = [-1]\n': "'grid.1.seeds.1': Input should be greater than or equal to 0",
    '[[grid]]\npattern = "dense"\nhyper = { lambda_w = 1.0 }\n': "dense cells take no hyper-parameters",
    '[[grid]]\npattern = "2:4"\ndistill = { weight = 0.5 }\n': "task 'toy' has no logits",
    '[[grid]]\ntasks = "talker"\ndistill = { weight = 0.5 }\n': "dense cells have no twin to learn from",
    '[[grid]]\ntasks = "talker"\npattern = "2:4"\nmethod = "wanda"\ndistill = { weight = 0.5 }\n': "prunes a trained",
    '[[grid]]\ntasks = "talker"\npattern = "2:4"\ndistill = { weight = 2.0 }\n': "above 0 and at most 1, not 2.0",
    '[[grid]]\ntasks = "talker"\npattern = "2:4"\ndistill = { heat = 2.0 }\n': "distill has no setting 'heat'",
    'init = "none.safetensors"\n[[grid]]\npattern = "2:4"\n': "init = 'none.safetensors': No such file",
    '[[grid]]\npattern = "2:4"\nmethod = "wanda"\nhyper = { start = "init" }\n': "the matrix names none",
    "[[grid\n": "not TOML",
    "[[grid]]\ntrain = { steps = [] }\n": "'grid.1.train': the list steps is empty, which makes no cell",
    "[[grid]]\ntrain = { data = " + 400 * "[" + 400 * "]" + " }\n": "nested too deeply",
    "[[grid]]\ntrain = { data = " + 5000 * "[" + 5000 * "]" + " }\n": "nested too deeply",
    "[[grid]]\ntrain = { steps = " + 5000 * "9" + " }\n": "not TOML: Exceeds the limit",
    "[[grid]]\ntrain = { data = 2020-01-01 }\n": "data is a date, which no setting is",
    "[[grid]]\ntrain = { steps = [nan] }\n": "steps must be finite, not nan",
    "[[grid]]\ntasks = 'broken'\ntrain = { any = inf }\n": "any must be finite, not inf",
    "[[grid]]\ntrain = { gpus = 1000000 }\ntasks = 'broken'\n": "a cell is trained by at most 64 processes",
    "[[grid]]\nseeds = [" + "1, " * 30_000 + "]\nmethod = ['ste', 'sr-ste']\n": "matrix m has 60,000 combinations",
    "timeout = nan\n[[grid]]\n": "'timeout': Input should be",
    "timeout = true\n[[grid]]\n": "'timeout': Input should be a number of seconds",
    "hang = -5\n[[grid]]\n": "'hang': Input should be greater than 0",
    "init = '/dev/zero'\n[[grid]]\n": "init = '/dev/zero': not a regular file",
    'init = "\\u0000"\n[[grid]]\n': "embedded null byte",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_matrix_gets_one_clear_line(tmp_path, text):
    with pytest.raises(UsageError) as error:
        unfold(tmp_path, text)
    assert WRONG[text] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scale_that_the_task_does_not_have(tmp_path):
    with pytest.raises(UsageError, match="no scale 'smok'; did you mean 'smoke'"):
        unfold(tmp_path, '[[grid]]\npattern = "2:4"\n', 'name = "m"\nscale = "smok"\ntasks = ["toy"]\n')


def test_an_unknown_name_and_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match="no matrix 'quik'; did you mean 'quick'"):
        load("quik")
    with pytest.raises(UsageError, match="No such file"):
        load(str(tmp_path / "none.toml"))


def test_a_matrix_file_is_a_regular_file_with_or_without_a_byte_order_mark(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    with pytest.raises(UsageError, match="not a regular file"):
        load(str(tmp_path / "pipe.toml"))
    assert unfold(tmp_path, "[[grid]]\n", '\ufeffname = "m"\nscale = "smoke"\ntasks = ["toy"]\n')


@pytest.mark.parametrize("name", shipped())
def test_shipped_matrices_are_valid(name):
    assert load(name).name == name
