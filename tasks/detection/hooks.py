"""What joins the harness to mmengine's loop: hooks, so that the loop itself stays mmengine's.

StepHook       binds the optimizer, calls run.step once an optimizer step
ResumeHook     writes resume points, and goes on from one, to the batch
AveragedHook   leaves the averaged weights behind where mmengine's EMAHook kept some
"""

from typing import Any

from mmengine.dist import all_reduce
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from nmbench.task import Run
from nmbench_tasks.detection.batches import Batches
from nmbench_tasks.detection.scales import Settings


class StepHook(Hook):
    """Tells `run` of each optimizer step: mean loss of its batches (over all ranks), and the learning rate it had."""

    priority = "NORMAL"  # before the learning rate moves on (LOW)

    def __init__(self, run: Run) -> None:
        self._run = run
        self._losses: list[Any] = []

    def before_train(self, runner: Runner) -> None:
        """Bind the torch optimizer inside mmengine's wrapper."""
        self._run.bind(runner.optim_wrapper.optimizer)
        # what was drawn while everything was set up must not show
        self._run.reseed()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """After each batch; every `accumulate` of them make a step."""
        self._losses.append(outputs["loss"].detach())
        if not runner.optim_wrapper.should_update():
            return
        loss = sum(self._losses) / len(self._losses)
        self._losses = []
        all_reduce(loss, "mean")
        steps = runner.max_iters // Settings.of(self._run.spec).accumulate
        self._run.step(loss=loss, lr=runner.optim_wrapper.param_groups[0]["lr"], total=steps)


class ResumeHook(Hook):
    """Resume points in the run's own file, which loads without executing code; mmengine's are pickles."""

    priority = "LOWEST"  # every other hook has done its part of the iteration

    def __init__(self, run: Run, batches: Batches) -> None:
        self._run, self._batches = run, batches

    def before_train(self, runner: Runner) -> None:
        """Go on from the last resume point, if there is one."""
        wrapper = runner.optim_wrapper
        state = self._run.load_checkpoint(_plain(runner.model), wrapper.optimizer)
        if state is None:
            return
        loop = runner.train_loop
        loop._epoch, loop._iter = int(state["epoch"]), int(state["iteration"])
        wrapper.initialize_count_status(runner.model, loop.iter, loop.max_iters)
        for scheduler, saved in zip(runner.param_schedulers or [], state["schedulers"], strict=True):
            scheduler.load_state_dict(saved)
        if "scaler" in state:
            wrapper.loss_scaler.load_state_dict(state["scaler"])
        for hook, saved in zip(_averages(runner), state["averages"], strict=True):
            hook.ema_model.load_state_dict(saved)
        if not self._batches.endless:  # else mmengine's loop itself passes over what was seen
            self._batches.skip = int(state["batch"])

    def before_train_epoch(self, runner: Runner) -> None:
        """The order and the augmentation of this epoch."""
        self._batches.begin(runner.epoch)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Save after a step, once a while."""
        wrapper = runner.optim_wrapper
        if not wrapper.should_update() or not self._run.checkpoint_due():
            return
        iteration = runner.iter + 1
        extra: dict[str, Any] = {
            "epoch": runner.epoch,
            "iteration": iteration,
            "batch": iteration - runner.epoch * len(self._batches),
            "schedulers": [_values(scheduler.state_dict()) for scheduler in runner.param_schedulers or []],
            "averages": [hook.ema_model.state_dict() for hook in _averages(runner)],
        }
        if hasattr(wrapper, "loss_scaler"):
            extra["scaler"] = wrapper.loss_scaler.state_dict()
        self._run.save_checkpoint(_plain(runner.model), wrapper.optimizer, **extra)


class AveragedHook(Hook):
    """At the end the model gets the averaged weights, which are what mmengine would evaluate."""

    priority = "LOWEST"

    def after_train(self, runner: Runner) -> None:
        """Through load_state_dict, so that masks follow."""
        for hook in _averages(runner):
            _plain(runner.model).load_state_dict(hook.ema_model.module.state_dict())


def _plain(model: nn.Module) -> nn.Module:
    return model.get_submodule("module") if is_model_wrapper(model) else model


def _averages(runner: Runner) -> list[EMAHook]:
    return [hook for hook in runner.hooks if isinstance(hook, EMAHook)]


def _values(state: dict[str, Any]) -> dict[str, Any]:
    """What of a scheduler's state changes as it steps: numbers; the rest is its settings."""
    return {name: value for name, value in state.items() if isinstance(value, (int, float, list))}
