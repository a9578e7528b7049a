"""How much less counts what lies apart in time; answers read it, so it imports NumPy alone."""

import numpy as np
import numpy.typing as npt

_MINUTE = 60


def time_decay(gaps: npt.NDArray[np.integer], fade: float) -> npt.NDArray[np.float64]:
    """By a power law of the seconds between: ``(1 + gap / 60) ** -fade``, in (0, 1], of the same shape.

    A gap below 0, as where order and times disagree, is none.
    """
    found: npt.NDArray[np.float64] = np.maximum(gaps, 0) / _MINUTE
    found += 1
    return np.power(found, -fade, out=found)
