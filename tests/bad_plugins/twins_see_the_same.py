"""The order of its batches depends on whether a method is at work."""

from _good import Good


class Bad(Good):
    name = "twins-see-the-same"

    def batch(self, run, x, y):
        shift = int(run._handle is not None and run._handle.method.name == "sr-ste")
        pick = run.rng(shift, run.updates).integers(0, len(x), run.spec.train["batch"])
        return x[pick], y[pick]
