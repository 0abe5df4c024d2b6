"""A broken file ends in whatever exception numpy has for it."""

import numpy as np
from _good import Good

from nmbench.task import DataInfo


class Bad(Good):
    name = "broken-data-are-told"

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
