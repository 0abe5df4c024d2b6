"""fairseq as it is imported here: the real one, no traces of the import, and no second copy of any weight."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_model

from nmbench_tasks.translation import Translation, compat, models
from nmbench_tasks.translation.corpus import translation_task
from nmbench_tasks.translation.scales import Settings

ARCHITECTURES = ("transformer_narrow", "transformer", "transformer_wmt_en_de", "transformer_vaswani_wmt_en_de_big")


def model_of(name, spec_of, entries=40):
    settings = Settings.of(spec_of(max_length=32))
    return models.build(
        name, translation_task(settings, models.dictionary(entries), models.dictionary(entries)), settings
    )


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_import_leaves_nothing_behind_and_says_nothing():
    said = python(
        "import dataclasses, logging\n"
        "before = dataclasses.dataclass\n"
        "import nmbench_tasks.translation.compat\n"
        "assert dataclasses.dataclass is before\n"
        "assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING\n"
        "assert logging.root.manager.disable == logging.NOTSET\n"
        "try:\n"
        "    dataclasses.make_dataclass('A', [('x', list, [])])\n"
        "except ValueError: print('a mutable default is refused again', end='')\n"
    )
    assert said == "a mutable default is refused again"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_no_shadow_parameter_is_left(name, spec_of):
    with torch.device("meta"):
        model = model_of(name, spec_of)
    names = [key for key, _ in model.named_parameters()] + list(model.state_dict())
    assert len(names) > 100
    assert [key for key in names if key.rpartition(".")[2] in compat.SHADOWS] == []
    for layer in model.encoder.layers:
        assert not layer.can_use_fastpath
        assert not any(getattr(layer, shadow).numel() for shadow in compat.SHADOWS)


# The fused path wants the norm after the residual connection, as fairseq's own architectures have it (the narrow one
# does not); transformer_tiny is the smallest of them.
@pytest.mark.parametrize(
    "name", ["transformer_narrow", "transformer_tiny", pytest.param("transformer", marks=pytest.mark.slow)]
)
def test_every_projection_counts_after_save_load_and_eval(name, spec_of, tmp_path):
    torch.manual_seed(0)
    trained, path = model_of(name, spec_of), tmp_path / "weights.safetensors"
    save_model(trained, str(path))
    model = model_of(name, spec_of)
    model.load_state_dict(load_file(path))
    model.eval()
    inputs = Translation().example_inputs(spec_of())

    def output():
        # a source with padding too: the fused path treats it apart
        padded = torch.nn.functional.pad(inputs[0], (3, 0), value=1)
        with torch.no_grad():
            return torch.cat([model(*inputs)[0], model(padded, *inputs[1:])[0]])

    before = output()
    parameters = dict(model.named_parameters())
    names = models.candidates(model)
    assert len(names) == (6 if name == "transformer" else 2) * (6 + 10)
    for key in names:
        kept = parameters[key].detach().clone()
        with torch.no_grad():
            parameters[key].zero_()
            assert not torch.equal(output(), before), key
            parameters[key].copy_(kept)
    assert torch.equal(output(), before)


@pytest.mark.parametrize("name", ["transformer_narrow", "transformer_tiny"])  # norm before and after the residual
def test_a_scripted_model_computes_what_the_model_does(name, spec_of):
    torch.manual_seed(0)
    model = model_of(name, spec_of).eval()
    scripted = torch.jit.script(model)
    assert dict(scripted.named_parameters()).keys() == dict(model.named_parameters()).keys()
    inputs = Translation().example_inputs(spec_of())
    torch.testing.assert_close(scripted(*inputs)[0], model(*inputs)[0])
