"""How often who may ask: a token bucket for each key, kept as one moment (the generic cell rate algorithm).

A key of a server has one bucket. A key for browsers is told to everybody, so each address has its own of it: nobody can
use up what the others have. A bucket holds what a second brings, at least one request. Wrong keys have buckets, too,
one for each address and one for all.
"""

import math
import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address

from starlette.requests import Request

from molar_serving.access import Key, WrongKeyError
from molar_serving.problems import ProblemError

_ADDRESSES = 100_000  # that are remembered; one that is forgotten has a full bucket again

_WRONG, _WRONG_AT_ONCE = 0.5, 20.0  # wrong keys a second from one address, and at once
_WRONG_OF_ALL, _WRONG_OF_ALL_AT_ONCE = 20.0, 500.0  # the same from all addresses
_EXACT = 1e-6  # seconds that do not count: sums of fractions


class RateLimits:
    """The buckets of one process, which has its share of each rate.

    Args:
        workers: Processes that share the rates.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._keys, self._wrong = _Buckets(), _Buckets()

    def wait(self, key: Key, address: str) -> float:
        """Seconds until a request may come again; 0: this one may, and is counted."""
        if key.rate is None:
            return 0.0
        who = key.name, _network(address) if key.of_browsers else ""
        return self._keys.wait(who, key.rate / self._workers, max(1.0, key.rate))

    def refusal(self, wrong: WrongKeyError, address: str) -> ProblemError:
        """How a wrong key is refused: too many from one address, or from all, are answered 429.

        Right keys do not come here: nobody can lock out their owners. No thread waits.
        """
        wait = self._wrong.wait(("", _network(address)), _WRONG / self._workers, _WRONG_AT_ONCE)
        if not wait:
            wait = self._wrong.wait(("all", ""), _WRONG_OF_ALL / self._workers, _WRONG_OF_ALL_AT_ONCE)
        if not wait:
            return wrong
        seconds = math.ceil(wait)
        return ProblemError(
            429, "too many wrong keys were sent", f"ask again in {seconds} s", headers={"Retry-After": str(seconds)}
        )


class _Buckets:
    """Token buckets, each kept as the moment at which it would be full again."""

    def __init__(self) -> None:
        self._due: OrderedDict[tuple[str, str], float] = OrderedDict()

    def wait(self, who: tuple[str, str], rate: float, most: float) -> float:
        """Seconds until ``who`` may come again, at a rate a second, ``most`` at once; 0: now, and it is counted."""
        apart, now = 1 / rate, time.monotonic()
        due = max(now, self._due.pop(who, now))
        early = due - now - (most - 1) * apart
        refused = early > _EXACT
        self._due[who] = due if refused else due + apart  # who is refused does not wait longer by asking
        if len(self._due) > _ADDRESSES:
            self._due.popitem(last=False)
        return early if refused else 0.0


def client_of(request: Request) -> str:
    """The address from which a request comes; empty where it is not known."""
    return request.client.host if request.client else ""


def _network(address: str) -> str:
    """An address, or of IPv6 the part of it that a household has: it may choose the rest."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        return address if known.ipv4_mapped else str(int(known) >> 64)
    return address
