"""The task's declarations; the work is in the modules that its methods import, so that declaring needs no torchvision.

scales      settings              models      networks by name
embedded    the embedded data     folder      a user's ImageFolder data
data        loading, augmentation train       one training pass        evaluate    metrics
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nmbench.task import DataInfo, Metric, Run, Spec, Task
from nmbench_tasks.classification.scales import SCALES, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


class Classification(Task):
    """Image classification with torchvision models; top-1 accuracy is the primary metric."""

    name = "classification"
    metrics = (
        Metric("top1", unit="%", margin=1.0),
        Metric("top5", unit="%", margin=1.0),
        Metric("loss", unit="nats", higher_is_better=False, margin=0.05),
    )
    requires = ("torchvision>=0.26", "lightning-fabric>=2.5", "scikit-learn>=1.4", "pillow>=10")
    install = "pip install 'nmbench[classification]'"
    models = (
        "resnet-narrow",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnext50_32x4d",
        "mobilenet_v2",
        "vit_b_16",
        "swin_t",
    )
    default_models: ClassVar[dict[str, str]] = {"paper": "resnet50"}
    open_models = True
    scales: ClassVar[dict[str, dict[str, Any]]] = SCALES
    settings = Settings

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        """Make the embedded data below `root`, or check the folder that the setting `data` names.

        Raises DataError if the data are missing, broken or not what the settings say.
        """
        from nmbench_tasks.classification import embedded, folder

        settings = Settings.of(spec)
        return (
            embedded.prepare(spec, root)
            if settings.data == "embedded"
            else folder.check(settings.data, settings.classes)
        )

    def build(self, spec: Spec) -> nn.Module:
        """`resnet-narrow` or any torchvision classification model. Raises ValueError for an unknown name."""
        from nmbench_tasks.classification.models import build

        settings = Settings.of(spec)
        return build(spec.model, settings.classes, settings.image_size, settings.width)

    def train(self, model: nn.Module, run: Run) -> None:
        """SGD with momentum and a warmed-up cosine, on Lightning Fabric."""
        from nmbench_tasks.classification.train import train

        train(model, run)

    def evaluate(self, model: nn.Module, run: Run) -> dict[str, float]:
        """top1 and top5 (%) and mean cross-entropy (nats) on val; stores `correct` (0 or 1) for every image."""
        from nmbench_tasks.classification.evaluate import evaluate

        return evaluate(model, run)

    def logits(self, output: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
        """What the network returns: (images, classes)."""
        logits: Tensor = output
        return logits

    def example_inputs(self, spec: Spec) -> tuple[Any, ...]:
        """One image of noise, (1, 3, image_size, image_size), on the CPU."""
        import torch

        size = Settings.of(spec).image_size
        return (torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(spec.seed)),)
