"""One training pass: mmengine's Runner, with the hooks that join it to the harness."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import nn

from nmbench.task import Run
from nmbench_tasks.detection import configs, engine, models, recipe


def train(model: nn.Module, run: Run) -> None:
    """Train `model` in place by the schedule of `run.spec`; it is left on the run's device.

    Raises DataError if the training images are fewer than one step takes, or one of them is unreadable.
    """
    engine.load()
    from nmbench_tasks.detection.batches import Batches, loader
    from nmbench_tasks.detection.hooks import AveragedHook, ResumeHook, StepHook
    from nmbench_tasks.detection.runner import CellRunner

    config, changes = configs.fit(run.spec, masks=False)
    for sentence in [*changes, *_frozen_note(model)]:
        run.note(sentence)
    run.store_fact("compiled operators", engine.load())
    plan = recipe.plan(config, run, configs.has_masks(config))
    batches = loader(run, plan.dataset, plan.batch, plan.images, plan.grouping, plan.endless)
    keys = batches.batch_sampler
    assert isinstance(keys, Batches)
    if run.ranks > 1 and torch.device(run.device).type == "cpu" and not dist.is_initialized():
        dist.init_process_group("gloo")  # mmengine's launcher would ask for a GPU
    runner = CellRunner(
        run.device,
        model=model,
        work_dir=str(run.checkpoint_dir / "mmengine"),
        train_dataloader=batches,
        train_cfg=plan.loop,
        optim_wrapper=plan.optimizer,
        param_scheduler=plan.schedule,
        custom_hooks=[*plan.hooks, StepHook(run), ResumeHook(run, keys), AveragedHook()],
        launcher="pytorch" if run.ranks > 1 else "none",
        env_cfg={"dist_cfg": {"backend": "nccl"}},
        cfg=plan.wrapping,
    )
    runner.train()


def _frozen_note(model: nn.Module) -> Iterator[str]:
    if names := models.frozen(model):
        yield (
            f"{len(names)} frozen weights of the backbone stay as they were given, in the sparse model too: a pruned "
            "weight that does not train could not recover"
        )
