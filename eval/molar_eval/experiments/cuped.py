"""What people did before an experiment taken out of what they do in it: CUPED.

Source: Deng, Xu, Kohavi and Walker 2013, Improving the Sensitivity of Online Controlled Experiments by Utilizing
Pre-Experiment Data, doi:10.1145/2433396.2433413.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def slope(outcome: Floats, before: Floats) -> float:
    """How much of an outcome goes with one unit of the same people's figure from before; 0 where that is constant."""
    spread = float(np.var(before))
    return 0.0 if spread == 0 else float(np.mean((outcome - outcome.mean()) * (before - before.mean()))) / spread


def explained(outcome: Floats, before: Floats) -> float:
    """The share of an outcome's variance that CUPED takes out, in [0, 1]: the squared correlation."""
    variance = float(np.var(outcome))
    return 0.0 if variance == 0 else min(1.0, slope(outcome, before) ** 2 * float(np.var(before)) / variance)


def adjusted(outcome: Floats, before: Floats) -> Floats:
    """Outcomes of all arms together without what was known of their people before; their mean stays."""
    found: Floats = outcome - slope(outcome, before) * (before - before.mean())
    return found
