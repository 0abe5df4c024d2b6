"""mmengine's Runner for a model that is initialised and sparse already, and on the device that the cell was given.

CellRunner    changes four things that Runner does by itself, and nothing of its loops
quiet_hooks   mmengine's default hooks without those that write files or lines
"""

from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

quiet_hooks: dict[str, Any] = {"logger": None, "checkpoint": None, "sampler_seed": None}


class CellRunner(Runner):
    """Runner with a built model. `device` is where it trains; the other arguments are Runner's own."""

    def __init__(self, device: str, **arguments: Any) -> None:
        self._cell_device = torch.device(device)
        super().__init__(**arguments, default_hooks=dict(quiet_hooks), log_level="WARNING", default_scope="mmdet")

    def set_randomness(self, *args: Any, **kwargs: Any) -> None:
        """The global generators are the harness's: it sets them from (seed, update) at each step."""
        self._seed, self._deterministic = 0, False

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        """The model on the cell's device; Runner would take a GPU wherever there is one."""
        if is_model_wrapper(model) or (self.distributed and self._cell_device.type == "cuda"):
            wrapped: nn.Module = super().wrap_model(model_wrapper_cfg, model)
            return wrapped
        model = revert_sync_batchnorm(model.to(self._cell_device))
        if not self.distributed:
            return model
        unused = bool(self.cfg.get("find_unused_parameters", False))
        wrapped = MMDistributedDataParallel(module=model, broadcast_buffers=False, find_unused_parameters=unused)
        return wrapped

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """One that stores nothing."""
        return Visualizer.get_instance(self._experiment_name)

    def _init_model_weights(self) -> None:
        """Initialised they are already, perhaps pretrained, and sparse since: only let all ranks begin alike."""
        model = self.model.module if is_model_wrapper(self.model) else self.model
        for value in model.state_dict().values():
            broadcast(value)

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        """The record has the environment; asking compilers for their versions takes seconds."""

    def dump_config(self) -> None:
        """The record has the settings."""
