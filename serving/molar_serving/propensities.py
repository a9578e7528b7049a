"""Propensities of what was shown, in the event log: pages are not told any, and could not send them with impressions.

A page that knew them would know whom the shop knows. So an impression that comes without them gets those that its list
had, as long as the answer is kept (``[serve] response_ttl_minutes``); what is sent with some stays as it is. Of lists
for somebody alone: what was searched for, or is like another item, is no choice that an evaluation could make
otherwise.
"""

import time
from collections.abc import Mapping

from molar_retrieval.data.event_parsing import FIELDS, EventRow
from molar_serving.shown import Shown, ShownAnswers
from molar_serving.wire import ListAnswer

_EVENT, _REQUEST, _ITEM, _CHANCE = map(FIELDS.index, ("event", "request_id", "item_id", "propensity"))
_PATIENCE, _LOOK = 0.25, 0.025
"""Seconds that an append waits for what another process answers and has not written yet, and between two looks."""


def propensities_of(told: ListAnswer) -> Mapping[str, float]:
    """Those of a list, by item id, before a page is kept from them."""
    return {item.item_id: item.propensity for item in told.items if item.propensity is not None}


class Propensities:
    """What is known of them, for the events of one append.

    Args:
        shown: The answers that are kept.
    """

    def __init__(self, shown: ShownAnswers) -> None:
        self._shown, self._left = shown, _PATIENCE

    def completed(self, lines: list[EventRow]) -> list[EventRow]:
        """The lines of an event, of an impression that tells none with the propensities of its list."""
        request = lines[0][_REQUEST]
        if lines[0][_EVENT] != "impression" or request is None or any(line[_CHANCE] is not None for line in lines):
            return lines
        answer = self._find(request)
        if answer is None or not answer.propensities:
            return lines
        chances = [answer.propensities.get(line[_ITEM]) for line in lines]
        return [(*line[:_CHANCE], chance, *line[_CHANCE + 1 :]) for line, chance in zip(lines, chances, strict=True)]

    def _find(self, request: str) -> Shown | None:
        found = self._shown.find(request)
        while found is None and self._left > 0 and self._shown.awaited(request):
            time.sleep(_LOOK)
            self._left -= _LOOK
            found = self._shown.find(request)
        return found
