"""The task's declarations; the work is in the modules that its methods import, so that declaring needs no torchvision.

scales     settings, and the recipe of each stage      plan       settings -> stages, evaluations, roots, checked
embedded, cutouts          the embedded pairs          files      the formats on disk
sets       torchvision's loaders, by name, checked     prepare    the data sets of a stage and an evaluation
colour, spatial            what training changes       data       pairs in an order, batches
train      the engine                                  metrics, evaluate
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nmbench.task import DataInfo, Metric, Run, Spec, Task
from nmbench_tasks.optical_flow.scales import SCALES, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


class OpticalFlow(Task):
    """Optical flow with torchvision's RAFT; the end-point error is the primary metric."""

    name = "optical-flow"
    metrics = (
        Metric("epe", unit="px", higher_is_better=False, margin=0.25),
        Metric("1px", unit="%", margin=1.0),
        Metric("3px", unit="%", margin=1.0),
        Metric("5px", unit="%", margin=1.0),
        Metric("fl_all", unit="%", higher_is_better=False, margin=1.0),
    )
    requires = ("torchvision>=0.26", "lightning-fabric>=2.5", "scikit-learn>=1.4", "pillow>=10")
    install = "pip install 'nmbench[optical-flow]'"
    models = ("raft_small", "raft_large")
    default_models: ClassVar[dict[str, str]] = dict.fromkeys(("paper", "paper-sintel", "paper-kitti"), "raft_large")
    scales = SCALES
    settings = Settings
    expected_failures: ClassVar[dict[str, str]] = {
        "shuffled-weights-score-worse": "at smoke scale RAFT still answers that nothing moves, as any weights do"
    }

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        """Make the embedded pairs below `root`, or check every file of the data sets that the settings name.

        Raises DataError if the data are missing, broken, or not what the settings say.
        """
        from nmbench_tasks.optical_flow.prepare import prepare

        return prepare(Settings.of(spec), root)

    def build(self, spec: Spec) -> nn.Module:
        """torchvision's `raft_small` or `raft_large` with fresh weights, which the setting `context_gain` may scale.

        Raises ValueError for other names.
        """
        import torch
        from torchvision.models import optical_flow

        if spec.model not in self.models:
            raise ValueError(f"no optical-flow model is called {spec.model!r}; there are {', '.join(self.models)}")
        model: nn.Module = getattr(optical_flow, spec.model)(weights=None)
        with torch.no_grad():
            for parameter in model.get_submodule("context_encoder.conv").parameters():
                parameter.mul_(Settings.of(spec).context_gain)
        return model

    def candidates(self, model: nn.Module) -> Iterable[str]:
        """Every convolution, the flow head's last one included: RAFT has no classifier that should stay dense."""
        from torch import nn

        return [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]

    def train(self, model: nn.Module, run: Run) -> None:
        """AdamW, one cycle of the learning rate a stage, clipped gradients, sequence loss; on Lightning Fabric."""
        from nmbench_tasks.optical_flow.train import train

        train(model, run)

    def evaluate(self, model: nn.Module, run: Run) -> dict[str, float]:
        """epe (px), 1px, 3px, 5px, fl_all (%) on the first evaluation set; see nmbench_tasks.optical_flow.metrics."""
        from nmbench_tasks.optical_flow.evaluate import evaluate

        return evaluate(model, run)

    def example_inputs(self, spec: Spec) -> tuple[Any, ...]:
        """Two images of noise of the last stage's crop size, (1, 3, height, width), on the CPU, and the updates."""
        import torch

        from nmbench_tasks.optical_flow.plan import stages

        settings = Settings.of(spec)
        last = stages(settings)[-1]
        generator = torch.Generator().manual_seed(spec.seed)
        first, second = torch.rand(2, 1, 3, last.crop_height, last.crop_width, generator=generator) * 2 - 1
        return first, second, settings.eval_updates
