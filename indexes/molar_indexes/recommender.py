"""The recommender: a workspace's live generation, ready to answer. `molar query` is this and a table.

Asking by user id, for similar items or for popular ones imports neither torch nor NumPy; only a session of new items
needs the user encoder.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from molar_indexes.generations import Generation, open_generation
from molar_retrieval import columns
from molar_retrieval.errors import RequestError, StaleArtefactError
from molar_retrieval.expressions import And, Expression, OneOf
from molar_retrieval.index import Hit, SparseVector, Vector
from molar_retrieval.ranking.answer import NOTHING, Answer, Recommendation, split_score
from molar_retrieval.ranking.newcomers import TOP, merge
from molar_retrieval.workspace import Workspace

if TYPE_CHECKING:
    from molar_retrieval.alignment.model import AlignedModel
    from molar_retrieval.ids import IdMap

Seen = Literal["hide", "show"]
Fallback = Literal["none", "popular"]


class Recommender:
    """Answers from one generation; safe to share between threads, a context manager.

    Args:
        workspace: Where the generation and the user encoder live.
        generation: Which one, opened.
    """

    def __init__(self, workspace: Workspace, generation: Generation) -> None:
        self.workspace = workspace
        self.generation = generation
        self._encoder: AlignedModel | None = None

    @classmethod
    def open(cls, workspace: str | Path, generation: str | None = None) -> Self:
        """Open a workspace's live generation, or the one named.

        Raises:
            MissingArtefactError: If there is no workspace or no generation yet.
            StaleArtefactError: If the generation is corrupt.
        """
        place = Workspace.open(Path(workspace))
        return cls(place, open_generation(place, generation))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the generation's files."""
        self.generation.close()

    def query(
        self,
        user_id: str,
        k: int = 10,
        *,
        seen: Seen = "hide",
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
        fallback: Fallback = "none",
    ) -> Answer:
        """What a known user should see next.

        Args:
            user_id: The user.
            k: How many items.
            seen: Whether items of the user's history may come back.
            where: Condition on the items' attributes, applied inside the search; text is read by
                :func:`molar_retrieval.filter_language.parse`.
            exclude: Items that must not come; unknown ones cannot anyway.
            only: Items that may come; None: all.
            fallback: ``popular`` answers with the most popular items where there is no history.

        Raises:
            RequestError: If no history is known of the user and there is no fallback; if the condition is not
                understood or ``only`` names an unknown item; or k < 1.
        """
        began = time.perf_counter()
        _check(k)
        asked = self._asked(where, exclude, only)
        user = self.generation.users.get(user_id)
        if user is None or not len(user.history):
            if fallback == "popular":
                return self._popular(user_id, k, asked, began)
            raise self._no_history(user_id)
        found = time.perf_counter()
        asked = asked.hiding(user.history) if seen == "hide" else asked
        return self._aligned(user_id, user.vector, user.sparse, k, asked, {"user": found - began})

    def session(
        self,
        item_ids: Sequence[str],
        k: int = 10,
        *,
        seen: Seen = "hide",
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> Answer:
        """What somebody should see next who just looked at ``item_ids`` (oldest first).

        The first call loads the user encoder, and with it torch. For the arguments see :meth:`query`.

        Raises:
            RequestError: If no item is named, or one is unknown; if the condition is not understood; or k < 1.
        """
        began = time.perf_counter()
        _check(k)
        asked = self._asked(where, exclude, only)
        if not item_ids:
            raise RequestError("the session is empty", "name at least one item")
        rows = self._rows(item_ids)
        vector, sparse = self._encode(rows)
        encoded = time.perf_counter()
        asked = asked.hiding(rows) if seen == "hide" else asked
        return self._aligned(None, vector, sparse, k, asked, {"encode": encoded - began})

    def similar(
        self,
        item_id: str,
        k: int = 10,
        *,
        where: Expression | str | None = None,
        exclude: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> Answer:
        """The items whose content is most like that of ``item_id``; scores are cosines.

        For the arguments see :meth:`query`.

        Raises:
            RequestError: If the item is unknown or has no content vector; if the condition is not understood; or k < 1.
        """
        began = time.perf_counter()
        _check(k)
        asked = self._asked(where, exclude, only)
        row = self._rows([item_id])[0]
        item = self.generation.index.fetch([row], vectors=[columns.CONTENT])[0]
        if columns.CONTENT not in item.vectors:
            raise RequestError(f"the item {item_id!r} has neither text nor photo", "name an item that has content")
        asked = asked.hiding([row])
        hits = self.generation.index.search(
            columns.CONTENT, item.vectors[columns.CONTENT], k, exclude=asked.hidden, where=asked.where
        )
        items = [_recommend(rank, hit, hit.score, {"content": hit.score}) for rank, hit in enumerate(hits, 1)]
        return self._answer(None, k, columns.CONTENT, items, asked, {"search": time.perf_counter() - began})

    def rank(
        self,
        vector: Vector,
        sparse: SparseVector,
        k: int,
        *,
        hidden: Collection[int] = (),
        where: Expression | None = None,
    ) -> list[Recommendation]:
        """The best items for a user's vectors, newcomers in their places.

        Args:
            vector: Dense, as the generation's users have it.
            sparse: Beside it.
            k: How many items.
            hidden: Rows that must not come.
            where: Condition on the items' attributes, applied inside the search.
        """
        known, newcomers = self._search(vector, sparse, max(k, TOP), hidden, where)
        placed = merge([hit.score for hit in known], [hit.score for hit in newcomers], self.generation.slots)[:k]
        items = []
        for rank, (newcomer, place, score, lift) in enumerate(placed, 1):
            hit = (newcomers if newcomer else known)[place]
            parts = self._parts(vector, sparse, hit) | ({"newcomer": lift} if newcomer else {})
            items.append(_recommend(rank, hit, score, parts))
        return items

    def _aligned(
        self,
        user_id: str | None,
        vector: Vector,
        sparse: SparseVector,
        k: int,
        asked: "_Asked",
        seconds: dict[str, float],
    ) -> Answer:
        began = time.perf_counter()
        items = self.rank(vector, sparse, k, hidden=asked.hidden, where=asked.where)
        seconds = seconds | {"search": time.perf_counter() - began}
        return self._answer(user_id, k, columns.ALIGNED, items, asked, seconds)

    def _asked(
        self, where: Expression | str | None, exclude: Collection[str], only: Collection[str] | None
    ) -> "_Asked":
        if isinstance(where, str):
            from molar_retrieval.filter_language import parse  # loads a parser, which most queries do without

            where = parse(where, {columns.ITEM_ID: "keyword", **self.generation.index.spec.fields})
        if only is not None:
            self._rows(list(only))
            named = OneOf(columns.ITEM_ID, tuple(only))
            where = named if where is None else And((where, named))
        rows = self.generation.index.rows(list(exclude)) if exclude else []
        return _Asked(where, frozenset(row for row in rows if row is not None))

    def _search(
        self, vector: Vector, sparse: SparseVector, k: int, hidden: Collection[int], where: Expression | None
    ) -> tuple[list[Hit], list[Hit]]:
        """The best known items and the best newcomers."""
        index, sums = self.generation.index, columns.PARTNERS in self.generation.spec.sparse
        known = index.search(
            columns.ALIGNED,
            vector,
            k,
            plus={columns.PARTNERS: sparse} if sums else None,
            exclude=hidden,
            where=where,
            vectors=[columns.ALIGNED, columns.PARTNERS] if sums else [columns.ALIGNED],
        )
        if not self.generation.newcomers:
            return known, []
        name = columns.NEWCOMERS
        return known, index.search(name, vector, k, exclude=hidden, where=where, vectors=[name])

    def _parts(self, vector: Vector, sparse: SparseVector, hit: Hit) -> dict[str, float]:
        (dense,) = hit.vectors.values()
        partners = hit.sparse.get(columns.PARTNERS, NOTHING)
        return split_score(vector, dense, self.generation.parts, sparse, partners, self.generation.sparse_parts)

    def _popular(self, user_id: str, k: int, asked: "_Asked", began: float) -> Answer:
        from molar_retrieval.expressions import matches

        popular = self.generation.popular
        hits = self.generation.index.fetch([row for row, _ in popular])
        counts = dict(popular)
        chosen = [
            hit
            for hit in hits
            if hit.row not in asked.hidden
            and (asked.where is None or matches(asked.where, {columns.ITEM_ID: hit.item_id, **hit.payload}))
        ][:k]
        items = [
            _recommend(rank, hit, float(counts[hit.row]), {"popularity": float(counts[hit.row])})
            for rank, hit in enumerate(chosen, 1)
        ]
        return self._answer(user_id, k, "popularity", items, asked, {"search": time.perf_counter() - began})

    def _answer(
        self,
        user_id: str | None,
        k: int,
        basis: str,
        items: Sequence[Recommendation],
        asked: "_Asked",
        seconds: dict[str, float],
    ) -> Answer:
        shortfall = None
        if len(items) < k:
            total = len(self.generation.index)
            reasons = [f"{len(asked.hidden):,} are hidden"] if asked.hidden else []
            others = "others" if items else "all others"
            reasons += [f"the filter leaves out {others}"] if asked.where is not None else []
            reasons += ["only the most popular are kept for a fallback"] if basis == "popularity" else []
            shortfall = f"{len(items)} of {k} items: the catalogue has {total:,}"
            shortfall += "".join(f", {reason}" for reason in reasons)
        milliseconds = {name: round(1000 * value, 3) for name, value in seconds.items()}
        milliseconds["total"] = round(sum(milliseconds.values()), 3)
        return Answer(user_id, k, self.generation.name, basis, items, shortfall, milliseconds)

    def _no_history(self, user_id: str) -> RequestError:
        remedy = "--fallback popular answers for people without history, --items for a session"
        close = self.generation.users.nearest(user_id)
        hint = f"did you mean {', '.join(map(repr, close))}? Otherwise {remedy}" if close else remedy
        return RequestError(f"no history is known of the user {user_id!r}", hint)

    def _rows(self, item_ids: Sequence[str]) -> list[int]:
        rows = self.generation.index.rows(item_ids)
        for item_id, row in zip(item_ids, rows, strict=True):
            if row is None:
                raise RequestError(f"the item {item_id!r} is unknown", self._nearest_items(item_id))
        return [row for row in rows if row is not None]

    def _nearest_items(self, item_id: str) -> str:
        from molar_retrieval.catalog import Catalogue
        from molar_retrieval.errors import nearest

        folder = self.workspace["catalogue"].current
        known: IdMap | None = None if folder is None else Catalogue.open(folder).ids
        close = nearest(item_id, known.array.to_pylist()) if known is not None else []
        return f"did you mean {', '.join(map(repr, close))}?" if close else "name an item of the catalogue"

    def _encode(self, rows: Sequence[int]) -> tuple[list[float], SparseVector]:
        import numpy as np

        from molar_indexes.sparse import sparse_rows
        from molar_retrieval.alignment.model import session_log
        from molar_retrieval.alignment.store import open_model

        if self._encoder is None:
            folder, manifest = self.workspace["alignment"].require()
            wanted = self.generation.manifest.inputs["alignment"]
            if manifest.fingerprint != wanted:
                raise StaleArtefactError(
                    f"generation {self.generation.name} was made with the alignment {wanted[:16]},"
                    f" the workspace now has {manifest.fingerprint[:16]}",
                    "run `molar align` to publish a generation that fits",
                )
            self._encoder = open_model(folder)
        vectors = self._encoder.users(session_log(rows, len(self.generation.index)), np.zeros(1, np.int64))
        (sparse,) = sparse_rows(vectors.sparse)
        return vectors.dense[0].tolist(), sparse


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which items may come: those that fulfil ``where`` and are not among the hidden rows."""

    where: Expression | None
    hidden: frozenset[int]

    def hiding(self, rows: Collection[int]) -> "_Asked":
        return _Asked(self.where, self.hidden.union(rows))


def _check(k: int) -> None:
    if k < 1:
        raise RequestError(f"k = {k} asks for nothing", "ask for at least one item, for example -k 10")


def _recommend(rank: int, hit: Hit, score: float, parts: dict[str, float]) -> Recommendation:
    title: Any = hit.payload.get(columns.TITLE)
    return Recommendation(rank, hit.item_id, title, score, parts, (), hit.payload)
