"""A question with all that it is answered from, of one moment."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from molar_indexes.constraints import Constraints
from molar_indexes.overlay import OverlayState
from molar_indexes.users import UserRecord
from molar_retrieval.ranking.index_protocol import Index
from molar_retrieval.ranking.objectives import Objective
from molar_retrieval.ranking.query import ResolvedQuery


@dataclass(frozen=True, eq=False)
class Posed:
    """A question, and what it is answered from, from beginning to end."""

    constraints: Constraints
    state: OverlayState
    request: ResolvedQuery  # for nobody yet
    objective: Objective  # what is asked for
    seen_since: frozenset[int] = frozenset()  # rows that are left out of the list, which is made as if they were not
    objects: bool = False  # whether who asks is to be answered as nobody

    @property
    def index(self) -> Index:
        """The items as they are."""
        return self.state.items.index

    def noting(self, notes: Iterable[str]) -> Self:
        """The same with some more notes for the answer."""
        request = self.request.noting(*notes)
        return self if request is self.request else replace(self, request=request)

    def of(self, user: UserRecord | None) -> ResolvedQuery:
        """The request for somebody, or for nobody."""
        return self.constraints.for_user(self.request, self.state.items, user)
