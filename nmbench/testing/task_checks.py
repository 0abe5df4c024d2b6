"""The checks of a task that are made in this process, cheap ones first; nmbench.testing.isolation has the others."""

from nmbench.testing.data_checks import DATA_CHECKS
from nmbench.testing.evaluation_checks import EVALUATION_CHECKS
from nmbench.testing.training_checks import TRAINING_CHECKS

__all__ = ["TASK_CHECKS"]

# the data are damaged at the very end
TASK_CHECKS = (*DATA_CHECKS[:-1], *TRAINING_CHECKS, *EVALUATION_CHECKS, DATA_CHECKS[-1])
