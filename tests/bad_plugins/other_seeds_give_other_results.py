"""The order of its batches and their noise do not depend on the seed, nor do its weights."""

import numpy as np
from _good import Good


class Bad(Good):
    name = "other-seeds-give-other-results"

    def batch(self, run, x, y):
        import torch

        torch.manual_seed(run.updates)
        pick = np.random.default_rng(run.updates).integers(0, len(x), run.spec.train["batch"])
        return x[pick], y[pick]
