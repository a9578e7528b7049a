"""Every bound on a request and on a file of rules; those of ``molar.toml`` are in the settings.

What is beyond a bound is refused by a RequestError that names it, before anything is parsed or allocated.
"""

from collections.abc import Collection
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from molar_retrieval.errors import RequestError, shown

K = 1_000  # items of one answer
LISTED = 10_000  # items of each list that `molar recommend` writes
CONDITION = 4_096  # bytes of a condition in the filter language, as UTF-8
TERMS = 200  # comparisons in a condition; each value of in (…) is one
LEVELS = 50  # conditions within conditions
TEXT = 4_096  # bytes of a text to search by
PHOTO = 10 << 20  # bytes of a photo's file that is sent to search by
ID = 2_048  # bytes of the id of an item or a user, or of the name of a field
IDS = 10_000  # ids that one request excludes or is limited to
FIELDS = 100  # attributes of items that one request asks for
SESSION = 1_000  # items of a session
USERS = 10_000_000  # users that `molar recommend` is asked for by name
COMPARED_PEOPLE = 2_000  # people whose lists are made twice to be compared
EVENT_ITEMS = 200  # items of an event
EVENT_DATA = 65_536  # bytes of what an event says beside its fields, as JSON
EARLIEST = 631_152_000  # seconds since 1970: the year 1990; no shop logged interactions before
AHEAD = 86_400  # seconds that a time may lie ahead of the clock: time zones differ by less than a day
CLOCK_OFF = 86_400  # seconds by which the clock of a sender is set right; what was sent longer ago is an archive
DEMO_DAYS = 366  # days that the demo shop lives at once
REFUSALS = 1_000  # refused events that are named one by one; the others are counted
TAIL = 10_000  # events that `molar events tail` shows
KEPT_DAYS = 36_500  # days for which events can be kept
PROCESSES = 256  # processes that work at once
PATH, PATH_PART = 4_096, 255  # bytes of a path, and of a name in it: what a file system takes
TOML = 16 << 20  # bytes of a TOML file
RULES = 10_000  # rules of a shop
WEIGHING = 100
"""Rules that boost, bury, prefer what is fresh or set a quota: each costs an answer a search or a look at its items."""
NAMED = 100_000  # items that all rules name together
LIMITING = 100
"""Comparisons that all rules make to require or to ban; bans of words of one field are one, named items none."""
SEGMENTS = 200  # different conditions on people among the rules
PLACE = 10_000  # the last place that a rule can pin an item at: no list is longer


def whole(name: str, value: Any, most: int) -> None:
    """Refuse what is no integer from 1 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise RequestError(f"{name} = {shown(value)} is no whole number", f"name one from 1 to {most:,}")
    if int(value) < 1:
        raise RequestError(f"{name} = {shown(value)} asks for nothing", f"ask for at least one, at most {most:,}")
    if int(value) > most:
        raise RequestError(f"{name} = {shown(value)} is more than {most:,}", f"ask for at most {most:,}")


def time_fault(micros: int, now: int) -> tuple[str, str] | None:
    """What is wrong with the time of an event, and the remedy; None: it is within its bounds.

    Both are microseconds since 1970. Of the times of a whole log :func:`molar_retrieval.data.times.impossible`
    says the same.
    """
    if micros < EARLIEST * 1_000_000:
        return "before 1990", "correct the time, its unit (seconds, milliseconds) or its zone"
    if micros > now + AHEAD * 1_000_000:
        return "in the future", "correct the time, its unit (seconds, milliseconds) or its zone"
    return None


def share(name: str, value: Any) -> None:
    """Refuse what is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= value <= 1:  # type: ignore[operator]
        raise RequestError(f"{name} = {shown(value)} is not between 0 and 1", "0 leaves the order as it is")


def text(name: str, value: Any, most: int) -> None:
    """Refuse what is no text of at most ``most`` bytes as UTF-8."""
    if not isinstance(value, str):
        raise RequestError(f"{name} is no text but {shown(value)}", "give a text")
    if len(value) <= most:
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise RequestError(f"{name} {shown(value)} is not valid Unicode", "give it as UTF-8") from error
        if size <= most:
            return
    raise RequestError(f"{name} {shown(value)} is longer than {most:,} bytes", f"give at most {most:,} bytes")


def ids(name: str, values: Any, most: int) -> None:
    """Refuse what is no collection of at most ``most`` ids."""
    if not isinstance(values, Collection) or isinstance(values, str | bytes):
        raise RequestError(f"{name} is no list of ids but {shown(values)}", "give a list of ids")
    if len(values) > most:
        raise RequestError(f"{name} has {len(values):,} ids, more than {most:,}", f"name at most {most:,} ids")
    for value in values:
        text(f"the id in {name}", value, ID)


def path(name: str, value: str | Path) -> None:
    """Refuse a path that no file can have."""
    text(name, str(value), PATH)
    if "\0" in str(value):
        raise RequestError(f"{name} {shown(str(value))} has a zero byte in it", "name a file")
    for part in Path(value).parts:
        text(f"a name in {name}", part, PATH_PART)
