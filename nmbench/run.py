"""What `Task.train` and `Task.evaluate` are handed; also in nmbench.task."""

from nmbench.contract.run import Run
from nmbench.contract.spec import NonFiniteError

__all__ = ["NonFiniteError", "Run"]
