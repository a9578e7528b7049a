"""Intervals of shares: so many of so many, and the difference of two of them.

Cases count as independent. Where they are not (lists of one person), the intervals are somewhat too narrow.
"""

import math
from statistics import NormalDist

from molar_eval.statistics.bootstrap import ConfidenceInterval


def share_interval(part: int, whole: int, *, level: float = 0.95) -> ConfidenceInterval | None:
    """The share ``part / whole`` with its score interval; None where ``whole`` is 0.

    Unlike the interval by the standard error it stays near its nominal ``level`` where few cases or none are hits.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    if not 0 <= part <= whole:
        raise ValueError(f"{part} is no part of {whole}")
    if not whole:
        return None
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, spread = part / whole, z * z / whole
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / whole + spread / (4 * whole))
    return ConfidenceInterval(share, min(max(middle - half, 0.0), share), max(min(middle + half, 1.0), share))


def difference_of_shares(
    one: tuple[int, int], other: tuple[int, int], *, level: float = 0.95
) -> ConfidenceInterval | None:
    """The share of ``one``, as (part, whole), minus that of ``other``, of independent cases; None without cases.

    Source: Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I, method 10.
    """
    a, b = share_interval(*one, level=level), share_interval(*other, level=level)
    if a is None or b is None:
        return None
    gap = a.mean - b.mean
    low = gap - math.hypot(a.mean - a.low, b.high - b.mean)
    return ConfidenceInterval(gap, low, gap + math.hypot(a.high - a.mean, b.mean - b.low))
