"""It thinks for a while when it is imported."""

import time

from _good import Good

time.sleep(2.5)


class Bad(Good):
    name = "importing-is-fast"
