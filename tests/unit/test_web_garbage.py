"""What a server holds is looked through for garbage once, and passed over until another generation answers."""

import gc
import weakref

from molar_serving.service import look_once


class InCycle:
    def __init__(self) -> None:
        self.own = self


def test_what_is_there_is_passed_over_until_the_next_look():
    threshold = gc.get_threshold()
    gc.set_threshold(700)
    try:
        kept, gone = InCycle(), weakref.ref(InCycle())
        look_once(now=True)
        assert gone() is None
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] > 10_000  # an answer makes some hundreds of objects
        later, gone = weakref.ref(InCycle()), weakref.ref(kept)
        del kept
        gc.collect()
        assert later() is None
        assert gone() is not None
        look_once()
        assert gc.get_freeze_count() == 0
        gc.collect()
        assert gone() is None
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
