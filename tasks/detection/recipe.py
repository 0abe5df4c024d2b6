"""How a detector is trained: by the task's own settings (recipe "task"), or as its config says (recipe "config").

Plan    what mmengine's Runner is given
plan    both recipes; batch size, accumulation, precision, averaging come from the settings in either
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config

from nmbench.task import DataError, Run
from nmbench_tasks.detection import datasets
from nmbench_tasks.detection.configs import ConfigError
from nmbench_tasks.detection.scales import Settings


@dataclass
class Plan:
    """`batch` images a forward pass of one rank, `images` an epoch over all ranks; the rest in mmengine's words."""

    dataset: Any
    batch: int
    images: int
    loop: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: list[dict[str, Any]]
    hooks: list[dict[str, Any]] = field(default_factory=list)
    grouping: dict[str, Any] | None = None
    endless: bool = False
    wrapping: dict[str, Any] = field(default_factory=dict)


def plan(config: Config, run: Run, masks: bool) -> Plan:
    """The plan for training the model of `config` in `run`; `masks`: the model needs instance masks.

    Raises DataError if the images are fewer than a step takes, ConfigError for a setting or a config that cannot be.
    """
    settings = Settings.of(run.spec)
    own = settings.recipe == "config"
    batch = _share_of(settings, run.ranks)
    given = config.get("train_dataloader", {}).get("dataset") if own else None
    dataset = datasets.build(run.data.path, "train", datasets.pipeline(settings, masks, train=True), settings, given)
    per_step = settings.batch
    if len(dataset) < per_step:
        raise DataError(f"{len(dataset)} training images with objects are less than one step takes (batch {per_step})")
    images = len(dataset) // per_step * per_step
    iterations = images // (batch * run.ranks)  # an epoch
    made = _of_config(config, settings) if own else _of_task(settings, iterations)
    made["optimizer"] |= {"accumulative_counts": settings.accumulate}
    if settings.amp and _on_gpu(run.device):
        made["optimizer"]["type"] = "AmpOptimWrapper"
    if momentum := settings.ema:
        made["hooks"] = [hook for hook in made["hooks"] if hook["type"] != "EMAHook"]
        # batch statistics are averaged with the weights that made them
        made["hooks"].append({"type": "EMAHook", "momentum": momentum, "update_buffers": True})
    return Plan(dataset, batch, images, **made)


def _on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def _share_of(settings: Settings, ranks: int) -> int:
    """Images of one forward pass on one rank: `batch` makes one optimizer step, over all ranks and accumulation."""
    parts = ranks * settings.accumulate
    batch, rest = divmod(settings.batch, parts)
    if rest or not batch:
        raise ConfigError(f"batch {settings.batch} cannot be shared evenly by gpus x accumulate = {parts}")
    return batch


def _of_task(settings: Settings, iterations: int) -> dict[str, Any]:
    """The settings' own recipe: AdamW, a linear warm-up, a cosine to zero; `iterations` forward passes an epoch."""
    epochs, warmup = settings.epochs, round(settings.warmup_epochs * iterations)
    whole = epochs * iterations
    warmup = min(warmup, whole - 1)
    adamw = {"type": "AdamW", "lr": settings.lr, "weight_decay": settings.weight_decay}
    cosine = {"type": "CosineAnnealingLR", "by_epoch": False, "begin": warmup, "end": whole, "T_max": whole - warmup}
    ramp = {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": warmup, "start_factor": 1.0 / (warmup + 1)}
    return {
        "loop": {"type": "EpochBasedTrainLoop", "max_epochs": epochs, "val_interval": epochs + 1},
        "optimizer": {"type": "OptimWrapper", "optimizer": adamw, "clip_grad": {"max_norm": settings.clip}},
        "schedule": [ramp, cosine] if warmup else [cosine],
        "hooks": [],
    }


def _of_config(config: Config, settings: Settings) -> dict[str, Any]:
    """The config's own recipe; settings `epochs` and `lr` other than 0 replace the config's values."""
    missing = [key for key in ("train_dataloader", "train_cfg", "optim_wrapper") if not config.get(key)]
    if missing:
        raise ConfigError(f"recipe is 'config', and this config has no {missing[0]}; set recipe = 'task'")
    loop, optimizer = copy.deepcopy(dict(config.train_cfg)), copy.deepcopy(dict(config.optim_wrapper))
    schedule = [copy.deepcopy(dict(part)) for part in config.get("param_scheduler") or []]
    endless = "max_iters" in loop
    optimizer.setdefault("type", "OptimWrapper")
    if lr := settings.lr:
        optimizer["optimizer"]["lr"] = lr
    if epochs := settings.epochs:
        _stretch(loop, schedule, epochs)
    return {
        "loop": {**loop, "val_interval": 10**9},
        "optimizer": optimizer,
        "schedule": schedule,
        "hooks": [dict(hook) for hook in config.get("custom_hooks") or []],
        "grouping": config.train_dataloader.get("batch_sampler"),
        "endless": endless,
        "wrapping": {key: config[key] for key in ("find_unused_parameters", "model_wrapper_cfg") if key in config},
    }


def _stretch(loop: dict[str, Any], schedule: list[dict[str, Any]], epochs: int) -> None:
    """Fit a schedule in epochs to another number of them."""
    if "max_epochs" not in loop:
        raise ConfigError("this config counts iterations, not epochs; set epochs = 0 to train as it says")
    ratio = epochs / int(loop["max_epochs"])
    loop["max_epochs"] = epochs
    for part in schedule:
        if not part.get("by_epoch", True):
            continue
        for key in ("begin", "end", "T_max"):
            if key in part:
                part[key] = round(part[key] * ratio)
        if "milestones" in part:
            part["milestones"] = [round(milestone * ratio) for milestone in part["milestones"]]
