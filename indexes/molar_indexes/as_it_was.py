"""A generation as it answered at a moment that is over: by the events that had come, by the rules of then.

Asked what was asked then, it gives the same answer to the last digit: items, order, scores, reasons, draws of new
items, which go by person and day. Of that moment nothing needs to be kept but the generation, the event log and the
rules. The answer differs where the log has not what it had then: where a retention removed events, or where something
is taken back that was sealed since.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from molar_indexes.answerer import Answerer
from molar_indexes.constraints import RulesSource
from molar_indexes.following import Following
from molar_indexes.recommender import Recommender


@contextmanager
def as_it_was(
    recommender: Recommender, events: int, at: datetime, rules: RulesSource | None = None
) -> Iterator[Recommender]:
    """What a recommender's generation answered once.

    Args:
        recommender: Has the generation open; it stays open until the context is left.
        events: The last event that was known.
        at: The moment; that of an answer is in its id, see :func:`molar_retrieval.ranking.results.made_at`.
        rules: The file of rules of then, or what it held; None: there were none.
    """
    with recommender.answering() as present:
        about, needed = (present.workspace, present.generation, rules), rules is not None
        former = Answerer(*about, rules_needed=needed, trust=False, until=events)
        try:
            past = Recommender(present.workspace, Following(former))
            past.now = at
            yield past
        finally:
            former.release_log()
