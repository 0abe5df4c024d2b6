"""Tasks that break one promise each; the class is named for the check that catches it."""

import re
import time
from pathlib import Path
from typing import ClassVar

import _good
import numpy as np
from torch import nn

from nmbench.task import DataInfo, Metric


class Good(_good.Good):
    """Keeps all promises; what derives from it is named as the check is."""

    def __init_subclass__(cls) -> None:
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


class BatchSizeDoesNotMatter(Good):
    """It averages the losses of batches of unequal size."""

    def evaluate(self, model, run):
        found = super().evaluate(model, run)
        return {**found, "loss": found["loss"] + 1 / run.spec.train["eval_batch"]}


class BrokenDataAreTold(Good):
    """A broken file ends in whatever exception numpy has for it."""

    def prepare(self, spec, root):
        if not (root / "good" / "train.npz").exists():
            (root / "good").mkdir(parents=True)
            self.make(root / "good")
        return DataInfo(root / "good", {"train": 400, "val": 100}, "good-1")

    @staticmethod
    def load(run, split):
        import torch

        with np.load(run.data.path / f"{split}.npz") as data:
            return torch.from_numpy(data["x"]).float(), torch.from_numpy(data["y"])


class CandidatesEndSparse(Good):
    """It names no weight that could be sparse."""

    def candidates(self, model):
        return []


class DeclarationsAreComplete(Good):
    """Its primary metric has no margin."""

    metrics = (Metric("accuracy", "%"), Metric("loss", "nats", higher_is_better=False))


class EachOptimizerStepIsTold(Good):
    """It tells of every other optimizer step only."""

    def train(self, model, run):
        self.odd = False
        super().train(model, run)

    def batch(self, run, x, y):
        self.odd = not self.odd
        pick = run.rng(int(self.odd), run.updates).integers(0, len(x), run.spec.train["batch"])
        return x[pick], y[pick]

    def after(self, run, loss):
        if not self.odd:
            super().after(run, loss)

    def save(self, run, model, optimizer):
        if not self.odd:
            super().save(run, model, optimizer)


class EqualNAndMIsDense(Good):
    """It trains a sparse model at another rate than a dense one."""

    def optimizer(self, model, run):
        import torch

        sparse = run._handle is not None and run._handle.method.name != "dense"
        return torch.optim.SGD(model.parameters(), lr=0.05 if sparse else 0.1, momentum=0.9)


class EqualSeedsGiveEqualResults(Good):
    """The second training of a cell finds something in a cache, and takes other steps for it."""

    def optimizer(self, model, run):
        import torch

        cell = (run.spec.seed, run._handle.method.name)
        self.seen = {**getattr(self, "seen", {}), cell: getattr(self, "seen", {}).get(cell, 0) + 1}
        return torch.optim.SGD(model.parameters(), lr=0.1001 if self.seen[cell] == 2 else 0.1, momentum=0.9)


class EvaluatingAgainGivesTheSame(Good):
    """Its loss depends on where the global generator happens to stand."""

    def evaluate(self, model, run):
        import torch

        found = super().evaluate(model, run)
        with torch.random.fork_rng():
            return {**found, "loss": found["loss"] + 1e-6 * float(torch.rand(()))}


class EvaluatingLeavesNoTrace(Good):
    """It leaves the model in evaluation mode."""

    def mode(self, model):
        model.eval()


class InitialWeightsFollowTheSeed(Good):
    """Its weights are those of one seed, whatever the cell's."""

    def build(self, spec):
        import torch

        torch.manual_seed(0)
        return super().build(spec)


class MemoryIsGivenBack(Good):
    """It keeps every model that it ever trained."""

    kept: ClassVar[list] = []

    def train(self, model, run):
        import torch

        super().train(model, run)
        self.kept.append(torch.zeros(2**20))


class LogitsTeach(Good):
    """It trains on its own loss, whatever the twin says."""

    def mixed(self, run, loss):
        return loss


class MetricsAreReturned(Good):
    """It forgets a metric that it declares."""

    def evaluate(self, model, run):
        return {"accuracy": super().evaluate(model, run)["accuracy"]}


class NothingIsWrittenElsewhere(Good):
    """It leaves a log in the working folder."""

    def train(self, model, run):
        super().train(model, run)
        Path("training.log").write_text("done")


class OtherSeedsGiveOtherResults(Good):
    """The order of its batches and their noise do not depend on the seed, nor do its weights."""

    def batch(self, run, x, y):
        import torch

        torch.manual_seed(run.updates)
        pick = np.random.default_rng(run.updates).integers(0, len(x), run.spec.train["batch"])
        return x[pick], y[pick]


class PreparingAgainChangesNothing(Good):
    """It writes a file anew at each call."""

    def prepare(self, spec, root):
        info = super().prepare(spec, root)
        (root / "index.txt").write_text("train val")
        return info


class ResumingChangesNothing(Good):
    """Its momentum is lost when it resumes."""

    def save(self, run, model, optimizer):
        import torch

        run.save_checkpoint(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


class Leaky(nn.Conv2d):
    """Its state dict holds no zeros."""

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if type(self) is Leaky:  # not while a method is at work
            weight = destination[prefix + "weight"]
            destination[prefix + "weight"] = weight + 1e-6 * (weight == 0)


class SavedWeightsStaySparse(Good):
    """It saves something else than it computes with: the pruned weights come back when the file is loaded."""

    def build(self, spec):
        model = super().build(spec)
        model[0] = Leaky(8, 16, 3)
        return model


class ShuffledWeightsScoreWorse(Good):
    """It says that a high loss is good."""

    metrics = (Metric("loss", "nats", higher_is_better=True, margin=0.1), Metric("accuracy", "%"))


class SmokeIsShort(Good):
    """Its smoke scale burns a minute of processor time."""

    def train(self, model, run):
        super().train(model, run)
        end = time.process_time() + 0.6
        while time.process_time() < end:
            pass


class Shadowed(nn.Conv2d):
    """Keeps a shadow of its weight for a fast path, as fused kernels do."""

    shadow = None

    def _load_from_state_dict(self, *args, **kwargs):
        super()._load_from_state_dict(*args, **kwargs)
        self.shadow = self._parameters["weight"].detach().clone()

    def forward(self, x):
        weight = self.weight if self.shadow is None or self.training else self.shadow
        return self._conv_forward(x, weight, self.bias)


class SparseWeightsMatter(Good):
    """In evaluation its convolution computes with a copy of the weight that loading renews, not with what is zeroed."""

    def build(self, spec):
        model = super().build(spec)
        model[0] = Shadowed(8, 16, 3)
        return model


class Grows(Good):
    """Its state dict holds a tensor that its model does not have (`sparse-weights-matter` says so)."""

    def build(self, spec):
        model = super().build(spec)
        model.register_state_dict_post_hook(lambda module, state, *_: state.update(extra=state["0.weight"].clone()))
        return model


class TwinsSeeTheSame(Good):
    """The order of its batches depends on whether a method is at work."""

    def batch(self, run, x, y):
        shift = int(run._handle is not None and run._handle.method.name == "sr-ste")
        pick = run.rng(shift, run.updates).integers(0, len(x), run.spec.train["batch"])
        return x[pick], y[pick]
