"""What the event log says of an experiment's treatment before anybody sees it: whether it is to be refused.

Both arms are asked for the lists of the moments at which people were shown one, by the events of then, and what these
would have earned is told from the impressions: :mod:`molar_eval.kpi.candidate`. Only what was shown after the
generations of both arms were made counts, as they have learned of the rest. New items are drawn for neither arm: the
draws would be those that made the log. The rules are those of now.

Rewards are those of :mod:`molar_eval.kpi.impression_events`: whether a place was clicked, looked at, put into a cart or
bought. People are those of the whole log, whatever the experiment's segment.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from molar_eval.kpi.candidate import CandidateVerdict, candidate_verdict
from molar_eval.kpi.impression_events import logged_impressions
from molar_eval.kpi.impressions import Impressions
from molar_eval.kpi.target_policy import TargetPolicy, whole_lists
from molar_eval.since_both import known_events
from molar_indexes.recommender import Recommender, as_it_was
from molar_retrieval.errors import DataError
from molar_retrieval.experiments.definition import Arm
from molar_retrieval.privacy.pseudonyms import of_key
from molar_retrieval.ranking.rules import FILE_NAME
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.discovery import file_beside

MOST = 500
"""Requests that are looked at; of more some, spread evenly over the log."""


@dataclass(frozen=True)
class Moment:
    """When somebody was shown a list.

    Attributes:
        person: Who, by key, see :mod:`molar_retrieval.privacy.pseudonyms`.
        events: The last event before it, by its number.
        at: The time.
        places: How many items the list had.
    """

    person: str
    events: int
    at: datetime
    places: int


Lists: TypeAlias = Callable[[Sequence[Moment]], Sequence[Sequence[str]]]
"""From moments to the item ids, best first, that would have been shown."""


def verdict_beforehand(
    workspace: Workspace, control: Arm, treatment: Arm, *, harm: float = 0.0, most: int = MOST
) -> CandidateVerdict:
    """Whether a treatment is to be refused; that the log cannot tell is a result as well.

    Args:
        workspace: With a live generation and, for anything to be told, impressions in its event log.
        control: What people have.
        treatment: What is to be tried.
        harm: The share of what is earned per place that may be lost without harm.
        most: Requests that are looked at; two lists for each take 5 to 17 ms.

    Raises:
        MissingArtefactError: If there is no generation, or none of that name.
        SettingsError: If the rules of an arm are wrong.
    """
    try:
        log, _ = logged_impressions(workspace)
    except DataError as error:
        return CandidateVerdict("cannot_tell", (error.message,))
    with arm_lists(workspace, control) as (before, first), arm_lists(workspace, treatment) as (after, second):
        return verdict_on_lists(log, before, after, since=max(first, second), harm=harm, most=most)


def verdict_on_lists(
    log: Impressions, control: Lists, candidate: Lists, *, since: int = 0, harm: float = 0.0, most: int = MOST
) -> CandidateVerdict:
    """The same of any two ways to make lists, by impressions of the event log after the event ``since``."""
    assert log.number is not None
    assert log.timestamp is not None
    later = np.flatnonzero(log.number[log.first] > since)
    if not len(later):
        return CandidateVerdict("cannot_tell", ("no list was shown since the generations of both arms were made",))
    chosen = np.zeros(len(log.contexts), bool)
    chosen[later[np.arange(min(most, len(later))) * len(later) // min(most, len(later))]] = True
    log = log.select(chosen)
    moments, ids = _moments(log), {item_id: n for n, item_id in enumerate(log.items.array.to_pylist())}
    before, after = (_policy(lists(moments), ids) for lists in (control, candidate))
    return candidate_verdict(log, log.item, after, before, harm=harm)


@contextmanager
def arm_lists(workspace: Workspace, arm: Arm) -> Iterator[tuple[Lists, int]]:
    """The lists of an arm, and the last event that its generation has learned of."""
    if arm.shows == "nothing":
        yield lambda moments: [[] for _ in moments], 0
        return
    rules = arm.rules_in(workspace.root) or file_beside(workspace.root, FILE_NAME)
    with Recommender.open(workspace.root, arm.generation, follow=False) as recommender:
        own = rules if arm.rules is not None or rules.exists() else None

        def lists(moments: Sequence[Moment]) -> list[list[str]]:
            return [_shown(recommender, own, arm, moment) for moment in moments]

        yield lists, known_events(recommender.generation)


def _shown(recommender: Recommender, rules: Path | None, arm: Arm, moment: Moment) -> list[str]:
    kind, name = of_key(moment.person)
    user, session = (name, None) if kind == "user_id" else (None, name)
    with as_it_was(recommender, moment.events, moment.at, rules) as past:
        if arm.shows == "popular":
            answer = past.popular(moment.places, user_id=user, session_id=session)
        else:
            options = {**arm.options, "explore": False}
            answer = past.query(user, moment.places, session_id=session, fallback="popular", **options)
    return [item.item_id for item in answer.items]


def _moments(log: Impressions) -> list[Moment]:
    assert log.number is not None
    assert log.timestamp is not None
    places = np.bincount(log.context)
    return [
        Moment(log.users.id(int(user)), int(number) - 1, datetime.fromtimestamp(int(at), UTC), int(count))
        for user, number, at, count in zip(
            log.user[log.first], log.number[log.first], log.timestamp[log.first], places, strict=True
        )
    ]


def _policy(lists: Sequence[Sequence[str]], ids: dict[str, int]) -> TargetPolicy:
    """Lists as a policy; items that no impression has get the next numbers in ``ids``."""
    rows: npt.NDArray[np.int64] = np.full((len(lists), max(1, *map(len, lists), 1)), -1)
    for row, items in zip(rows, lists, strict=True):
        row[: len(items)] = [ids.setdefault(item_id, len(ids)) for item_id in items]
    return whole_lists(rows)
