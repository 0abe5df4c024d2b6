"""The name of nmbench.contract.modes until 0.1; kept for one release, since task plugins import it."""

from nmbench.contract.modes import evaluating

__all__ = ["evaluating"]
