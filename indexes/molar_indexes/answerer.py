"""Answers from one generation, whatever is live meanwhile: what a recommender lends to each question."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from molar_indexes.answers import POPULARITY, popular, told
from molar_indexes.constraints import Constraints, RuledConstraints, no_history
from molar_indexes.generations import Generation
from molar_indexes.sessions import SessionReader
from molar_indexes.users import UserRecord
from molar_retrieval import columns
from molar_retrieval.catalog.photos_of import photos_of
from molar_retrieval.errors import RequestError
from molar_retrieval.index import SparseVector, StoredItem, Vector
from molar_retrieval.ranking.answer import Answer
from molar_retrieval.ranking.query import Fallback, Query
from molar_retrieval.ranking.request import Listing, Placed, RankingRequest
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.explain import Explained
    from molar_indexes.search import Searcher
    from molar_retrieval.ranking.ranker import Ranker
    from molar_retrieval.ranking.sentences import Speaker


class Answerer:
    """A generation with all that is needed to answer from it; threads may share it.

    Arguments are those of :class:`molar_indexes.recommender.Recommender`, whose methods say what the questions mean;
    each takes ``now``, from when ages count (None: from the moment of the answer).

    Attributes:
        refused: Why a newer generation does not answer instead, for the notes of answers; None: there is none.
    """

    def __init__(
        self, workspace: Workspace, generation: Generation, rules: Path | None, *, rules_needed: bool, trust: bool
    ) -> None:
        self.workspace, self.generation = workspace, generation
        self.refused: str | None = None
        self._ruled = RuledConstraints(generation, rules, needed=rules_needed)
        self._reader = SessionReader(workspace, generation)
        self._speakers: dict[str, Speaker] = {}
        self._trust = trust
        self._photos = photos_of(workspace)

    def succeed(self, former: "Answerer") -> None:
        """Take over from the answerer of another generation.

        SettingsError if rules that it heeds cannot be read, or not for this generation.
        """
        self._ruled.succeed(former._ruled)

    def close(self) -> None:
        """Release the generation's files."""
        self.generation.close()

    def query(self, user_id: str, query: Query, fallback: Fallback, now: datetime | None) -> Answer:
        """The list of somebody known."""
        began = time.perf_counter()
        constraints, request = self._asked(query, now)
        user = self._user(user_id, required=fallback == "none")
        if user is None:
            request = constraints.for_user(request, None)
            listing, stored = popular(self.generation, request)
            return self._told(request, POPULARITY, listing, stored, {"search": time.perf_counter() - began}, user_id)
        found = time.perf_counter()
        return self._aligned(user_id, constraints.for_user(request, user), {"user": found - began})

    def session(self, item_ids: Sequence[str], query: Query, now: datetime | None) -> Answer:
        """The list of somebody who looked at these items, oldest first; a note tells of unknown ones."""
        began = time.perf_counter()
        constraints, request = self._asked(query, now)
        rows, notes = constraints.session(list(item_ids))
        user = self._reader(rows)
        encoded = time.perf_counter()
        return self._aligned(None, constraints.for_user(request, user).noting(*notes), {"encode": encoded - began})

    def similar(self, item_id: str, query: Query, now: datetime | None) -> Answer:
        """The items whose content is most like that of an item."""
        began = time.perf_counter()
        constraints, request = self._asked(query, now)
        row, vector = self._content_of(constraints, item_id)
        request = constraints.for_user(request, None).hiding([row])
        best = self.generation.index.top(columns.CONTENT, vector, query.k, exclude=request.hidden, where=request.where)
        places = [Placed(row, score, {"content": score}, rank) for rank, (row, score) in enumerate(best, 1)]
        stored = self.generation.index.fetch([row for row, _ in best])
        seconds = {"search": time.perf_counter() - began}
        return self._told(request, columns.CONTENT, Listing(places), stored, seconds)

    def search(
        self,
        text: str | None,
        image: "str | Path | Image | None",
        similar: str | None,
        user_id: str | None,
        query: Query,
        now: datetime | None,
    ) -> Answer:
        """The items that words, a photo or another item ask for, or several of them together."""
        began = time.perf_counter()
        constraints, request = self._asked(query, now)
        request = constraints.for_user(request, None if user_id is None else self._user(user_id))
        queries: dict[str, Vector | SparseVector] = {}
        if similar is not None:
            row, vector = self._content_of(constraints, similar)
            queries[columns.CONTENT] = vector
            request = request.hiding([row])
        queries |= self._searcher.queries(text, image)
        if not queries:
            raise RequestError("nothing is asked for", "name words, a photo or an item")
        encoded = time.perf_counter()
        places = self._searcher.find(queries, request)
        rows = [placed.row for placed in places]
        stored = self.ranker.stored(rows)
        like, notes = (None, []) if text is None else self._searcher.similarities(text, queries, rows)
        seconds = {"encode": encoded - began, "search": time.perf_counter() - encoded}
        answer = self._told(request, "search", Listing(places, notes), stored, seconds, user_id)
        if like is None:
            return answer
        items = [replace(item, similarity=value) for item, value in zip(answer.items, like, strict=True)]
        return replace(answer, items=items)

    def rank_many(self, users: Sequence[UserRecord], query: Query, now: datetime | None) -> Iterator[Listing]:
        """The lists of several users of the generation; what is wrong with the query comes up at once."""
        constraints, request = self._asked(query, now)
        constraints.for_user(request, None)
        return self.ranker.rank([constraints.for_user(request, user) for user in users])

    @cached_property
    def ranker(self) -> "Ranker":
        """What ranks the generation's items."""
        from molar_retrieval.ranking.ranker import Ranker

        table = self.generation.table
        own = self.generation
        return Ranker(own.index, table.items, own.slots, table.reranker, own.exploration)

    def _asked(self, query: Query, now: datetime | None) -> tuple[Constraints, RankingRequest]:
        """The constraints of one answer, from beginning to end, and what they make of a query."""
        constraints = self._ruled.now()
        request = constraints.request(query, now)
        return constraints, request if self.refused is None else request.noting(self.refused)

    def _user(self, user_id: str, *, required: bool = True) -> UserRecord | None:
        """Somebody with a history."""
        user = self.generation.users.get(user_id)
        if user is not None and len(user.history):
            return user
        if required:
            raise no_history(user_id)
        return None

    def _content_of(self, constraints: Constraints, item_id: str) -> tuple[int, Vector]:
        row = constraints.rows([item_id])[0]
        item = self.generation.index.fetch([row], vectors=[columns.CONTENT])[0]
        if columns.CONTENT not in item.vectors:
            raise RequestError(f"the item {item_id!r} has neither text nor photo", "name an item that has content")
        return row, item.vectors[columns.CONTENT]

    @cached_property
    def _searcher(self) -> "Searcher":
        from molar_indexes.search import Searcher

        return Searcher(self.generation, trust_remote_code=self._trust)

    def _aligned(self, user_id: str | None, request: RankingRequest, seconds: dict[str, float]) -> Answer:
        began = time.perf_counter()
        (listing,) = self.ranker.rank([request])
        stored = self.ranker.stored([placed.row for placed in listing.places])
        ranked = time.perf_counter()
        seconds = seconds | {"search": ranked - began}
        reasons: Sequence[Explained] = ()
        if request.query.explain:
            reasons = self._reasons(request, listing)
            seconds["explain"] = time.perf_counter() - ranked
        return self._told(request, columns.ALIGNED, listing, stored, seconds, user_id, reasons)

    def _reasons(self, request: RankingRequest, listing: Listing) -> "Sequence[Explained]":
        from molar_indexes.explain import explain
        from molar_retrieval.binding import file_beside
        from molar_retrieval.ranking.sentences import FILE_NAME, Speaker

        language = request.query.language
        if language not in self._speakers:
            self._speakers[language] = Speaker.of(language, file_beside(self.workspace.root, FILE_NAME))
        return explain(self.generation.table, self.ranker, request, listing.places, self._speakers[language])

    def _told(
        self,
        request: RankingRequest,
        basis: str,
        listing: Listing,
        stored: Sequence[StoredItem],
        seconds: dict[str, float],
        user_id: str | None = None,
        reasons: "Sequence[Explained]" = (),
    ) -> Answer:
        noted = replace(listing, notes=[*request.notes, *listing.notes])
        return told(self.generation, self._photos, request, basis, noted, stored, seconds, user_id, reasons)
