"""What `Task.train` and `Task.evaluate` are handed, as a plugin's author imports it (nmbench.contract.run)."""

from nmbench.contract.run import NonFiniteError, Run

__all__ = ["NonFiniteError", "Run"]
