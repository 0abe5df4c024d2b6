"""The name of nmbench.contract.data until 0.1; kept for one release, since task plugins import it."""

from nmbench.contract.data import made_once

__all__ = ["made_once"]
