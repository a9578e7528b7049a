"""The recommender: a workspace's live generation, ready to answer. `molar query` is this and a table.

Asking by user id, for similar items or for popular ones imports no torch; only a session needs the user encoder.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from molar_indexes.answers import POPULARITY, popular, told
from molar_indexes.constraints import Constraints, no_history
from molar_indexes.generations import Generation, open_generation
from molar_indexes.sessions import SessionReader
from molar_indexes.users import UserRecord
from molar_retrieval import bounds, columns
from molar_retrieval.catalog.photos_of import photos_of
from molar_retrieval.errors import RequestError
from molar_retrieval.expressions import Expression
from molar_retrieval.index import SparseVector, Vector
from molar_retrieval.ranking.answer import Answer
from molar_retrieval.ranking.query import Fallback, Query, Seen, check_subjects, honest
from molar_retrieval.ranking.request import Listing, Placed, RankingRequest
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_indexes.explain import Explained
    from molar_indexes.search import Searcher
    from molar_indexes.server.config import ServerConfig
    from molar_retrieval.ranking.ranker import Ranker
    from molar_retrieval.ranking.sentences import Speaker

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
        self.workspace, self.generation = workspace, generation
        self.now: datetime | None = None
        self._constraints = Constraints(generation, rules)
        self._reader = SessionReader(workspace, generation)
        self._speakers: dict[str, Speaker] = {}
        self._trust = trust
        self._told = partial(told, generation, photos_of(workspace))

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the generation's files."""
        self.generation.close()

    def query(
        self,
        user_id: str,
        k: int = 10,
        *,
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        seen: Seen = "hide",
        diversity: float = 0.0,
        calibrate: str | None = None,
        calibration: float = 0.5,
        rerank: bool = True,
        explain: bool = False,
        language: str = "en",
        fallback: Fallback = "none",
    ) -> Answer:
        """What a known user should see next.

        Args:
            user_id: The user.
            k: How many items.
            where: See :class:`~molar_retrieval.ranking.query.Query`, as for all that follows but the last.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            seen: Whether items of the history may come back.
            diversity: Weight of unlikeness among the items, 0 to 1.
            calibrate: A field whose mix in the history the list should have.
            calibration: How much that counts, 0 to 1.
            rerank: Whether the second stage moves what it can.
            explain: Whether to say why.
            language: Of the reasons.
            fallback: ``popular`` answers with the most popular items where there is no history.

        Raises:
            RequestError: If no history is known of the user and there is no fallback; if the condition is not
                understood or ``only`` names an unknown item; if something is beyond its bound.
            SettingsError: If the rules are wrong.
        """
        began = time.perf_counter()
        query = Query(
            k=k, where=where, exclude=exclude, only=only, rules=rules, seen=seen, diversity=diversity,
            calibrate=calibrate, calibration=calibration, rerank=rerank, explain=explain, language=language,
        )  # fmt: skip
        check_subjects(user_id=user_id, fallback=fallback)
        request = self._constraints.request(query, self.now)
        user = self._user(user_id, required=fallback == "none")
        if user is None:
            request = self._constraints.for_user(request, None)
            listing, stored = popular(self.generation, request)
            return self._told(request, POPULARITY, listing, stored, {"search": time.perf_counter() - began}, user_id)
        found = time.perf_counter()
        return self._aligned(user_id, self._constraints.for_user(request, user), {"user": found - began})

    @honest
    def session(
        self,
        item_ids: Sequence[str],
        k: int = 10,
        *,
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
        seen: Seen = "hide",
        diversity: float = 0.0,
        calibrate: str | None = None,
        calibration: float = 0.5,
        rerank: bool = True,
        explain: bool = False,
        language: str = "en",
    ) -> Answer:
        """What somebody should see next who just looked at ``item_ids`` (oldest first).

        The first call loads the user encoder, and with it torch.

        Args:
            item_ids: The session.
            k: How many items.
            where: See :meth:`query`, as for all that follows.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.
            seen: Whether items of the session may come back.
            diversity: Weight of unlikeness among the items, 0 to 1.
            calibrate: A field whose mix in the session the list should have.
            calibration: How much that counts, 0 to 1.
            rerank: Whether the second stage moves what it can.
            explain: Whether to say why.
            language: Of the reasons.

        Raises:
            RequestError: If no item is named, or one is unknown; if the condition is not understood; if something is
                beyond its bound.
            SettingsError: If the rules are wrong.
        """
        began = time.perf_counter()
        query = Query(
            k=k, where=where, exclude=exclude, only=only, rules=rules, seen=seen, diversity=diversity,
            calibrate=calibrate, calibration=calibration, rerank=rerank, explain=explain, language=language,
        )  # fmt: skip
        check_subjects(items=item_ids)
        request = self._constraints.request(query, self.now)
        if not item_ids:
            raise RequestError("the session is empty", "name at least one item")
        user = self._reader(self._constraints.rows(list(item_ids)))
        encoded = time.perf_counter()
        return self._aligned(None, self._constraints.for_user(request, user), {"encode": encoded - began})

    @honest
    def similar(
        self,
        item_id: str,
        k: int = 10,
        *,
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
    ) -> Answer:
        """The items whose content is most like that of ``item_id``; scores are cosines.

        Args:
            item_id: The item.
            k: How many items.
            where: See :meth:`query`, as for all that follows.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.

        Raises:
            RequestError: If the item is unknown or has no content vector; if the condition is not understood; if
                something is beyond its bound.
        """
        began = time.perf_counter()
        query = Query(k=k, where=where, exclude=exclude, only=only, rules=rules)
        check_subjects(similar=item_id)
        row, vector = self._content_of(item_id)
        request = self._constraints.for_user(self._constraints.request(query), None).hiding([row])
        best = self.generation.index.top(columns.CONTENT, vector, k, exclude=request.hidden, where=request.where)
        places = [Placed(row, score, {"content": score}, rank) for rank, (row, score) in enumerate(best, 1)]
        stored = self.generation.index.fetch([row for row, _ in best])
        seconds = {"search": time.perf_counter() - began}
        return self._told(request, columns.CONTENT, Listing(places), stored, seconds)

    @honest
    def search(
        self,
        text: str | None = None,
        image: "str | Path | Image | None" = None,
        k: int = 10,
        *,
        similar: str | None = None,
        user_id: str | None = None,
        seen: Seen = "show",
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        rules: bool = True,
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
            where: See :meth:`query`, as for all that follows.
            exclude: Items that must not come.
            only: Items that may come; None: all.
            rules: Whether the shop's rules hold.

        Raises:
            RequestError: If nothing is asked for, the item or the user is unknown, the items cannot be searched like
                this, the condition is not understood, or something is beyond its bound.
            DataError: If the file is no photo.
            StaleArtefactError: If the encoder that made the items' vectors is not to be had.
        """
        began = time.perf_counter()
        query = Query(k=k, where=where, exclude=exclude, only=only, rules=rules, seen=seen)
        if seen == "hide" and user_id is None:
            raise RequestError("seen = 'hide' concerns a user, and none is named", "name one with user_id")
        check_subjects(optional=True, text=text, image=image, similar=similar, user_id=user_id)
        request = self._constraints.request(query)
        request = self._constraints.for_user(request, None if user_id is None else self._user(user_id))
        queries: dict[str, Vector | SparseVector] = {}
        if similar is not None:
            row, vector = self._content_of(similar)
            queries[columns.CONTENT] = vector
            request = request.hiding([row])
        queries |= self._searcher.queries(text, image)
        if not queries:
            raise RequestError("nothing is asked for", "name words, a photo or an item")
        encoded = time.perf_counter()
        places = self._searcher.find(queries, request)
        stored = self.ranker.stored([placed.row for placed in places])
        seconds = {"encode": encoded - began, "search": time.perf_counter() - encoded}
        return self._told(request, "search", Listing(places), stored, seconds, user_id)

    def rank_many(self, users: Sequence[UserRecord], query: Query) -> Iterator[Listing]:
        """The lists of several users with a history, as :meth:`query` gives each of them without reasons, in less time.

        A wrong condition or rule is a RequestError or SettingsError before any work.
        """
        request = self._constraints.request(query, self.now)
        self._constraints.for_user(request, None)
        return self.ranker.rank([self._constraints.for_user(request, user) for user in users])

    @cached_property
    def ranker(self) -> "Ranker":
        """What ranks the generation's items."""
        from molar_retrieval.ranking.ranker import Ranker

        table = self.generation.table
        return Ranker(self.generation.index, table.items, self.generation.slots, table.reranker)

    def _user(self, user_id: str, *, required: bool = True) -> UserRecord | None:
        """Somebody with a history."""
        user = self.generation.users.get(user_id)
        if user is not None and len(user.history):
            return user
        if required:
            raise no_history(user_id)
        return None

    def _content_of(self, item_id: str) -> tuple[int, Vector]:
        row = self._constraints.rows([item_id])[0]
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
        from molar_retrieval.ranking.sentences import FILE_NAME, Speaker

        language = request.query.language
        if language not in self._speakers:
            self._speakers[language] = Speaker.of(language, self.workspace.root.parent / FILE_NAME)
        return explain(self.generation.table, self.ranker, request, listing.places, self._speakers[language])
