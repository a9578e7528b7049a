"""The log of what was shown, from the event log: impressions of answers, and what came of them.

A request is what has one ``request_id``, a context of :class:`molar_eval.kpi.impressions.Impressions`. The reward is 1
of an item that was looked at, put into a cart or bought with this ``request_id``, else 0. Propensities are those of
being in the list, at whatever place; only the first ten have one. A request that lacks one is left out as a whole:
whether it does was decided when it was answered, so that what is left is no worse chosen.
"""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_eval.kpi.impressions import CONTEXT_ID, PROPENSITY, REWARD, ROW, Impressions, assembled
from molar_eval.kpi.lines import by_item
from molar_retrieval.columns import ITEM_ID, TIMESTAMP, USER_ID
from molar_retrieval.data.event_log_reader import SCHEMA, EventLogSnapshot, opened
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import person_keys
from molar_retrieval.ranking.objectives import TOP
from molar_retrieval.workspace.artefacts import Workspace

TAKEN = ("click", "view", "add_to_cart", "purchase")
_NAME = "the event log"
_SHOWN = ("user_id", "session_id", "item_id", "timestamp", "request_id", "position", "propensity", "seq")
_PAIR = ("request_id", "item_id")


def logged_impressions(workspace: Workspace) -> tuple[Impressions, int]:
    """The impressions of the workspace's event log, and how many requests are left out for want of propensities.

    Raises:
        DataError: If there is no log or no impression to be used, if a request has two users, or a propensity is none.
    """
    hint = "append what `impression()` of an answer gives as it is shown, see docs/kpi.md"
    with opened(workspace) as state:
        if state is None:
            raise DataError("there is no event log", hint)
        shown = _together(state, _SHOWN, ("impression",))
        taken = _together(state, _PAIR, TAKEN)
    keep = pc.and_(pc.is_valid(shown["request_id"]), pc.is_valid(shown["item_id"]))
    shown = shown.filter(pc.and_(keep, pc.fill_null(pc.less_equal(shown["position"], TOP), True))).sort_by("seq")
    unsaid = pc.unique(shown["request_id"].filter(pc.is_null(shown["propensity"])))
    shown = shown.filter(pc.invert(pc.is_in(shown["request_id"], unsaid)))
    shown = shown.take(_firsts(shown))
    if not len(shown):
        raise DataError("no impression of the event log has a request_id and a propensity", hint)
    wrong = pc.invert(pc.and_(pc.greater(shown["propensity"], 0), pc.less_equal(shown["propensity"], 1)))
    if pc.any(wrong).as_py():
        value = shown["propensity"].filter(wrong)[0].as_py()
        raise DataError(f"{_NAME}: {value} is no propensity", "log a probability above 0 and at most 1")
    pairs = set(zip(taken["request_id"].to_pylist(), taken["item_id"].to_pylist(), strict=True))
    own = zip(shown["request_id"].to_pylist(), shown["item_id"].to_pylist(), strict=True)
    block = {
        CONTEXT_ID: _text(shown["request_id"]),
        USER_ID: _text(person_keys(shown["user_id"], shown["session_id"])),
        ITEM_ID: _text(shown["item_id"]),
        PROPENSITY: shown["propensity"].to_numpy(),
        REWARD: np.fromiter((pair in pairs for pair in own), np.float64, len(shown)),
        TIMESTAMP: shown["timestamp"].cast(pa.int64()).to_numpy() // 1_000_000,
        ROW: shown["seq"].to_numpy(),
    }
    return assembled(_NAME, [block]), len(unsaid)


def _together(state: EventLogSnapshot, columns: Collection[str], kinds: Collection[str]) -> pa.Table:
    nothing = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
    return by_item(state, pa.concat_tables([nothing, *state.tables(tuple(columns), kinds)]))


def _text(column: pa.ChunkedArray) -> pa.Array:
    """Ids as the reader of a file gives them."""
    return column.combine_chunks().cast(pa.large_string())


def _firsts(shown: pa.Table) -> npt.NDArray[np.int64]:
    """The first line of each item of a request: what was told twice was shown once."""
    numbered = shown.select(list(_PAIR)).append_column("place", pa.array(np.arange(len(shown))))
    places = numbered.group_by(list(_PAIR)).aggregate([("place", "min")])["place_min"]
    return np.sort(places.to_numpy())
