"""Its smoke scale burns a minute of processor time."""

import time

from _good import Good


class Bad(Good):
    name = "smoke-is-short"

    def train(self, model, run):
        super().train(model, run)
        end = time.process_time() + 0.6
        while time.process_time() < end:
            pass
