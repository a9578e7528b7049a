"""Interactions of a file and random events, against a plain model: whatever comes when, is sent again or killed."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.event_history import EventWeights
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.errors import DataError
from molar_retrieval.privacy.pseudonyms import session_key
from molar_retrieval.workspace.artefacts import Workspace

DAY, START = 86_400, 1_700_006_400
KNOWN, UNKNOWN = "ab", "x"
WEIGHTS = {"purchase": 1.0, "add_to_cart": 0.5, "view": 0.25}
TAKES = {"return": "purchase", "remove_from_cart": "add_to_cart"}
KINDS = [*["purchase", "return"] * 3, *WEIGHTS, *TAKES, "impression", "rating"]


@dataclass(frozen=True)
class Event:
    kind: str
    user: str | None
    session: str | None
    item: str
    time: int
    order: str | None
    request: str | None

    def row(self, name):
        told = {"event_id": name, "event": self.kind, "user_id": self.user, "session_id": self.session, "value": 3}
        told |= {"item_id": self.item, "timestamp": START + self.time, "transaction_id": self.order}
        return told | {"request_id": self.request}

    @property
    def person(self):
        return session_key(self.session) if self.user is None else self.user


WHO = st.sampled_from([*[("u", None)] * 3, ("v", "s"), (None, "s"), (None, "u")])
EVENTS = st.builds(
    lambda kind, who, item, day, second, order, request: Event(kind, *who, item, day * DAY + second, order, request),
    st.sampled_from(KINDS),
    WHO,
    st.sampled_from([*KNOWN * 2, UNKNOWN]),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from([None, None, "T1", "T2"]),
    st.sampled_from([None, None, "R1", "R2"]),
)
FILE = st.lists(
    st.tuples(st.sampled_from("uw"), st.sampled_from(KNOWN), st.integers(0, 2), st.integers(0, 3)), max_size=5
)
STEPS = st.lists(st.sampled_from(["append", "again", "compact", "killed", "prepare"]), max_size=8)


def model(file, log):
    """Histories by person: (item, time, weight), oldest first. ``log`` has names and events as they came."""
    rows = once(file, accepted(log))
    rows.sort(key=lambda event: event.time)  # stable: file, then arrival
    gone = taken_back(rows)
    kept = [row for place, row in enumerate(rows) if row.kind in WEIGHTS and place not in gone]
    strongest = max((WEIGHTS[row.kind] for row in kept), default=1)
    histories = {}
    for row in kept:
        weight = WEIGHTS[row.kind] / strongest
        histories.setdefault(row.person, []).append((row.item, START + row.time, weight))
    return histories


def accepted(log):
    taken, ids, bought = [], set(), set()
    for name, event in log:
        if name in ids:
            continue
        ids.add(name)
        key = (event.order, event.user or event.session, event.item)
        ordered = event.kind == "purchase" and event.order is not None
        if not ordered or key not in bought:
            taken.append(event)
        if ordered:
            bought.add(key)
    return taken


def once(file, events):
    """What the file has, then the events that it has not, each once."""
    unit = 1 if any(second for *_, second in file) else DAY
    rows = [Event("purchase", user, None, item, day * DAY + second, None, None) for user, item, day, second in file]
    rows = list(dict.fromkeys(rows))
    seen = {(row.user, row.item, row.time // unit): place for place, row in enumerate(rows)}
    done = set()
    for event in events:
        what = (event.person, event.item, event.time, event.kind, event.order if event.kind in TAKES else None)
        if event.item == UNKNOWN or event.kind not in (*WEIGHTS, *TAKES) or what in done:
            continue
        done.add(what)
        place = seen.get((event.person, event.item, event.time // unit)) if event.kind == "purchase" else None
        if place is None:
            rows.append(event)
        else:  # the last one says of which order it was
            rows[place] = replace(rows[place], order=event.order, request=event.request)
    return rows


def taken_back(rows):
    return {n for places in takers(rows).values() for n in places}


def takers(rows):
    """What each one that takes back takes, by its place."""
    gone, took = set(), {}
    for place, event in enumerate(rows):
        if event.kind not in TAKES:
            continue
        theirs = [n for n, r in enumerate(rows) if r.kind == TAKES[event.kind] and r.item == event.item]
        of_order = [n for n in theirs if rows[n].order == event.order]
        if event.kind != "return":
            of_order = [n for n in of_order if rows[n].person == event.person]
        mine = [n for n in theirs if n < place and rows[n].person == event.person and n not in gone]
        same = [n for n in mine if event.request is not None and rows[n].request == event.request]
        took[place] = of_order if event.order is not None and of_order else (same or mine)[-1:]
        gone.update(took[place])
    return took


def found(folder, workspace):
    """The same of the artefact, and its fingerprint."""
    try:
        manifest = prepare_interactions(folder, workspace, kinds=EventWeights.of(WEIGHTS))
    except DataError:
        return {}, None
    ids = Catalogue.open(workspace["catalogue"].require()[0]).ids
    log = Interactions.open(workspace["interactions"].require()[0], ids)
    weights = [1.0] * len(log) if log.weight is None else log.weight.tolist()
    rows = list(zip(log.items.ids(log.item), log.timestamp.tolist(), weights, strict=True))
    histories = {log.users.id(u): rows[log.offsets[u] : log.offsets[u + 1]] for u in range(log.n_users)}
    return histories, manifest.fingerprint


def write(folder, workspace, steps, batches):
    """Go through the steps; the events with their names, in the order in which they were sent."""
    sent, left = [], list(batches)
    log = EventLog(workspace)
    for number, step in enumerate([*steps, *["append"] * len(batches)]):
        if step == "compact":
            log.compact(today=(START // DAY) + 1 + number % 3)
        elif step == "prepare":
            found(folder, workspace)
        elif step == "killed":  # what is not committed is gone, what is half written is swept
            log.close()
            (log.folder / "sealed" / f"2023-11-15.{number}99.parquet").write_bytes(b"half a file")
            log = EventLog(workspace)
        elif (batch := sent[-3:] if step == "again" else left and name_all(left.pop(0), len(sent))) and batch:
            log.append(enumerate(event.row(name) for name, event in batch))
            sent += batch
    log.close()
    return sent


def name_all(batch, first):
    return [(f"e{first + place}", event) for place, event in enumerate(batch)]


@settings(deadline=None, max_examples=40)
@given(FILE, st.lists(st.lists(EVENTS, max_size=12), max_size=4), STEPS)
def test_interactions_are_those_of_a_plain_model(file, batches, steps):
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
        sent = write(folder, workspace, steps, batches)
        histories, name = found(folder, workspace)
        expected = model(file, sent)
        assert histories == expected
        log = EventLog(workspace)
        log.compact()
        log.close()
        anew = Workspace.for_catalogue(root / "anew", folder)
        prepare_catalogue(folder, anew)
        shutil.copytree(workspace.root / "events", anew.root / "events", dirs_exist_ok=True)
        assert found(folder, anew) == (histories, name)
    finally:
        shutil.rmtree(root)
