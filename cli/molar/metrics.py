"""Metrics of recommendations in any frame: what was recommended against what users took.

The figures are those of :func:`molar.evaluate`: binary gains, means over users, as trec_eval and ranx compute them.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molar.base import plain_errors
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.frames import Frame

if TYPE_CHECKING:
    import pyarrow as pa

    from molar_eval.cases import Cases

__all__ = ["ACCURACY", "LISTS", "compute"]
ACCURACY = ("ndcg", "recall", "precision", "hit_rate", "mrr", "map")
"""Metrics of each user's list against what they took."""
LISTS = ("coverage", "gini", "novelty", "serendipity", "popularity_lift")
"""Metrics of what the lists are like; all but coverage and gini need the training interactions."""
_NAME = re.compile(r"([a-z_]+)@([1-9]\d{0,4})")
Codes = npt.NDArray[np.int64]


@plain_errors
def compute(
    recommendations: Any,
    truth: Any,
    metrics: Sequence[str] = ("ndcg@10", "recall@10"),
    *,
    train: Any = None,
    items: Any = None,
    per_user: bool = False,
) -> Frame:
    """Metrics of recommendations, from tables that any library made.

    Every user of ``truth`` counts: who was recommended nothing has 0. Lists of others are left out.

    Args:
        recommendations: Columns ``user_id`` and ``item_id``, and ``rank`` (from 1) or ``score`` (higher is better);
            without both, each user's rows are best first.
        truth: Columns ``user_id`` and ``item_id``: what users took.
        metrics: Names such as ``ndcg@10``, see :data:`ACCURACY` and :data:`LISTS`.
        train: Columns ``user_id`` and ``item_id``: the training interactions, for novelty, serendipity and
            popularity_lift.
        items: Column ``item_id``: all items that could be recommended, for coverage and gini; None: all that occur in
            the other tables.
        per_user: Whether to return a row for each user.

    Returns:
        Columns ``metric``, ``mean``, ``low`` and ``high`` (95 % bootstrap interval over users; missing for metrics of
        all lists together). With ``per_user`` the columns ``user_id`` and one for each metric of single lists.

    Raises:
        DataError: If a table lacks a column or an id, a list has an item twice, or there is no truth.
        SettingsError: If there is no such metric, or it needs the training interactions.
    """
    wanted = [_parsed(name, trained=train is not None) for name in metrics]
    lists, cases, candidates = _cases(recommendations, truth, train, items)
    each, whole = _values(wanted, lists, cases, candidates)
    if per_user:
        import pyarrow as pa

        columns = {name: pa.array(values) for name, values in each.items()}
        return Frame(pa.table({"user_id": pa.array(cases.user_ids(), pa.string()), **columns}))
    return Frame.of(
        [_row(name, each, whole, cases) for name in metrics],
        {"metric": "string", "mean": "double", "low": "double", "high": "double"},
    )


def accuracy_of(name: str) -> int:
    """The cutoff of a metric of accuracy; a SettingsError for another one."""
    full, base, k = _parsed(name, trained=True)
    if base not in ACCURACY:
        raise SettingsError(f"models are not compared by {full}", f"use one of {', '.join(ACCURACY)}")
    return k


def _parsed(name: str, *, trained: bool) -> tuple[str, str, int]:
    """A metric's full name, its name before ``@`` and its cutoff."""
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in (*ACCURACY, *LISTS):
        raise SettingsError(
            f"there is no metric {name!r}", f"write NAME@k, such as ndcg@10; names are {', '.join((*ACCURACY, *LISTS))}"
        )
    if found[1] in LISTS[2:] and not trained:
        raise SettingsError(f"{name} needs the training interactions", "pass them as train")
    return name, found[1], int(found[2])


def _cases(
    recommendations: Any, truth: Any, train: Any, items: Any
) -> tuple[npt.NDArray[np.int32], "Cases", npt.NDArray[np.bool_]]:
    """Lists of item rows, -1 where one is shorter, the cases with what users took, and which items are candidates."""
    from molar_eval.cases import Cases
    from molar_retrieval.data.interactions import RawInteractions, ordered
    from molar_retrieval.ids import IdMap

    shown, taken = _table(recommendations, "recommendations"), _table(truth, "truth")
    trained = None if train is None else _table(train, "train")
    known = None if items is None else _table(items, "items", ("item_id",))
    if not len(taken):
        raise DataError("the truth has no rows", "pass what users took: user_id, item_id")
    tables = [table for table in (taken, shown, trained) if table is not None]
    users = IdMap(_distinct([table["user_id"] for table in tables]))
    items_known = IdMap(_distinct([table["item_id"] for table in ([known] if known else []) + tables]))
    candidates = np.ones(len(items_known), bool)
    if known is not None:
        candidates[len(known["item_id"].unique()) :] = False

    def codes(table: "pa.Table") -> tuple[Codes, Codes]:
        found = (users.rows(table["user_id"]), items_known.rows(table["item_id"]))
        return found[0].astype(np.int64), found[1].astype(np.int64)

    pairs = np.unique(np.stack(codes(taken)), axis=1)
    asked, counts = np.unique(pairs[0], return_counts=True)
    who, what = (np.zeros(0, np.int64), np.zeros(0, np.int64)) if trained is None else codes(trained)
    history = ordered(RawInteractions(who.astype(np.int32), what.astype(np.int32))).grouped(users, items_known)
    cases = Cases(
        history, asked, np.diff(history.offsets)[asked], np.append(0, np.cumsum(counts)), pairs[1].astype(np.int32)
    )
    return _lists(shown, *codes(shown), cases), cases, candidates


def _lists(shown: "pa.Table", user: Codes, item: Codes, cases: "Cases") -> npt.NDArray[np.int32]:
    """The list of each case, best first, shape (C, length of the longest)."""
    place = np.full(len(cases.history.users), -1, np.int64)
    place[cases.user] = np.arange(len(cases))
    pair = np.sort(user * cases.history.n_items + item)
    if len(twice := pair[1:][pair[1:] == pair[:-1]]):
        who, what = divmod(int(twice[0]), cases.history.n_items)
        raise DataError(
            f"{cases.history.items.id(what)!r} is recommended twice to {cases.history.users.id(who)!r}",
            "pass each item once per user",
        )
    order = np.lexsort((*_order(shown), user))
    order = order[place[user[order]] >= 0]
    case = place[user[order]]
    counts = np.bincount(case, minlength=len(cases))
    by_case = np.argsort(case, kind="stable")
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    lists = np.full((len(cases), max(1, int(counts.max(initial=0)))), -1, np.int32)
    lists[case[by_case], column] = item[order][by_case]
    return lists


def _order(shown: "pa.Table") -> tuple[npt.NDArray[Any], ...]:
    """What sorts a user's rows, best first: ranks, else falling scores, else their order."""
    for name, sign in (("rank", 1), ("score", -1)):
        if name in shown.column_names:
            values = np.asarray(shown[name], np.float64)
            if np.isnan(values).any():
                raise DataError(f"recommendations: a {name} is missing", "give every row one, or leave the column out")
            return (sign * values,)
    return ()


def _values(
    wanted: Sequence[tuple[str, str, int]],
    lists: npt.NDArray[np.int32],
    cases: "Cases",
    candidates: npt.NDArray[np.bool_],
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, float]]:
    """Metrics by name: of each case, shape (C,), and of all lists together."""
    from molar_eval.metrics import ListContext, accuracy, coverage, gini, novelty, popularity_lift, serendipity

    hits = lists[cases.case_of_target] == cases.targets[:, None]
    ranks = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0).astype(np.int64)
    right = accuracy(ranks, cases.offsets, sorted({k for _, _, k in wanted}))
    context = ListContext.of(cases.history, candidates)
    single: dict[str, Callable[[int], npt.NDArray[np.float32]]] = {
        "novelty": lambda k: novelty(lists[:, :k], context.popularity, context.n_users),
        "serendipity": lambda k: serendipity(cases, ranks, k, context.popularity, candidates, "hide"),
    }
    total: dict[str, Callable[[int], float]] = {
        "coverage": lambda k: coverage(lists[:, :k], candidates),
        "gini": lambda k: gini(lists[:, :k], candidates),
        "popularity_lift": lambda k: popularity_lift(lists[:, :k], cases, context.popularity),
    }
    each = {full: right[full] if name in ACCURACY else single[name](k) for full, name, k in wanted if name not in total}
    return each, {full: total[name](k) for full, name, k in wanted if name in total}


def _row(
    name: str, each: dict[str, npt.NDArray[np.float32]], whole: dict[str, float], cases: "Cases"
) -> dict[str, object]:
    from molar_eval.statistics import clustered_intervals

    if name in whole:
        return {"metric": name, "mean": whole[name] if np.isfinite(whole[name]) else None}
    there = np.isfinite(each[name])
    if not there.any():
        return {"metric": name}
    (found,) = clustered_intervals(each[name][there, None], cases.user[there])
    return {"metric": name, "mean": found.mean, "low": found.low, "high": found.high}


def _table(source: Any, name: str, needed: Sequence[str] = ("user_id", "item_id")) -> "pa.Table":
    """A table with ids as strings."""
    import pyarrow as pa

    from molar.tables import as_table
    from molar_retrieval.data.values import as_strings

    table = as_table(source, name)
    for column in needed:
        if column not in table.column_names:
            raise DataError(
                f"the {name} have no column {column!r}; their columns are {', '.join(table.column_names) or 'none'}",
                f"rename the one that holds it to {column}",
            )
        ids = pa.chunked_array([as_strings(part).cast(pa.string()) for part in table[column].chunks], pa.string())
        if ids.null_count:
            raise DataError(f"{name}: {ids.null_count} rows have no {column}", "give every row one, or leave it out")
        table = table.set_column(table.column_names.index(column), column, ids)
    return table


def _distinct(columns: "Sequence[pa.ChunkedArray]") -> "pa.Array":
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.unique(pa.chunked_array([part for column in columns for part in column.chunks], pa.string()))
