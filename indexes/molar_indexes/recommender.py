"""The recommender: a workspace's live generation, ready to answer. `molar query` is this and a table.

Asking by user id, for similar items or for popular ones imports no torch; only a session of new items needs the user
encoder.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from molar_indexes.admission import Admission, no_history
from molar_indexes.generations import Generation, open_generation
from molar_indexes.options import Asked, Fallback, Limits, Options, Seen, check
from molar_indexes.sessions import SessionReader
from molar_retrieval import bounds, columns
from molar_retrieval.catalog.photos_of import PhotosOf
from molar_retrieval.errors import RequestError
from molar_retrieval.index import SparseVector, StoredItem, Vector
from molar_retrieval.ranking.answer import Answer, Recommendation
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.search import Searcher
    from molar_indexes.server.config import ServerConfig
    from molar_indexes.users import UserRecord
    from molar_retrieval.ranking.ranker import Ranker
    from molar_retrieval.ranking.sentences import Speaker
    from molar_retrieval.ranking.wishes import Asker, Listing, Placed, Wishes

RULES_FILE = "rules.toml"


class Recommender:
    """Answers from one generation; safe to share between threads, a context manager.

    Args:
        workspace: Where the generation and the user encoder live.
        generation: Which one, opened.
        rules: A file of rules, see :mod:`molar_retrieval.ranking.rules`; None: no rules.
        trust: See :meth:`open`.

    Attributes:
        now: From when the age of what is fresh counts; None: from the moment of each answer.
    """

    def __init__(
        self, workspace: Workspace, generation: Generation, rules: Path | None = None, *, trust: bool = False
    ) -> None:
        self.workspace = workspace
        self.generation = generation
        self.now: datetime | None = None
        self._admission = Admission(generation, rules)
        self._reader = SessionReader(workspace, generation)
        self._speakers: dict[str, Speaker] = {}
        self._trust = trust
        self._photos = PhotosOf(workspace)

    @classmethod
    def open(
        cls,
        workspace: str | Path,
        generation: str | None = None,
        *,
        rules: str | Path | None = None,
        server: "ServerConfig | None" = None,
        trust_remote_code: bool = False,
    ) -> Self:
        """Open a workspace's live generation, or the one named; or what is live on a server.

        Args:
            workspace: Its folder.
            generation: A generation's name.
            rules: A file of rules; None: ``rules.toml`` beside the workspace, if there is one.
            server: Has the items, and maybe the users; None: the workspace has them.
            trust_remote_code: Let the items' encoder run code that it brings, in searches by words or photos.

        Raises:
            RequestError: If a path is too long.
            MissingArtefactError: If there is no workspace or no generation yet.
            StaleArtefactError: If the generation is corrupt, or the server has another one.
            BackendError: If the server does not answer.
        """
        for path in (workspace, rules or RULES_FILE):
            bounds.path("the path", path)
        place = Workspace.open(Path(workspace))
        file = Path(rules) if rules is not None else place.root.parent / RULES_FILE
        if server is None:
            opened = open_generation(place, generation)
        else:
            from molar_indexes.server.opening import open_served  # brings qdrant-client

            opened = open_served(place, server, generation)
        return cls(place, opened, file if rules is not None or file.exists() else None, trust=trust_remote_code)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the generation's files."""
        self.generation.close()

    def query(self, user_id: str, k: int = 10, *, fallback: Fallback = "none", **options: Unpack[Options]) -> Answer:
        """What a known user should see next.

        Args:
            user_id: The user.
            k: How many items.
            fallback: ``popular`` answers with the most popular items where there is no history.
            options: See :class:`Limits` and :class:`Shape`.

        Raises:
            RequestError: If no history is known of the user and there is no fallback; if the condition is not
                understood or ``only`` names an unknown item; if something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        began = time.perf_counter()
        check(k, options, {"user_id": user_id, "fallback": fallback})
        asked = self._admission.asked(options)
        user = self.generation.users.get(user_id)
        if user is None or not len(user.history):
            if fallback == "popular":
                return self._popular(user_id, k, self._admission.ruled(asked, options, {}), began)
            raise no_history(user_id)
        from molar_retrieval.ranking.wishes import Asker

        found = time.perf_counter()
        asked = self._admission.ruled(asked, options, user.attributes)
        asked = asked.hiding(user.history) if options.get("seen", "hide") == "hide" else asked
        asker = Asker(user.vector, user.sparse, user.history)
        return self._aligned(user_id, asker, k, asked, options, {"user": found - began})

    def session(self, item_ids: Sequence[str], k: int = 10, **options: Unpack[Options]) -> Answer:
        """What somebody should see next who just looked at ``item_ids`` (oldest first).

        The first call loads the user encoder, and with it torch.

        Args:
            item_ids: The session.
            k: How many items.
            options: See :class:`Limits` and :class:`Shape`.

        Raises:
            RequestError: If no item is named, or one is unknown; if the condition is not understood; if something is
                beyond its bound.
            SettingsError: If the rules are wrong.
        """
        began = time.perf_counter()
        check(k, options, {"items": item_ids})
        asked = self._admission.ruled(self._admission.asked(options), options, {})
        if not item_ids:
            raise RequestError("the session is empty", "name at least one item")
        rows = self._admission.rows(list(item_ids))
        asker = self._reader(rows)
        encoded = time.perf_counter()
        asked = asked.hiding(rows) if options.get("seen", "hide") == "hide" else asked
        return self._aligned(None, asker, k, asked, options, {"encode": encoded - began})

    def similar(self, item_id: str, k: int = 10, **limits: Unpack[Limits]) -> Answer:
        """The items whose content is most like that of ``item_id``; scores are cosines.

        Args:
            item_id: The item.
            k: How many items.
            limits: See :class:`Limits`.

        Raises:
            RequestError: If the item is unknown or has no content vector; if the condition is not understood; if
                something is beyond its bound.
        """
        began = time.perf_counter()
        check(k, limits, {"similar": item_id})
        asked = self._admission.ruled(self._admission.asked(limits), limits, {})
        row, vector = self._content_of(item_id)
        index, asked = self.generation.index, asked.hiding([row])
        best = index.top(columns.CONTENT, vector, k, exclude=asked.hidden, where=asked.where)
        stored = index.fetch([row for row, _ in best])
        items = [
            _recommend(rank, item, score, {"content": score})
            for rank, (item, (_, score)) in enumerate(zip(stored, best, strict=True), 1)
        ]
        return self._answer(None, k, columns.CONTENT, items, asked, {"search": time.perf_counter() - began})

    def search(
        self,
        text: str | None = None,
        image: "str | Path | Image | None" = None,
        k: int = 10,
        *,
        similar: str | None = None,
        user_id: str | None = None,
        seen: Seen = "show",
        **limits: Unpack[Limits],
    ) -> Answer:
        """The items that some words, a photo or another item ask for, or several of them together.

        Scores add up what each list says, see :mod:`molar_indexes.search`.

        Args:
            text: In words.
            image: A file or an image.
            k: How many items.
            similar: An item to be like.
            user_id: For whom; what suits them comes first among what fits as well.
            seen: Whether items that this user has may come.
            limits: See :class:`Limits`.

        Raises:
            RequestError: If nothing is asked for, the item or the user is unknown, the items cannot be searched like
                this, the condition is not understood, or something is beyond its bound.
            DataError: If the file is no photo.
            StaleArtefactError: If the encoder that made the items' vectors is not to be had.
        """
        from molar_retrieval.ranking.wishes import Asker

        began = time.perf_counter()
        check(k, limits, {"text": text, "image": image, "similar": similar, "user_id": user_id, "seen": seen})
        user = None if user_id is None else self._known(user_id)
        asked = self._admission.ruled(self._admission.asked(limits), limits, {} if user is None else user.attributes)
        queries: dict[str, Vector | SparseVector] = {}
        if similar is not None:
            row, vector = self._content_of(similar)
            queries[columns.CONTENT] = vector
            asked = asked.hiding([row])
        if text is not None:
            queries |= self._searcher.text(text)
        if image is not None:
            queries |= self._searcher.photo(image)
        if not queries:
            raise RequestError("nothing is asked for", "name words, a photo or an item")
        encoded = time.perf_counter()
        if user is not None and seen == "hide":
            asked = asked.hiding(user.history)
        asker = None if user is None else Asker(user.vector, user.sparse, user.history)
        found = self._searcher.find(queries, k, asked.hidden, asked.where, asker)
        stored = self.ranker.stored([row for row, _ in found])
        items = [
            _recommend(rank, item, sum(parts.values()), parts)
            for rank, (item, (_, parts)) in enumerate(zip(stored, found, strict=True), 1)
        ]
        seconds = {"encode": encoded - began, "search": time.perf_counter() - encoded}
        return self._answer(user_id, k, "search", items, asked, seconds)

    def _known(self, user_id: str) -> "UserRecord":
        user = self.generation.users.get(user_id)
        if user is None or not len(user.history):
            raise no_history(user_id)
        return user

    def _content_of(self, item_id: str) -> tuple[int, Vector]:
        row = self._admission.rows([item_id])[0]
        item = self.generation.index.fetch([row], vectors=[columns.CONTENT])[0]
        if columns.CONTENT not in item.vectors:
            raise RequestError(f"the item {item_id!r} has neither text nor photo", "name an item that has content")
        return row, item.vectors[columns.CONTENT]

    @cached_property
    def _searcher(self) -> "Searcher":
        from molar_indexes.search import Searcher

        return Searcher(self.generation, trust_remote_code=self._trust)

    @cached_property
    def ranker(self) -> "Ranker":
        """What ranks the generation's items; importing it takes NumPy."""
        from molar_retrieval.ranking.ranker import Ranker

        table = self.generation.table
        return Ranker(self.generation.index, table.items, self.generation.slots, table.reranker)

    def rank_many(self, users: "Sequence[UserRecord]", k: int = 10, **options: Unpack[Options]) -> "Iterator[Listing]":
        """The lists of several users, the same as :meth:`query` gives each of them, in less time.

        Args:
            users: With a history each.
            k: How many items, at most 10,000.
            options: See :class:`Limits` and :class:`Shape`; reasons are left out.

        Raises:
            RequestError: If the condition is not understood; if something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        from molar_indexes.batch import rank_all
        from molar_retrieval.ranking.wishes import Asker

        check(k, options, most=bounds.LISTED)
        asked = self._admission.asked(options)
        self._wishes(self._admission.ruled(asked, options, {}), options)  # what is wrong comes up before any work
        hide = options.get("seen", "hide") == "hide"
        askers = [Asker(user.vector, user.sparse, user.history) for user in users]
        ruled = [self._admission.ruled(asked, options, user.attributes) for user in users]
        each = [one.hiding(user.history) if hide else one for one, user in zip(ruled, users, strict=True)]
        wishes = [self._wishes(one, options) for one in each]
        return rank_all(self.ranker, askers, k, wishes)

    def _wishes(self, asked: Asked, options: Options) -> "Wishes":
        from molar_retrieval.ranking.wishes import Ruling, Wishes

        calibrate = options.get("calibrate")
        if calibrate is not None:
            self._admission.check_field(calibrate)
        return Wishes(
            where=asked.where,
            hidden=asked.hidden,
            diversity=options.get("diversity", 0.0),
            calibrate=calibrate,
            calibration=options.get("calibration", 0.5),
            rules=asked.rules or Ruling(),
            rerank=options.get("rerank", True),
            now=self.now,
        )

    def _aligned(
        self, user_id: str | None, asker: "Asker", k: int, asked: Asked, options: Options, seconds: dict[str, float]
    ) -> Answer:
        began = time.perf_counter()
        listing = self.ranker.rank(asker, k, self._wishes(asked, options))
        stored = self.ranker.stored([placed.row for placed in listing.places])
        items = [
            _recommend(rank, item, p.score, p.parts, p.by_score, ", ".join(p.causes) or None)
            for rank, (p, item) in enumerate(zip(listing.places, stored, strict=True), 1)
        ]
        seconds = seconds | {"search": time.perf_counter() - began}
        if options.get("explain"):
            began = time.perf_counter()
            items = self._explained(asker, listing.places, items, options.get("language", "en"))
            seconds["explain"] = time.perf_counter() - began
        return self._answer(user_id, k, columns.ALIGNED, items, asked, seconds, listing.notes)

    def _explained(
        self, asker: "Asker", places: "Sequence[Placed]", items: Sequence[Recommendation], language: str
    ) -> list[Recommendation]:
        from molar_indexes.explain import explain
        from molar_retrieval.ranking.sentences import FILE_NAME, Speaker

        if language not in self._speakers:
            self._speakers[language] = Speaker.of(language, self.workspace.root.parent / FILE_NAME)
        found = explain(self.generation.table, self.ranker, asker, places, self._speakers[language])
        return [
            replace(item, reasons=(why.sentence,), evidence=why.evidence)
            for item, why in zip(items, found, strict=True)
        ]

    def _popular(self, user_id: str, k: int, asked: Asked, began: float) -> Answer:
        from molar_retrieval.expressions import matches

        popular = self.generation.popular
        stored = self.generation.index.fetch([row for row, _ in popular])
        counts = dict(popular)
        chosen = [
            item
            for item in stored
            if item.row not in asked.hidden
            and (asked.where is None or matches(asked.where, {columns.ITEM_ID: item.item_id, **item.payload}))
        ][:k]
        items = [
            _recommend(rank, item, float(counts[item.row]), {"popularity": float(counts[item.row])})
            for rank, item in enumerate(chosen, 1)
        ]
        return self._answer(user_id, k, "popularity", items, asked, {"search": time.perf_counter() - began})

    def _answer(
        self,
        user_id: str | None,
        k: int,
        basis: str,
        items: Sequence[Recommendation],
        asked: Asked,
        seconds: dict[str, float],
        notes: Sequence[str] = (),
    ) -> Answer:
        shortfall = None
        if len(items) < k:
            total = len(self.generation.index)
            reasons = [f"{len(asked.hidden):,} are hidden"] if asked.hidden else []
            others = "others" if items else "all others"
            reasons += [f"{limit} {others}" for limit in asked.leaves_out()]
            reasons += ["only the most popular are kept for a fallback"] if basis == "popularity" else []
            shortfall = f"{len(items)} of {k} items: the catalogue has {total:,}"
            shortfall += "".join(f", {reason}" for reason in reasons)
        milliseconds = {name: round(1000 * value, 3) for name, value in seconds.items()}
        milliseconds["total"] = round(sum(milliseconds.values()), 3)
        notes = [*self.generation.notes, *notes]
        name = self.generation.name
        return Answer(user_id, k, name, basis, items, shortfall, notes, milliseconds, photo_of=self._photos)


def _recommend(
    rank: int,
    item: StoredItem,
    score: float,
    parts: Mapping[str, float],
    by_score: int | None = None,
    rule: str | None = None,
) -> Recommendation:
    title: Any = item.payload.get(columns.TITLE)
    return Recommendation(rank, item.item_id, title, score, parts, by_score or rank, rule, (), None, item.payload)
