"""Where a function of one number is zero."""

from collections.abc import Callable


def root(of: Callable[[float], float], low: float, high: float, within: float = 2e-12) -> float:
    """Where a continuous function is zero between two places at which its signs differ, by Brent's method."""
    from scipy.optimize import brentq  # takes as long to import as all else that a server reads of experiments

    return float(brentq(of, low, high, xtol=within))
