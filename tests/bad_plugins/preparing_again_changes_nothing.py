"""It writes a file anew at each call."""

from _good import Good


class Bad(Good):
    name = "preparing-again-changes-nothing"

    def prepare(self, spec, root):
        info = super().prepare(spec, root)
        (root / "index.txt").write_text("train val")
        return info
