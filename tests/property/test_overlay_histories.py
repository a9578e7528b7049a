"""Histories by a generation and the events since, against the log of a generation that contains them all.

MOLAR_TEST_EXAMPLES=500 looks at as many, others each time.
"""

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_interactions_of_events import (
    DAY,
    EVENTS,
    FILE,
    KNOWN,
    START,
    TAKES,
    WEIGHTS,
    Event,
    accepted,
    found,
    name_all,
    once,
    takers,
)

from molar_indexes.generations import publish
from molar_indexes.live_state import Overlay
from molar_indexes.users import UserRecord
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import StoredEvents
from molar_retrieval.ranking.index_protocol import IndexItem, IndexSpec
from molar_retrieval.workspace.artefacts import Workspace

EXAMPLES = int(os.environ.get("MOLAR_TEST_EXAMPLES", "40"))


def read(rows, times):
    return UserRecord("", [0.0], rows, times=times)


def append(workspace, batch, first):
    log = EventLog(workspace)
    log.append(enumerate(event.row(name) for name, event in name_all(batch, first)))
    log.close()


def release(workspace, histories, last, days):
    events = stored(workspace) if histories else {}
    return publish(
        workspace,
        backend="exact",
        spec=IndexSpec(dims={"aligned": 1}),
        items=[IndexItem(row, name, {"aligned": [1.0]}, {}) for row, name in enumerate(KNOWN)],
        users=[
            UserRecord(key, [1.0], [KNOWN.index(i) for i, *_ in own], times=[t for _, t, _ in own], events=events[key])
            for key, own in histories.items()
        ],
        popular=[],
        inputs={},
        facts={"events": {"catalogue": last, "interactions": last, "kinds": WEIGHTS, "days": days}},
    )


def stored(workspace):
    """Which events the histories of the prepared interactions are, by person."""
    folder, events = workspace["interactions"].current, StoredEvents(workspace["interactions"].current)
    log = Interactions.open(folder, Catalogue.open(workspace["catalogue"].current).ids)
    return {log.users.id(u): events.packed(slice(*log.offsets[u : u + 2])) for u in range(log.n_users)}


def knowable(file, before, since, sealed):
    """Both without that of which a generation and the log since know less than the whole log (docs/events.md)."""
    # Of an order the log knows buyers by name alone: a session by a user's name is another matter.
    before, since = ([e for e in events if (e.user, e.session) != (None, "u")] for events in (before, since))
    days = bool(file) and not any(second for *_, second in file)
    there = {(user, item, day * DAY + second) for user, item, day, second in file}
    if sealed:  # by then the log no longer holds what took back, nor what was taken, nor requests and moments
        since = [replace(e, request=None) if e.kind in TAKES else e for e in since]
        before = [e for e in before if e.kind in WEIGHTS and not (days and e.time % DAY == 0)]
    # Where file and log have the same moment, it cannot be told which of the two is left, nor whether the file has it.
    before = [e for e in before if (days, e.kind) == (False, "purchase") or (e.person, e.item, e.time) not in there]
    bought = {(e.person, e.item, e.time) for e in before if days and e.kind == "purchase"}
    before = [e for e in before if e.kind == "purchase" or (e.person, e.item, e.time) not in bought]
    # A repetition that names another order is none to the log, and one to the history.
    unit, orders = DAY if days else 1, {}

    def is_new(e):
        return e.kind != "purchase" or orders.setdefault((e.person, e.item, e.time // unit), e.order) == e.order

    before, since = ([e for e in events if is_new(e)] for events in (before, since))

    # Of what others sent back only what came since is looked for: not what came before its order, nor beside others.
    def beside(e):
        every = [x for x in (*before, *since) if (x.person, x.item) == (e.person, e.item) and x.order != e.order]
        return any(x.kind in TAKES or x.time == e.time for x in every)

    people = {e.person for e in before}
    bought = [e for e in since if e.kind == "purchase"] + [e for e in before if e.kind == "purchase" and beside(e)]
    others = {(e.order, e.item, who) for e in bought if e.order is not None for who in people - {e.person}}
    before = [e for e in before if e.kind != "return" or (e.order, e.item, e.person) not in others]
    return without_returns(file, before), since


def without_returns(file, before):
    """What took back something that the file has, which the log cannot bring back, is left out."""
    while True:
        rows = once(file, accepted(name_all(before, 0)))
        first = [id(row) for row in rows[: len(set(file))]]
        rows.sort(key=lambda event: event.time)
        hidden = [rows[n] for n, took in takers(rows).items() if any(id(rows[other]) in first for other in took)]
        if not hidden:
            return before
        before = [event for event in before if event not in hidden]


def did(kind, day=0, second=0, order=None, who=("u", None), item="a"):
    return Event(kind, *who, item, day * DAY + second, order, None)


V, STAFF = ("v", "s"), (None, "s")


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(FILE, st.lists(EVENTS, max_size=8), st.lists(EVENTS, max_size=8), st.sampled_from([0, 0, 1, 3]))
# The same items at other times.
@example([], [did("purchase")], [did("return"), did("purchase", second=1)], 0)
@example([("u", "a", 1, 0)], [], [did("view"), did("return", 2)], 0)
# A return that came before what it is of, and one that takes another purchase by then.
@example([], [did("return", 1)], [did("purchase")], 0)
@example([], [did("purchase"), did("return", 2)], [did("purchase", 1)], 0)
# Which of two deeds of one second is left.
@example([], [did("purchase"), did("return"), did("add_to_cart")], [did("return", second=2)], 0)
# An order of which nothing is left, and one that others have as well.
@example([("u", "a", 1, 1)], [did("purchase", order="T1"), did("return")], [did("return", order="T1", who=STAFF)], 0)
@example(
    [("u", "a", 0, 2)],
    [did("purchase", order="T1"), did("return", order="T1", who=STAFF)],
    [did("return", 1, order="T1")],
    0,
)
# Of what is sealed: the day of an order, a look that names it, and days that are not those of the file.
@example([], [did("purchase", 2), did("purchase", order="T1")], [did("return", order="T1")], 3)
@example([], [did("purchase", order="T1", who=V)], [did("return", order="T1"), did("view", order="T1", who=V)], 3)
@example([("w", "a", 0, 0)], [did("purchase", second=1)], [did("purchase", second=3)], 3)
# The order of what the file has, and what the log has of the same moment.
@example([("u", "a", 0, 2)], [did("purchase", second=2, item="b"), did("purchase", second=2)], [did("purchase")], 0)
# Carts are their own people's, whatever order a removal names.
@example([], [], [did("add_to_cart", order="T1", who=V), did("remove_from_cart", order="T1")], 0)
@example([], [did("purchase", order="T1", who=V)], [did("add_to_cart"), did("remove_from_cart", 1, order="T1")], 0)
def test_a_history_continued_is_that_of_the_whole_log(file, before, since, sealed):
    before, since = knowable(file, before, since, sealed)
    root = Path(tempfile.mkdtemp(prefix="molar-"))
    try:
        folder = root / "shop"
        folder.mkdir()
        pq.write_table(pa.table({"item_id": list(KNOWN), "title": list(KNOWN)}), folder / "items.parquet")
        if file:
            user, item, day, second = zip(*file, strict=True)
            times = [START + d * DAY + s for d, s in zip(day, second, strict=True)]
            table = pa.table({"user_id": user, "item_id": item, "timestamp": pa.array(times, pa.float64())})
            pq.write_table(table, folder / "interactions.parquet")
        workspace = Workspace.for_catalogue(root / "work", folder)
        prepare_catalogue(folder, workspace)
        append(workspace, before, 0)
        histories, _ = found(folder, workspace)
        log = EventLog(workspace)
        if sealed:
            log.compact(today=START // DAY + sealed)
        last = log.tail(1)["seq"].to_pylist()
        log.close()
        days = bool(file) and not any(second for *_, second in file)
        with release(workspace, histories, last[0] if last else 0, days) as generation:
            append(workspace, since, len(before))
            overlay = Overlay(workspace, generation, read)
            state = overlay.now()
            expected, _ = found(folder, workspace)
            for key in {*histories, *expected, *(event.person for event in since)}:
                user, _ = overlay.person(state, key)
                own = [] if user is None else [(KNOWN[r], t) for r, t in zip(user.history, user.times, strict=True)]
                assert own == [(item, time) for item, time, _ in expected.get(key, [])], key
            overlay.close()
    finally:
        shutil.rmtree(root)
