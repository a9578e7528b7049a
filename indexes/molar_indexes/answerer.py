"""Answers from one generation and the events since, whatever is live meanwhile: what is lent to each question.

What ranks the items of a generation as they are now: a ranker for every aim that lists are asked for.

Of what somebody takes next it depends on the moment which weights answer: where those who come back have weights of
their own, requests of several people are ranked by several rankers.
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from molar_indexes.constraints import Constraints, RuledConstraints, RulesSource, no_history
from molar_indexes.generations import Generation
from molar_indexes.live_state import OBJECTING, LiveItems, LivePerson, Overlay, OverlayState
from molar_indexes.sessions import SessionReader
from molar_indexes.users import UserRecord
from molar_retrieval import columns
from molar_retrieval.errors import RequestError, shown, suggestion
from molar_retrieval.privacy.pseudonyms import Pseudonymiser, of_key
from molar_retrieval.privacy.suppression import EVER
from molar_retrieval.ranking.index_protocol import Index, SparseVector, StoredItem, Vector
from molar_retrieval.ranking.objectives import NEXT_ITEM, Objective, served
from molar_retrieval.ranking.query import BatchQuery, Fallback, Listing, Query, ResolvedQuery, ScoredItem, combined
from molar_retrieval.ranking.results import Recommendation, Recommendations, new_id
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import ObjectiveName
from molar_retrieval.workspace.discovery import file_beside

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.explain import Explained
    from molar_indexes.search import Searcher
    from molar_retrieval.ranking.explanations import Speaker
    from molar_retrieval.ranking.ranked_list import RankedList
    from molar_retrieval.ranking.ranker import Ranker

POPULARITY = "popularity"
_NAMED = 3  # unknown fields that notes name
_MORE = 10  # popular items that are looked at at once, beside those asked for


def told(
    generation: Generation,
    photos: Callable[[str], Path | None],
    request: ResolvedQuery,
    basis: str,
    listing: Listing,
    stored: Sequence[StoredItem],
    seconds: dict[str, float],
    user_id: str | None,
    reasons: "Sequence[Explained]",
    events: int,
    objective: ObjectiveName | None,
) -> Recommendations:
    """A list as it is told; ``stored`` has the item of each place, ``reasons`` one for each if they are asked for."""
    items: list[Recommendation] = []
    for placed, item, why in zip_longest(listing.places, stored, reasons):
        items.append(
            Recommendation(
                rank=len(items) + 1,
                item_id=item.item_id,
                title=item.payload.get(columns.TITLE),
                score=placed.score,
                parts=placed.parts,
                rank_by_score=placed.by_score,
                rule=", ".join(placed.causes) or None,
                propensity=placed.propensity,
                reasons=() if why is None else (why.sentence,),
                evidence=None if why is None else why.evidence,
                payload=item.payload,
            )
        )
    milliseconds = {name: round(1000 * value, 3) for name, value in seconds.items()}
    return Recommendations(
        user_id=user_id,
        k=request.query.k,
        generation=generation.name,
        basis=basis,
        items=items,
        shortfall=_shortfall(generation, request, basis, len(items)),
        notes=[*generation.notes, *request.notes, *listing.notes, *_no_fields(generation, request.query.fields)],
        timings_ms=milliseconds | {"total": round(sum(milliseconds.values()), 3)},
        request_id=new_id(None if request.query.as_of is not None else request.now),
        events=events,
        objective=objective,
        fields=request.query.fields,
        photo_of=photos,
    )


def _no_fields(generation: Generation, names: Sequence[str]) -> list[str]:
    """What to say of attributes that the catalogue does not have: no page breaks where a column was renamed."""
    known = {*generation.spec.fields, columns.TITLE, columns.IMAGE} if names else set()
    unknown = [one for one in names if one not in known][:_NAMED]
    remedies = [suggestion(name, known, "name an attribute of the items") for name in unknown]
    told = zip(unknown, remedies, strict=True)
    return [f"the catalogue has no field {shown(name)}, so it is null: {remedy}" for name, remedy in told]


def popular(
    generation: Generation, stored: Callable[[Sequence[int]], Sequence[StoredItem]], request: ResolvedQuery
) -> tuple[Listing, list[StoredItem]]:
    """The most popular items that may come, for people without history, and what is ``stored`` of them."""
    where, query, places, items = request.where, request.query, list[ScoredItem](), list[StoredItem]()
    left = ((row, float(count)) for row, count in generation.popular if row not in request.hidden)
    while len(items) < query.k and (some := list(islice(left, query.k + _MORE))):
        for item, (row, score) in zip(stored([row for row, _ in some]), some, strict=True):
            if len(items) < query.k and (where is None or item.fulfils(where)):
                items.append(item)
                places.append(ScoredItem(row, score, {POPULARITY: score}, len(items)))
    unused = [name for name in ("diversity", "calibrate", "explain") if getattr(query, name)]
    notes = [f"the most popular items come as they are, without {', '.join(unused)}"] if unused else []
    return Listing(places, notes), items


def _shortfall(generation: Generation, request: ResolvedQuery, basis: str, count: int) -> str | None:
    query = request.query
    if count >= query.k:
        return None
    others = "others" if count else "all others"
    reasons = [f"{len(request.hidden):,} are hidden"] if request.hidden else []
    reasons += [f"the filter leaves out {others}"] if query.where is not None or query.candidates is not None else []
    reasons += [f"the rules leave out {others}"] if request.rules is not None and request.rules.limits else []
    reasons += ["only the most popular are kept for a fallback"] if basis == POPULARITY else []
    return ", ".join([f"{count} of {query.k} items: the catalogue has {len(generation.index):,}", *reasons])


class Rankers:
    """The rankers of one generation, those of the last state of its items; threads may share them."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._known: tuple[LiveItems, dict[Objective, Ranker]] | None = None

    def objective(self, query: Query) -> Objective:
        """The objective whose weights answer a query; RequestError if none were chosen for the one that it names."""
        return served(self._generation.objectives, self._wanted(query))

    def objective_of(self, request: ResolvedQuery) -> Objective:
        """The same for the user of a request, who may come back at its moment, or be in the middle of a visit."""
        query, last = request.query, 0 if request.user is None else request.user.last
        now = time.time() if request.now is None else request.now.timestamp()
        return served(self._generation.objectives, self._wanted(query).at(now, last, query.context))

    def _wanted(self, query: Query) -> Objective:
        target = query.objective or self._generation.default_objective
        return Objective(target, "hide" if query.filter_seen else "show")

    def for_request(self, items: LiveItems, request: ResolvedQuery) -> "Ranker":
        """What ranks the items for the user of a request."""
        return self.of(items, self.objective_of(request))

    def ranked(self, items: LiveItems, requests: Iterable[ResolvedQuery]) -> "Iterator[RankedList]":
        """The lists of many requests, in their order; see :meth:`Ranker.ranked`."""
        for objective, some in groupby(requests, self.objective_of):
            yield from self.of(items, objective).ranked(list(some))

    def parts(
        self, items: LiveItems, requests: Sequence[ResolvedQuery], rows: Sequence[Sequence[int]]
    ) -> Iterator[dict[int, dict[str, float]]]:
        """The addends of some rows' scores for each request; see :meth:`Ranker.parts`."""
        for objective, group in groupby(zip(requests, rows, strict=True), lambda one: self.objective_of(one[0])):
            some, own = zip(*group, strict=True)
            yield from self.of(items, objective).parts(some, own)

    def of(self, items: LiveItems, objective: Objective) -> "Ranker":
        """What ranks the items for an aim of these."""
        known = self._known
        if known is None or known[0] is not items:
            known = self._known = items, {NEXT_ITEM: self._default(items)}
        if objective not in known[1]:
            known[1][objective] = known[1][NEXT_ITEM].for_objective(
                objective, self._generation.objectives[objective.name]
            )
        return known[1][objective]

    def _default(self, items: LiveItems) -> "Ranker":
        from molar_retrieval.ranking.ranker import Ranker

        own, second = self._generation, self._generation.table.reranker
        store = items.index.store(own.table.items, {} if second is None else second.numbers)
        return Ranker(items.index, store, own.slots, second, own.exploration)


@dataclass(frozen=True, eq=False)
class _ResolvedRequest:
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


class Answerer:
    """A generation with all that is needed to answer from it; threads may share it.

    Arguments are those of :class:`molar_indexes.recommender.Recommender`, whose methods say what the questions mean;
    each takes ``now``, from when ages count (None: from the moment of the answer). ``until`` is the last event that is
    known; None: all of them are.

    Attributes:
        refused: Why a newer generation does not answer instead, for the notes of answers; None: there is none.
    """

    def __init__(
        self,
        workspace: Workspace,
        generation: Generation,
        rules: RulesSource | None,
        *,
        rules_needed: bool,
        trust: bool,
        until: int | None = None,
    ) -> None:
        self.workspace, self.generation = workspace, generation
        self.refused: str | None = None
        self._ruled = RuledConstraints(generation, rules, needed=rules_needed)
        self._reader = SessionReader(workspace, generation)
        self._overlay = Overlay(workspace, generation, self._reader, until)
        self._rankers = Rankers(generation)
        self._speakers: dict[str, Speaker] = {}
        self._trust = trust

    @cached_property
    def _photos(self) -> Callable[[str], Path | None]:
        from molar_retrieval.data.catalogue import photos_of  # most answers need neither photos nor tables

        return photos_of(self.workspace)

    def succeed(self, former: "Answerer") -> None:
        """Take over from the answerer of another generation.

        SettingsError if rules that it heeds cannot be read, or not for this generation.
        """
        self._ruled.succeed(former._ruled)

    def close(self) -> None:
        """Release the generation's files, and the event log."""
        self.release_log()
        self.generation.close()

    def release_log(self) -> None:
        """Release the event log alone, where the generation is somebody else's."""
        self._overlay.close()

    def query(
        self,
        user_id: str | None,
        session_id: str | None,
        query: Query,
        fallback: Fallback,
        last_event: int | None,
        now: datetime | None,
    ) -> Recommendations:
        """The list of somebody known, by user id or else by session id."""
        began = time.perf_counter()
        asked = self._asked(query, now, fallback)
        asked, user = self._person(asked, user_id, session_id, last_event)
        if user is not None:
            return self._aligned(user_id, asked, user, {"user": time.perf_counter() - began})
        if fallback == "error" and not asked.objects:
            raise no_history(user_id, session_id)
        return self._popular(asked, began, user_id)

    def supposing(
        self,
        key: str,
        query: Query,
        supposed: Callable[[UserRecord | None], UserRecord | None],
        now: datetime | None,
    ) -> Recommendations:
        """The list of who has a key, if their record were what ``supposed`` makes of it."""
        began = time.perf_counter()
        asked = self._asked(query, now, "popular")
        found, notes = self._overlay.person(asked.state, key)
        asked, user = asked.noting(notes), supposed(found)
        kind, name = of_key(key)
        user_id = name if kind == "user_id" else None
        if user is None or not len(user.history):
            return self._popular(asked, began, user_id)
        return self._aligned(user_id, asked, user, {"user": time.perf_counter() - began})

    def popular(
        self, query: Query, now: datetime | None, user_id: str | None, session_id: str | None
    ) -> Recommendations:
        """The list of whom nothing is asked, without what they had."""
        began = time.perf_counter()
        asked = self._asked(query, now, "popular")
        if user_id is not None or session_id is not None:
            asked = replace(asked, seen_since=self._overlay.had(asked.state, self.key(user_id, session_id)))
        return self._popular(asked, began)

    def session(
        self, item_ids: Sequence[str], query: Query, fallback: Fallback, now: datetime | None
    ) -> Recommendations:
        """The list of somebody who looked at these items, oldest first; a note tells of unknown ones."""
        began = time.perf_counter()
        asked = self._asked(query, now, fallback)
        rows, notes = asked.constraints.session(list(item_ids), fallback)
        asked = asked.noting(notes)
        if not rows:
            return self._popular(asked, began)
        user = self._reader(rows)
        return self._aligned(None, asked, user, {"encode": time.perf_counter() - began})

    def similar(self, item_id: str, query: Query, fallback: Fallback, now: datetime | None) -> Recommendations:
        """The items whose content is most like that of an item."""
        began = time.perf_counter()
        asked, content = self._alike(self._asked(query, now, fallback), item_id, fallback)
        if content is None:
            return self._popular(asked, began)
        row, vector = content
        request = asked.of(None).hiding([row])
        best = asked.index.top(columns.CONTENT, vector, query.k, exclude=request.hidden, where=request.where)
        places = [ScoredItem(row, score, {"content": score}, rank) for rank, (row, score) in enumerate(best, 1)]
        stored = asked.index.fetch([row for row, _ in best])
        seconds = {"search": time.perf_counter() - began}
        return self._told(asked, request, columns.CONTENT, Listing(places), stored, seconds)

    def search(
        self,
        text: str | None,
        image: "str | Path | Image | None",
        similar: str | None,
        user_id: str | None,
        session_id: str | None,
        query: Query,
        fallback: Fallback,
        last_event: int | None,
        now: datetime | None,
    ) -> Recommendations:
        """The items that words, a photo or another item ask for, or several of them together."""
        began = time.perf_counter()
        if text is None and image is None and similar is None:
            raise RequestError("nothing is asked for", "name words, a photo or an item")
        asked, user = self._asked(query, now, fallback), None
        if user_id is not None or session_id is not None:
            asked, user = self._person(asked, user_id, session_id, last_event)
            if user is None and fallback == "error" and not asked.objects:
                raise no_history(user_id, session_id)
        queries: dict[str, Vector | SparseVector] = {}
        hidden = []
        if similar is not None:
            asked, content = self._alike(asked, similar, fallback)
            if content is not None:
                hidden, queries[columns.CONTENT] = [content[0]], content[1]
        if text is not None and fallback != "error" and not self._searcher.has_words(text):
            asked, text = asked.noting([f"there are no words in {shown(text)}"]), None
        queries |= self._searcher.queries(text, image)
        if not queries:
            return self._popular(asked, began, user_id)
        request = asked.of(user).hiding([*hidden, *asked.seen_since])
        encoded = time.perf_counter()
        places = self._searcher.find(queries, request, asked.index)
        rows = [placed.row for placed in places]
        stored = self._rankers.of(asked.state.items, asked.objective).stored(rows)
        like, notes = (None, []) if text is None else self._searcher.similarities(text, queries, rows)
        seconds = {"encode": encoded - began, "search": time.perf_counter() - encoded}
        answer = self._told(asked, request, "search", Listing(places, notes), stored, seconds, user_id)
        if like is None:
            return answer
        items = [replace(item, similarity=value) for item, value in zip(answer.items, like, strict=True)]
        return replace(answer, items=items)

    def ruled_by(self, rules: RulesSource | None) -> Self:
        """The same by other rules, a file that has to be there or what it would hold; this one is to stay open.

        Both rank by one :attr:`ranker`.
        """
        _ = self.ranker
        other = copy.copy(self)
        other._ruled = RuledConstraints(self.generation, rules, needed=rules is not None)
        return other

    def rank_many(
        self, users: Sequence[UserRecord], query: Query, now: datetime | None
    ) -> "Iterator[RankedList | None]":
        """The lists of several users of the generation, as columns; None: there is nothing to make one of.

        What is wrong with the query comes up at once.
        """
        asked = self._asked(query, now)
        asked.of(None)
        present = [self._until(query.as_of, user) for user in self._overlay.people(asked.state, users)]
        ranked = self._rankers.ranked(asked.state.items, [asked.of(user) for user in present if user is not None])
        return (None if user is None else next(ranked) for user in present)

    def parts_of(
        self, users: Sequence[UserRecord], rows: Sequence[Sequence[int]], query: Query, now: datetime | None
    ) -> Iterator[Mapping[int, Mapping[str, float]] | None]:
        """Addends of the scores of some rows for each of several users of the generation, see ``Ranker.parts``.

        None for who has no history left.
        """
        asked = self._asked(query, now)
        present = self._overlay.people(asked.state, users)
        known = [(asked.of(user), some) for user, some in zip(present, rows, strict=True) if user is not None]
        told = self._rankers.parts(asked.state.items, [one for one, _ in known], [some for _, some in known])
        return (None if user is None else next(told) for user in present)

    def rank_by(
        self,
        rules: Sequence[Constraints],
        users: Sequence[UserRecord],
        query: Query,
        now: datetime | None,
    ) -> Iterator[tuple[Listing, ...]]:
        """Of several users the list by each of some constraints."""
        state = self._overlay.now()
        asked = [self._asked_of(one, state, query, now, "error") for one in rules]
        present = self._overlay.people(state, users)
        requests = [one.of(user) for user in present if user is not None for one in asked]
        ranked = (one.listing() for one in self._rankers.ranked(state.items, requests))
        return (tuple(Listing(()) if user is None else next(ranked) for _ in rules) for user in present)

    def present(self) -> tuple[Constraints, OverlayState]:
        """Rules and items as the next answer has them."""
        return self._ruled.now(), self._overlay.now()

    def key(self, user_id: str | None, session_id: str | None = None) -> str:
        """The key of who is asked about by an id that the shop gives them, or by a session id."""
        return Pseudonymiser.of(self.workspace.root).key(user_id, session_id)

    def person(self, state: OverlayState, key: str) -> LivePerson:
        """Who has a key of :mod:`molar_retrieval.privacy.pseudonyms`, by all events of a state."""
        return self._overlay.person(state, key)

    def stored(self, state: OverlayState, key: str) -> tuple[UserRecord | None, Mapping[str, Any]]:
        """Who the generation has under a key, unless they are left out; and what the events say that they are."""
        return self._overlay.stored(state, key), self._overlay.described(state, key, {})

    def read(self, rows: Sequence[int], times: Sequence[int]) -> UserRecord:
        """Who took these items, oldest first, at these seconds since 1970."""
        return self._reader(rows, times)

    @property
    def ranker(self) -> "Ranker":
        """What ranks the generation's items as they are now, where nothing is said of what for."""
        return self._rankers.of(self._overlay.now().items, self._rankers.objective(Query()))

    def ranker_of(self, user: UserRecord, now: datetime | None) -> "Ranker":
        """The same for somebody at a moment."""
        return self._rankers.for_request(self._overlay.now().items, ResolvedQuery(Query(), user, now=now))

    def _asked(self, query: Query, now: datetime | None, fallback: Fallback = "error") -> _ResolvedRequest:
        """A question with all that it is answered from, of one moment, which the answer's id tells."""
        return self._asked_of(self._ruled.now(), self._overlay.now(), query, now, fallback)

    def _asked_of(
        self, constraints: Constraints, state: OverlayState, query: Query, now: datetime | None, fallback: Fallback
    ) -> _ResolvedRequest:
        if query.explain:  # before it is known who asks: an unknown language is refused whoever does
            self._speaker(query.language)
        now = query.as_of or now or datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)
        notes = state.notes if self.refused is None else (*state.notes, self.refused)
        request = constraints.request(query, state.items, now, fallback).noting(*notes)
        return _ResolvedRequest(constraints, state, request, self._rankers.objective(query))

    def _person(
        self, asked: _ResolvedRequest, user_id: str | None, session_id: str | None, last_event: int | None
    ) -> tuple[_ResolvedRequest, UserRecord | None]:
        """Somebody with all that they did, None where that is nothing; and the question with what is to be noted.

        With ``last_event`` it is what they did up to that event, and the question names the rows that were seen since.
        """
        key, state = self.key(user_id, session_id), asked.state
        if state.suppressed.person(user_id, session_id) == EVER:  # by the shop's own id
            return replace(asked.noting(OBJECTING.notes), objects=True), None
        if last_event is not None and last_event < state.last:
            since = self._overlay.person(state, key).record
            if since is not None and asked.request.query.filter_seen:
                asked = replace(asked, seen_since=frozenset(map(int, since.history)))
            state = replace(state, last=last_event)
        found = self._overlay.person(state, key)
        user = self._until(asked.request.query.as_of, found.record)
        known = user is not None and len(user.history) > 0
        asked = replace(asked, objects=True) if found is OBJECTING else asked
        return asked.noting(found.notes), user if known else None

    def _until(self, as_of: datetime | None, user: UserRecord | None) -> UserRecord | None:
        """A user by their interactions up to a point in time, None if there are none; without one, as they are."""
        if as_of is None or user is None or user.last <= as_of.timestamp():
            return user
        past = [
            (int(row), int(at)) for row, at in zip(user.history, user.times, strict=True) if at <= as_of.timestamp()
        ]
        read = self._reader(*zip(*past, strict=True)) if past else None
        return None if read is None else replace(read, user_id=user.user_id, attributes=user.attributes)

    def _alike(
        self, asked: _ResolvedRequest, item_id: str, fallback: Fallback
    ) -> tuple[_ResolvedRequest, tuple[int, Vector] | None]:
        """An item's row and content; None, and a note in the question, where they are not to be had."""
        row = self.generation.rows([item_id])[0]
        if row is None:
            if fallback == "error":
                asked.constraints.rows([item_id])
            return asked.noting([f"the item {shown(item_id)} is unknown"]), None
        item = self.generation.index.fetch([row], vectors=[columns.CONTENT])[0]
        if columns.CONTENT in item.vectors:
            return asked, (row, item.vectors[columns.CONTENT])
        missing = f"the item {shown(item_id)} has neither text nor photo"
        if fallback == "error":
            raise RequestError(missing, "name an item that has content")
        return asked.noting([missing]), None

    def _popular(self, asked: _ResolvedRequest, began: float, user_id: str | None = None) -> Recommendations:
        """What most people took, where nothing else answers."""
        request = asked.of(None).hiding(asked.seen_since)
        listing, stored = popular(self.generation, self._rankers.of(asked.state.items, asked.objective).stored, request)
        seconds = {"search": time.perf_counter() - began}
        return self._told(asked, request, POPULARITY, listing, stored, seconds, user_id)

    @cached_property
    def _searcher(self) -> "Searcher":
        from molar_indexes.search import Searcher

        return Searcher(self.generation, trust_remote_code=self._trust)

    def _aligned(
        self, user_id: str | None, asked: _ResolvedRequest, user: UserRecord, seconds: dict[str, float]
    ) -> Recommendations:
        began = time.perf_counter()
        ranker = self._rankers.for_request(asked.state.items, request := asked.of(user))
        gone = asked.seen_since.difference(request.hidden)
        if not gone:
            (listing,) = ranker.rank([request])
        else:
            longer = combined(request.query, {"k": request.query.k + len(gone)}, "query", kind=BatchQuery)
            (listing,) = ranker.rank([replace(request, query=longer)])
            places = [placed for placed in listing.places if placed.row not in gone]
            listing = replace(listing, places=places[: request.query.k])
        stored = ranker.stored([placed.row for placed in listing.places])
        ranked = time.perf_counter()
        seconds = seconds | {"search": ranked - began}
        reasons: Sequence[Explained] = ()
        if request.query.explain:
            reasons = self._reasons(request, ranker, listing)
            seconds["explain"] = time.perf_counter() - ranked
        return self._told(asked, request, columns.ALIGNED, listing, stored, seconds, user_id, reasons)

    def _reasons(self, request: ResolvedQuery, ranker: "Ranker", listing: Listing) -> "Sequence[Explained]":

        from molar_indexes.explain import explain

        speaker = self._speaker(request.query.language)
        return explain(self.generation.table, ranker, request, listing.places, speaker)

    def _speaker(self, language: str) -> "Speaker":
        from molar_retrieval.ranking.explanations import FILE_NAME, Speaker

        if language not in self._speakers:
            self._speakers[language] = Speaker.of(language, file_beside(self.workspace.root, FILE_NAME))
        return self._speakers[language]

    def _told(
        self,
        asked: _ResolvedRequest,
        request: ResolvedQuery,
        basis: str,
        listing: Listing,
        stored: Sequence[StoredItem],
        seconds: dict[str, float],
        user_id: str | None = None,
        reasons: "Sequence[Explained]" = (),
    ) -> Recommendations:
        objective = (
            asked.objective.target if basis == columns.ALIGNED and asked.objective.target != "next_item" else None
        )
        about = listing, stored, seconds, user_id, reasons, asked.state.last, objective
        return told(self.generation, lambda item_id: self._photos(item_id), request, basis, *about)
