"""It draws a random number when it is imported."""

import random

from _good import Good

random.random()


class Bad(Good):
    name = "importing-has-no-side-effects"
