"""Whether somebody is in the segment of an experiment: by attributes, by history, by where they are."""

from typing import TYPE_CHECKING

from molar_retrieval.columns import ITEM_ID
from molar_retrieval.errors import MolarError
from molar_retrieval.experiments.definition import Segment
from molar_retrieval.ranking.filter_language import parse
from molar_retrieval.ranking.filters import Expression, matches

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender


class SegmentTest:
    """The segment of an experiment, its conditions read by what the live generation knows.

    Attributes:
        problem: What is wrong with a condition, which nobody fulfils then; None: nothing.
    """

    def __init__(self, segment: Segment, recommender: "Recommender") -> None:
        self._segment, self._recommender = segment, recommender
        self.problem: MolarError | None = None
        self._people: Expression | None = None
        self._items: Expression | None = None
        generation = recommender.generation
        try:
            if segment.people is not None:
                self._people = parse(segment.people, generation.manifest.facts.get("segments", {}))
            if segment.items is not None:
                self._items = parse(segment.items, {ITEM_ID: "keyword", **generation.index.spec.fields})
        except MolarError as error:
            self.problem = error

    @property
    def everybody(self) -> bool:
        """Whether it has no condition, but for where people are."""
        return self._segment.people is None and self._segment.items is None

    def at(self, placement: str | None) -> bool:
        """Whether a placement is one of the segment's."""
        return not self._segment.placements or placement in self._segment.placements

    def has(self, key: str | None) -> bool:
        """Whether somebody, by their key, is in it now; of nobody's key nothing is known."""
        if self.everybody:
            return True
        if self.problem is not None or key is None:
            return False
        with self._recommender.answering() as answerer:
            _, state = answerer.present()
            record, _ = answerer.person(state, key)
            if record is None:
                return False
            if self._people is not None and not matches(self._people, record.attributes):
                return False
            if self._items is None:
                return True
            rows = sorted({int(row) for row in record.history})
            return any(item.fulfils(self._items) for item in state.items.index.fetch(rows))
