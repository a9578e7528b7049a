"""Histories by a generation and the events since, against the log of a generation that contains them all."""

import shutil
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_interactions_of_events import DAY, EVENTS, FILE, KNOWN, START, TAKES, WEIGHTS, found, name_all

from molar_indexes.generations import publish
from molar_indexes.overlay import Overlay
from molar_indexes.users import UserRecord
from molar_retrieval.catalog import prepare_catalogue
from molar_retrieval.events.log import EventLog
from molar_retrieval.index import IndexItem, IndexSpec
from molar_retrieval.workspace import Workspace


def read(rows, times):
    return UserRecord("", [0.0], rows, times=times)


def append(workspace, batch, first):
    log = EventLog(workspace)
    log.append(enumerate(event.row(name) for name, event in name_all(batch, first)))
    log.close()


def release(workspace, histories, last, days):
    return publish(
        workspace,
        backend="exact",
        spec=IndexSpec(dims={"aligned": 1}),
        items=[IndexItem(row, name, {"aligned": [1.0]}, {}) for row, name in enumerate(KNOWN)],
        users=[
            UserRecord(key, [1.0], [KNOWN.index(i) for i, *_ in own], times=[t for _, t, _ in own])
            for key, own in histories.items()
        ],
        popular=[],
        inputs={},
        facts={"events": {"catalogue": last, "interactions": last, "kinds": WEIGHTS, "days": days}},
    )


def settled(before, since):
    """Without what takes back something that came only after the generation, unless it names its own order."""

    def waits(taker, event):
        ordered = taker.order is not None and taker.order == event.order
        return ordered != (ordered and taker.person == event.person) or (not ordered and event.time <= taker.time)

    takers = {taker: [e for e in since if e.kind == TAKES[taker.kind]] for taker in before if taker.kind in TAKES}
    late = {taker for taker, events in takers.items() if any(e.item == taker.item and waits(taker, e) for e in events)}
    return [event for event in before if event not in late]


@settings(deadline=None, max_examples=25, derandomize=True, phases=[Phase.generate])
@given(FILE, st.lists(EVENTS, max_size=8), st.lists(EVENTS, max_size=8), st.booleans())
def test_a_history_continued_is_that_of_the_whole_log(file, before, since, sealed):
    if sealed:  # by then the log no longer holds by itself what was no purchase
        before = [event for event in before if event.kind == "purchase"]
    # Of an order the log knows buyers by name alone: a session by a user's name is another matter.
    before, since = ([e for e in events if (e.user, e.session) != (None, "u")] for events in (before, since))
    bought = {(user, item, day) for user, item, day, _ in file}  # the same again tells nothing new
    before = [e for e in settled(before, since) if (e.person, e.item, e.time // DAY) not in bought]
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
            log.compact(today=START // DAY + 1)
        last = log.tail(1)["seq"].to_pylist()
        log.close()
        with release(workspace, histories, last[0] if last else 0, not any(s for *_, s in file)) as generation:
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
