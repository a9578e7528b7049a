"""How often who may ask: a token bucket for each key, kept as one moment (the generic cell rate algorithm).

A key of a server has one bucket. A key for browsers is told to everybody, so each address has its own of it: nobody can
use up what the others have. A bucket holds what a second brings, at least one request.
"""

import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from molar_serving.access import Key

_ADDRESSES = 100_000  # that are remembered; one that is forgotten has a full bucket again

_EXACT = 1e-6  # seconds that do not count: sums of fractions


class RateLimits:
    """The buckets of one process, which has its share of each rate.

    Args:
        workers: Processes that share the rates.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._due: OrderedDict[tuple[str, str], float] = OrderedDict()  # when a bucket would be full again

    def wait(self, key: Key, address: str) -> float:
        """Seconds until a request may come again; 0: this one may, and is counted."""
        if key.rate is None:
            return 0.0
        apart = self._workers / key.rate  # seconds between two requests of one process
        most = max(1.0, key.rate) - 1  # that may come at once beside the first one
        who = key.name, _network(address) if key.of_browsers else ""
        now = time.monotonic()
        due = max(now, self._due.pop(who, now))
        early = due - now - most * apart
        refused = early > _EXACT
        self._due[who] = due if refused else due + apart  # who is refused does not wait longer by asking
        if len(self._due) > _ADDRESSES:
            self._due.popitem(last=False)
        return early if refused else 0.0


def _network(address: str) -> str:
    """An address, or of IPv6 the part of it that a household has: it may choose the rest."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        return address if known.ipv4_mapped else str(int(known) >> 64)
    return address
