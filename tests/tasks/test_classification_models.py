"""Networks by name."""

import pytest
import torch

from nmbench_tasks.classification import Classification


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


def test_an_unknown_name_is_answered_with_the_nearest(spec_of):
    with pytest.raises(ValueError, match=r"'resnt18'.*resnet18"):
        Classification().build(spec_of(model="resnt18"))


def test_an_image_size_that_the_model_cannot_take(spec_of):
    with pytest.raises(ValueError, match="vit_b_16 cannot be built for images of 30 px"):
        Classification().build(spec_of(model="vit_b_16", image_size=30))
