"""What a page is told of people: nothing by which it could tell those whom the shop knows from those whom it does not.

A key for browsers can be read by everybody, and a user id can be guessed. The list itself differs, of course: whoever
knows an id gets the list of this person, and can draw conclusions from it. Nothing else differs: not what is said about
the list, not why an item is in it (which would name what the person took), not the time that it takes.
"""

import asyncio
import time
from typing import Any

from molar_serving.access import Key
from molar_serving.problems import ProblemError
from molar_serving.wire import ListAnswer

STEP = 0.025
"""Seconds: answers to pages leave at multiples of it. A list takes less, of somebody who is known or not."""


def check_reasons(key: Key, asked: Any) -> None:
    """Raise a ProblemError where a page asks why a list is as it is that it asks for by a ``user_id``."""
    if key.of_browsers and getattr(asked, "explain", False) and getattr(asked, "user_id", None) is not None:
        raise ProblemError(
            403,
            "pages are not told why, of a user_id: it would name what the person took",
            "ask with anonymous_id or items, or from a backend",
            field="explain",
        )


def discreet(told: ListAnswer) -> ListAnswer:
    """What a page is told of a list: the items, and what was asked for of them."""
    told.basis = told.known = told.shortfall = None
    told.notes, told.milliseconds = [], {}
    for item in told.items:
        item.score = item.parts = item.rule = item.propensity = None
    return told


async def level(began: float, deadline: float | None) -> None:
    """Wait for the next multiple of :data:`STEP` since a request began, unless that would be too late.

    ``began`` and ``deadline`` are on the clock of ``time.perf_counter``.
    """
    now = time.perf_counter()
    rest = STEP - (now - began) % STEP
    if deadline is None or now + rest < deadline:
        await asyncio.sleep(rest)
