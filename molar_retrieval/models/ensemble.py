"""A trained alignment as data: what publishing, new sessions and evaluation need."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
from scipy.sparse import csr_matrix, diags, hstack

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.models import repeat_consumption
from molar_retrieval.models.content_features import Conditioner
from molar_retrieval.models.content_knn import ContentKNN, principal
from molar_retrieval.models.item_item import ItemItemWeights
from molar_retrieval.models.own_block import OwnBlock
from molar_retrieval.models.popularity import Popularity
from molar_retrieval.models.repeat_consumption import RepeatConsumption
from molar_retrieval.models.towers.inference import CONTENT_KNN, POPULARITY, UserVectors
from molar_retrieval.models.towers.network import ContentMap, TwoTowerNetwork
from molar_retrieval.models.vectors import ItemItemVectors, ItemVectors, Predictor, encode_users, item_sides
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.candidates import Candidates, descent, lifted
from molar_retrieval.ranking.explanations import of_cold_start
from molar_retrieval.ranking.index_protocol import SparseVector
from molar_retrieval.ranking.item_store import ItemStore, SparseItemIndex
from molar_retrieval.ranking.objectives import (
    EVERY,
    NEXT_ITEM,
    Objective,
    Objectives,
    ObjectiveScale,
    Slots,
    served,
    shared,
)
from molar_retrieval.ranking.reranker import CANDIDATES, Reranker, moves
from molar_retrieval.workspace.config_files import ObjectiveName
from molar_retrieval.workspace.tensors import Mask, Matrix, Rows

Encoded = Mapping[str, Matrix]
"""Dense blocks of users' vectors by part, (n_users, width) each, before weights."""


def of_some(encoded: Encoded | None, users: slice | Rows) -> Encoded | None:
    """Those of some of the users."""
    return None if encoded is None else {name: block[users] for name, block in encoded.items()}


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Towers and count-based models with all that surrounds them.

    A user's dense vector joins that of each tower, the content of what the user had, that of each model of the user's
    own, and the number 1; an item's joins its side of each of these, its own content and its popularity, each times the
    weight of that component. A user's sparse vector holds the history once per count-based model, an item's its
    neighbors. The sum of both dot products is the score; ranges of dimensions are its components. Vectors of users are
    the same for all objectives: what an objective weights otherwise is multiplied into them when they are asked.
    """

    network: TwoTowerNetwork  # in evaluation mode; without towers where only counting was asked for
    conditioner: Conditioner
    features: Matrix  # conditioned content vectors of all items, shape (n_items, f), rows of length 1 or 0
    known: Mask  # whether an item has training interactions, shape (n_items,)
    item_item: tuple[ItemItemWeights, ...]
    content_knn: ContentKNN | None  # None: they are left out
    half_life: float | None  # of the trend, in days; None: it is left out
    precision: str
    weights: Mapping[str, float] = field(default_factory=dict)  # of each part of the vector of a known item
    cold_start_weights: Mapping[str, float] = field(default_factory=dict)  # of that of any other item
    predictors: Mapping[str, Predictor] = field(
        default_factory=dict
    )  # of cold-start items' blocks, see :meth:`guesses`
    slots: Slots = ()  # which of the first ten cold-start items get
    popularity: Popularity | None = None  # None: not needed so far, see seeing
    reranker: Reranker | None = None
    als: Matrix | None = None  # ALS factors of all items, which the re-ranker reads, shape (n_items, c)
    numbers: Matrix | None = None  # their numeric attributes, likewise, shape (n_items, m)
    least: int = 1  # people without whom a pair of items, or an item's popularity, is left out
    demand: Matrix | None = None  # takers of each item by statistics with noise, (n_items,); None: a log tells them
    content_knn_axes: Matrix | None = None  # by which features became those of the content kNN; None: these items' own
    objectives: Objectives = field(
        default_factory=dict
    )  # what users' vectors are multiplied by, for every aim with own weights
    default_objective: ObjectiveName = "next_item"  # what is asked for where nothing is said
    repeats: RepeatConsumption | None = None  # repeat consumption; None: nothing is known of it
    own: tuple[OwnBlock, ...] = ()  # models of the user's own

    def seeing(self, log: Interactions) -> Self:
        """The model with the popularity of all items over the time of ``log``, unless statistics tell it."""
        repeats = None if self.repeats is None else repeat_consumption.seeing(self.repeats, log, self.least)
        if self.half_life is None or self.demand is not None:
            return replace(self, repeats=repeats)
        return replace(self, popularity=Popularity.fit(log, self.half_life, self.least), repeats=repeats)

    @cached_property
    def dense_parts(self) -> tuple[VectorBlock, ...]:
        """The ranges of the dense vector whose products are parts of the score; popularity is always the last."""
        widths = {name: shape.dim for name, shape in self.network.shapes.items() if self._counts(name)}
        if self.content_knn is not None and self._counts(CONTENT_KNN):
            widths[CONTENT_KNN] = self.content_knn.dim
        widths |= {one.name: one.items.shape[1] for one in self.own if self._counts(one.name)}
        widths[POPULARITY] = 1
        return VectorBlock.side_by_side(widths.items())

    @cached_property
    def sparse_parts(self) -> tuple[VectorBlock, ...]:
        """The ranges of the sparse vector whose products are parts of the score."""
        return VectorBlock.side_by_side((one.name, len(self.known)) for one in self._weighted)

    @property
    def _weighted(self) -> list[ItemItemWeights | RepeatConsumption]:
        sparse = (*self.item_item, *(() if self.repeats is None else (self.repeats,)))
        return [one for one in sparse if self.weights.get(one.name)]

    def _counts(self, name: str) -> bool:
        return bool(self.weights.get(name) or self.cold_start_weights.get(name))

    def users(
        self, log: Interactions, rows: Rows, progress: Progress = SILENT, encoded: Encoded | None = None
    ) -> UserVectors:
        """Vectors of the users at ``rows`` after all of their history in ``log``.

        ``encoded`` are their :meth:`users_by_part`, where these were made before.
        """
        blocks = self.users_by_part(log, rows, progress) if encoded is None else encoded
        return UserVectors(self._dense(blocks), self.sparse_users(log, rows))

    def dense_users(self, log: Interactions, rows: Rows, progress: Progress = SILENT) -> Matrix:
        """The dense vectors alone."""
        return self._dense(self.users_by_part(log, rows, progress))

    def _dense(self, blocks: Encoded) -> Matrix:
        return np.concatenate([blocks[block.name] for block in self.dense_parts], axis=1)

    def sparse_users(self, log: Interactions, rows: Rows) -> csr_matrix:
        """The sparse vectors alone."""
        chosen = log.of_users(rows)
        return _side_by_side([one.read(chosen) for one in self._weighted], len(rows))

    def users_by_part(self, log: Interactions, rows: Rows, progress: Progress = SILENT) -> Encoded:
        """The dense blocks of users' vectors by part, whether the part has a weight or not."""
        blocks = encode_users(self.network, log, rows, precision=self.precision, progress=progress)
        if self.content_knn is not None:
            blocks[CONTENT_KNN] = self.content_knn.users(log.of_users(rows))
        blocks |= {one.name: one.users(log.of_users(rows)) for one in self.own}
        return {**blocks, POPULARITY: np.ones((len(rows), 1), np.float32)}

    def items(self, log: Interactions) -> ItemVectors:
        """Vectors of all items, popularity being that at the end of ``log``."""
        return self.seeing(log).items_now()

    def items_now(self) -> ItemVectors:
        """Vectors of all items, popularity being that at the end of what the model has seen."""
        popularity = np.zeros(len(self.known), np.float32) if self.popularity is None else self.popularity.now()
        return ItemVectors(self._dense_items(popularity[:, None]), self._item_item_vectors, ~self.known)

    def _dense_items(self, popularity: Matrix) -> Matrix:
        """The dense vectors of all items, by their popularity, shape (n_items, 1)."""
        sides: dict[str, Matrix] = {**item_sides(self.network, self.known), POPULARITY: popularity}
        if self.content_knn is not None:
            sides[CONTENT_KNN] = self.content_knn.sides
        sides |= {one.name: one.items for one in self.own}
        dense = np.empty((len(self.known), self.dense_parts[-1].stop), np.float32)
        new = ~self.known
        for part in self.dense_parts:
            block, side = dense[:, part.start : part.stop], sides[part.name]
            np.multiply(side, np.float32(self.weights.get(part.name, 0.0)), out=block)
            block[new] = self.guesses(part.name, side, new) * np.float32(self.cold_start_weights.get(part.name, 0.0))
        return dense

    @cached_property
    def _neighbors(self) -> csr_matrix:
        """The sparse vectors of all items by dimension, shape (s, n_items)."""
        return self._item_item_vectors.whole()

    @property
    def _item_item_vectors(self) -> ItemItemVectors:
        return ItemItemVectors.of([(one.weights, self.weights[one.name]) for one in self._weighted], len(self.known))

    @property
    def content_maps(self) -> dict[str, Matrix]:
        """From features to the dense blocks that are linear in them, but for a factor per item, by part.

        Where cold-start items have others of a part, these stand there as well.
        """
        maps = {}
        side = self.network.items["content_tower"] if "content_tower" in self.network.shapes else None
        if isinstance(side, ContentMap):
            maps["content_tower"] = side.project.weight.detach().float().cpu().numpy().T
        if self.content_knn is not None and self.content_knn.targets is None:
            maps[CONTENT_KNN] = principal(self.features) if self.content_knn_axes is None else self.content_knn_axes
        maps = {name: matrix for name, matrix in maps.items() if self._counts(name)}
        if CONTENT_KNN in maps and CONTENT_KNN in self.predictors:
            maps[of_cold_start(CONTENT_KNN)] = maps[CONTENT_KNN] @ self.predictors[CONTENT_KNN].matrix
        return maps

    def guesses(self, name: str, side: Matrix, some: Mask | Rows) -> Matrix:
        """Blocks of ``some`` items as cold items, of the part whose blocks are ``side`` for all, before their weight.

        They follow from the features; those of content kNN from what these compare, as it is or by a predictor.
        """
        predictor = self.predictors.get(name)
        if predictor is None:
            return side[some]
        return predictor((side if name == CONTENT_KNN else self.features)[some])

    def factors(self, objective: Objective) -> ObjectiveScale:
        """What users' vectors are multiplied by for an objective; RequestError if no weights were chosen for it."""
        return self.objectives.get(served(self.objectives, objective).name, {})

    def with_objectives(self, weights: Mapping[Objective, Mapping[str, float]]) -> Self:
        """The model with these weights of its parts for some aims; it keeps those that it has for others."""
        own = {
            objective: self.weights_for(objective)
            for objective in EVERY
            if objective == NEXT_ITEM or objective.name in self.objectives
        }
        items, objectives = shared(own | dict(weights))
        return replace(self, weights=items, objectives=objectives)

    def weights_for(self, objective: Objective) -> dict[str, float]:
        """The weight of each part of the score of a known item; a RequestError as of :meth:`factors`."""
        factors = self.factors(objective)
        return {part: weight * factors.get(part, 1.0) for part, weight in self.weights.items()}

    def scores(self, log: Interactions, objective: Objective = NEXT_ITEM, encoded: Encoded | None = None) -> Matrix:
        """Scores of all items for each history, shape (n_users, n_items), before cold-start items are :meth:`lifted`.

        Popularity is that at ``log.asked_at`` where the model has seen a log, see :meth:`seeing`; ``encoded`` as of
        :meth:`users`.
        """
        return self.scores_of(self.users(log, np.arange(log.n_users), encoded=encoded), log, objective)

    def scores_of(self, users: UserVectors, log: Interactions, objective: Objective = NEXT_ITEM) -> Matrix:
        """The same for vectors that were made before, of the histories in ``log``."""
        factors = self.factors(objective)
        scores = self.table.for_objective(factors).products(users.dense)
        if self.sparse_parts:
            scores += (self._asked(users.sparse, factors) @ self._neighbors).toarray()
        return scores + self._demand(log, factors)

    def _asked(self, sparse: csr_matrix, factors: ObjectiveScale) -> csr_matrix:
        """Sparse vectors of users, times the factor of each part."""
        scale = [factors.get(part.name, 1.0) for part in self.sparse_parts]
        if all(factor == 1.0 for factor in scale):
            return sparse
        asked = csr_matrix(sparse @ diags(np.repeat(np.array(scale, np.float32), len(self.known))))
        asked.eliminate_zeros()
        return asked

    def _demand(self, log: Interactions, factors: ObjectiveScale) -> Matrix:
        """The popularity component of the scores of all items, shape (n_users or 1, n_items)."""
        weight = self.weights.get(POPULARITY, 0.0) * factors.get(POPULARITY, 1.0)
        if self.popularity is None or not weight:
            return np.zeros((1, len(self.known)), np.float32)
        now = self.popularity.now()[None] if log.asked_at is None else self.popularity.log_scores(log.asked_at)
        demand: Matrix = np.float32(weight) * np.where(self.known, now, np.float32(0))
        return demand

    @cached_property
    def table(self) -> ItemStore:
        """All items as ranking sees them for the default aim, but for their popularity, which changes."""
        count, weights = len(self.known), self._neighbors
        nothing = np.zeros((count, 0), np.float32)
        return ItemStore(
            self._dense_items(np.zeros((count, 1), np.float32)),
            self.known,
            ~self.known,
            SparseItemIndex(weights.indptr, weights.indices, weights.data, np.zeros(weights.nnz, np.int32)),
            self.features,
            nothing if self.als is None else self.als,
            nothing if self.numbers is None else self.numbers,
            {part.name: (part.start, part.stop) for part in self.dense_parts},
            {part.name: (part.start, part.stop) for part in self.sparse_parts},
            factors=self.factors(NEXT_ITEM),
        )

    def candidates(self, scores: Matrix, allowed: Mask, users: UserVectors, log: Interactions) -> Iterator[Candidates]:
        """What the second stage is given of each history in ``log``, whose vectors are ``users``.

        Scores, with cold-start items lifted, and whether an item may be shown have shape (n_users, n_items).
        """
        table, demand = self.table, self._demand(log, self.factors(NEXT_ITEM))
        popularity, reads = table.names.index(POPULARITY), users.sparse.sorted_indices()
        for user in range(len(scores)):
            rows = np.flatnonzero(allowed[user])
            if len(rows) > CANDIDATES:
                rows = rows[np.argpartition(-scores[user, rows], CANDIDATES - 1)[:CANDIDATES]]
            rows = rows[np.lexsort((rows, -scores[user, rows]))]
            span = slice(reads.indptr[user], reads.indptr[user + 1])
            sparse = SparseVector(reads.indices[span], reads.data[span])
            parts = table.split(users.dense[user], sparse, rows)
            parts[:, popularity] += demand[min(user, len(demand) - 1), rows]
            lift = scores[user, rows] - parts.sum(axis=1)
            yield Candidates(rows, parts, lift, ~self.known[rows], np.zeros(len(rows)), np.ones(len(rows)))

    def reranked(self, scores: Matrix, allowed: Mask, users: UserVectors, log: Interactions) -> Matrix:
        """The scores, overwritten: the first candidates moved by the second stage, all others behind them.

        It has learned from scores of the default aim, and is for no others. They stay as they are without a second
        stage; arguments as of :meth:`candidates`.
        """
        if self.reranker is None:
            return scores
        lists = list(self.candidates(scores, allowed, users, log))
        some = [user for user, found in enumerate(lists) if len(found)]
        found, histories = [lists[user] for user in some], [log.history(user) for user in some]
        for user, one, moved in zip(some, found, moves(self.table, self.reranker, found, histories), strict=True):
            others = np.ones(scores.shape[1], bool)
            others[one.rows] = False
            own = scores[user, one.rows]
            scores[user, others] -= descent(own, moved)
            scores[user, one.rows] = own + moved
        return scores

    def lifted(self, scores: Matrix, allowed: Mask, objective: Objective = NEXT_ITEM) -> Matrix:
        """The scores, overwritten: cold items have their places, as in a query; both have shape (n_users, n_items)."""
        return lifted(scores, ~self.known, allowed, objective.slots(self.slots))


def _side_by_side(matrices: Sequence[csr_matrix], height: int) -> csr_matrix:
    return csr_matrix(hstack(matrices)) if matrices else csr_matrix((height, 0), dtype=np.float32)
