"""It names no weight that could be sparse."""

from _good import Good


class Bad(Good):
    name = "candidates-end-sparse"

    def candidates(self, model):
        return []
