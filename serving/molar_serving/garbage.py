"""Python looks through all objects that it holds for garbage now and then, which takes a server a tenth of a second.

Most of them are there for as long as a generation answers. They are looked through once after it began, and passed over
from then on, until another one answers. What an answer makes is gone after it, so new objects are looked through once
many answers have been given, not after each of them.
"""

import gc

_FULL = 2  # the generation of objects that is collected last, with all others
_NEW = 20_000  # objects that are made before the new ones are looked through; an answer makes some hundreds
_due = False


def look_once(*, now: bool = False) -> None:
    """Pass over what survives the next full collection; ``now``: which takes place at once."""
    global _due
    _due = True
    gc.set_threshold(_NEW)
    gc.unfreeze()
    if _pass_over not in gc.callbacks:
        gc.callbacks.append(_pass_over)
    if now:
        gc.collect()


def _pass_over(phase: str, info: dict[str, int]) -> None:
    global _due
    if _due and phase == "stop" and info["generation"] == _FULL:
        _due = False
        gc.freeze()
