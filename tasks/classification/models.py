"""Networks by name, always with fresh weights.

NarrowResNet    a small residual network for 32 x 32 images
build           `resnet-narrow`, or a classification model of torchvision under its own name
"""

from typing import Any

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from nmbench_tasks._shared.settings import unknown_name


class NarrowResNet(nn.Module):
    """A 3x3 stem of stride 2, three stages of one BasicBlock (width, 2 width, 4 width channels), one linear layer.

    With a width that 16 divides, every convolution but the stem has input channels for whole groups of 16.
    """

    def __init__(self, classes: int = 10, width: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = BasicBlock(width, width)
        self.layer2 = _halving_block(width, 2 * width)
        self.layer3 = _halving_block(2 * width, 4 * width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of `images` (batch, 3, height, width)."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _halving_block(channels_in: int, channels_out: int) -> BasicBlock:
    shortcut = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride=2, bias=False), nn.BatchNorm2d(channels_out)
    )
    return BasicBlock(channels_in, channels_out, stride=2, downsample=shortcut)


def build(name: str, classes: int, image_size: int, width: int = 16) -> nn.Module:
    """The network `name` for `classes` classes and square images of `image_size` pixels.

    Raises ValueError if there is no such network, or none for this image size.
    """
    if name == "resnet-narrow":
        return NarrowResNet(classes, width)
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ValueError(unknown_name("classification model", name, ["resnet-narrow", *known]))
    try:
        model: nn.Module = torchvision.models.get_model(
            name, weights=None, num_classes=classes, **_extra(name, image_size)
        )
    except (AssertionError, ValueError) as error:
        raise ValueError(f"{name} cannot be built for images of {image_size} px: {error}") from error
    return model


def _extra(name: str, image_size: int) -> dict[str, Any]:
    """Arguments that some families need: their input size, or to leave out classifiers that only training uses."""
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name.startswith("maxvit"):
        return {"input_size": (image_size, image_size)}
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    return {}
