"""The lists of a sample of people, made once for what is live, to tell to whom an item goes."""

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molar_indexes.comparison import lists_of, sample
from molar_retrieval.workspace.files import file_stamp
from molar_serving.rules_file import RulesFile

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender
    from molar_serving.service import Service

PEOPLE = 300
_MINUTES = 10.0  # after which what they did since may have changed too much


@dataclass(frozen=True)
class SampledLists:
    """Lists of some people.

    Attributes:
        generation: Which answered.
        people: Whose lists they are, by keys.
        places: By item id, who has it at which place, from 1.
        made: When, in seconds since 1970.
    """

    generation: str
    people: Sequence[str]
    places: Mapping[str, Sequence[tuple[str, int]]]
    made: float


_lock = threading.Lock()
_kept: dict[str, tuple[object, SampledLists]] = {}


def sampled_lists(service: "Service") -> SampledLists:
    """Those of what is live; made anew when it or the rules have changed, or after ten minutes."""
    recommender, root = service.recommender, str(service.workspace.root)
    about = (recommender.generation.name, file_stamp(RulesFile(service.workspace).path))
    with _lock:
        known = _kept.get(root)
        if known is None or known[0] != about or known[1].made + 60 * _MINUTES < time.time():
            known = _kept[root] = about, _made(recommender)
        return known[1]


def _made(recommender: "Recommender") -> SampledLists:
    with recommender.answering() as answerer:
        users = answerer.generation.users
        people = sample(users, min(PEOPLE, len(users))) if len(users) else []
        places: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for key, shown in lists_of(recommender, people).items():
            for place, item in enumerate(shown.items, 1):
                places[item.item_id].append((key, place))
        return SampledLists(answerer.generation.name, people, places, time.time())
