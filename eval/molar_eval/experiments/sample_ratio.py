"""Whether as many people are in each arm as were to be: if not, something lost some of them, and no verdict holds.

Source: Fabijan, Gupchup, Gupta, Omhover, Qin, Vermeer and Dmitriev 2019, Diagnosing sample ratio mismatch in online
controlled experiments, doi:10.1145/3292500.3330722.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy

MISMATCH = 0.001
"""Below which p there is no verdict."""
_CONCENTRATION = 1_000.0


def sample_ratio_p(people: Sequence[int], shares: Sequence[float]) -> float:
    """How likely numbers at least as uneven are by chance; 1 without people.

    It may be asked at any time: that it is ever below p has a chance of at most p. It is one over the Bayes factor of a
    Dirichlet distribution around the planned shares.

    Args:
        people: In each arm.
        shares: Planned, in any unit, all above 0.

    Source: Lindon and Malek 2022, Anytime-valid inference for multinomial count data, NeurIPS.
    """
    planned, counts = _planned(people, shares), np.asarray(people, np.float64)
    prior = _CONCENTRATION * planned
    gained = gammaln(prior + counts).sum() - gammaln(prior).sum()
    lost = gammaln(_CONCENTRATION + counts.sum()) - gammaln(_CONCENTRATION)
    return float(min(1.0, np.exp(-(gained - lost - xlogy(counts, planned).sum()))))


def _planned(people: Sequence[int], shares: Sequence[float]) -> npt.NDArray[np.float64]:
    planned = np.asarray(shares, np.float64)
    if len(people) != len(shares) or len(people) < 2 or not (planned > 0).all() or min(people) < 0:
        raise ValueError(f"{people} people in arms of {shares}: give two arms or more, with shares above 0")
    return np.asarray(planned / planned.sum())
