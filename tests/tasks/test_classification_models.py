"""Networks by name."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from nmbench_tasks.classification import Classification
from nmbench_tasks.classification.models import NarrowResNet


@pytest.mark.parametrize(
    "name", ["resnet-narrow", "resnet18", "mobilenet_v2", "vit_b_16", "swin_t", "shufflenet_v2_x0_5"]
)
def test_forward(spec_of, built, name):
    spec = spec_of(model=name, classes=7, image_size=64)
    inputs = Classification().example_inputs(spec)
    assert [tuple(x.shape) for x in inputs] == [(1, 3, 64, 64)]
    with torch.no_grad():
        logits = built(spec).eval()(*inputs)
    assert logits.shape == (1, 7)
    assert logits.isfinite().all()


def test_every_declared_model_is_known():
    from torchvision.models import list_models

    assert set(Classification.models) - {"resnet-narrow"} <= set(list_models())
    assert Classification.default_models["paper"] in Classification.models


def test_models_with_extra_classifiers_return_plain_logits_in_training(spec_of, built):
    model = built(spec_of(model="googlenet", image_size=64))
    assert model.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 10)


def test_the_seed_decides_the_initial_weights(spec_of, built):
    first, again, other = (built(spec_of(seed=seed)).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_groups_of_16_fit_every_convolution_but_the_stem():
    convolutions = [m for m in NarrowResNet(width=16).modules() if isinstance(m, nn.Conv2d)]
    assert [c.in_channels for c in convolutions if c.in_channels % 16] == [3]


def test_an_unknown_name_is_answered_with_the_nearest(spec_of):
    with pytest.raises(ValueError, match=r"'resnt18'.*resnet18"):
        Classification().build(spec_of(model="resnt18"))


def test_an_image_size_that_the_model_cannot_take(spec_of):
    with pytest.raises(ValueError, match="vit_b_16 cannot be built for images of 30 px"):
        Classification().build(spec_of(model="vit_b_16", image_size=30))


def test_example_inputs_leave_the_global_generator_alone(spec_of):
    before = torch.get_rng_state()
    Classification().example_inputs(spec_of())
    assert torch.equal(before, torch.get_rng_state())


def test_declarations_need_no_engine():
    code = """
import sys
from nmbench_tasks.classification import Classification
assert Classification().scales
print(sorted({'torch', 'torchvision', 'lightning_fabric', 'sklearn', 'PIL'} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
