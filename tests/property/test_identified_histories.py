"""Sessions that turn out to be users: live histories, those of a generation of the whole log, and a plain model."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_interactions_of_events import DAY, KNOWN, START, WEIGHTS, Event, found, model
from test_overlay_histories import EXAMPLES, read, release

from molar_indexes.live_state import Overlay
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.privacy.pseudonyms import session_key
from molar_retrieval.workspace.artefacts import Workspace

WHO = st.sampled_from([("u", None), ("v", None), ("v", "s"), (None, "s"), (None, "s"), (None, "t"), (None, "u")])
DEEDS = st.builds(
    lambda kind, who, item: Event(kind, *who, item, 0, None, None),
    st.sampled_from(["purchase", "purchase", "view", "add_to_cart", "return", "remove_from_cart"]),
    WHO,
    st.sampled_from(KNOWN),
)
TOLD = st.builds(lambda user, session: (user, session), st.sampled_from("uv"), st.sampled_from("stu"))
STEPS = st.lists(st.one_of(DEEDS, DEEDS, TOLD), max_size=12)


def row(name, step, second):
    if isinstance(step, Event):
        return step.row(name)
    told = {"event_id": name, "event": "identify", "user_id": step[0], "session_id": step[1]}
    return told | {"timestamp": START + second}


def timed(steps, order):
    """The same with a second of its own for each deed, over several days, in an order that is not that of arrival."""
    seconds = [place // 4 * DAY + place for place in order]
    return [
        replace(step, time=second) if isinstance(step, Event) else step
        for step, second in zip(steps, seconds, strict=False)
    ]


def as_users(steps):
    """Whom deeds are of in the end, by the first event that names the user of a session."""
    known: dict[str, str] = {}
    for step in steps:
        if not isinstance(step, Event):
            known.setdefault(step[1], step[0])
    deeds = [step for step in steps if isinstance(step, Event)]
    return [
        replace(deed, user=known[deed.session]) if deed.user is None and deed.session in known else deed
        for deed in deeds
    ], known


def append(workspace, steps, first):
    log = EventLog(workspace)
    log.append(enumerate(row(f"e{first + n}", step, first + n) for n, step in enumerate(steps)))
    log.close()


@settings(deadline=None, max_examples=EXAMPLES)
@given(STEPS, STEPS, st.permutations(range(24)), st.booleans())
@example([Event("purchase", None, "s", "a", 0, None, None)], [("u", "s")], list(range(24)), True)
@example(
    [Event("purchase", None, "s", "a", 0, None, None), ("u", "s")],
    [("v", "s"), Event("view", None, "s", "b", 0, None, None)],
    list(range(24)),
    True,
)
def test_a_session_is_its_user_whenever_that_is_told(before, since, order, sealed):
    if sealed:  # the log no longer holds by itself what was no purchase, nor what a return was of
        before = [step for step in before if not isinstance(step, Event) or step.kind == "purchase"]
        since = [step for step in since if not isinstance(step, Event) or step.kind in WEIGHTS]
    steps = timed([*before, *since], order)
    before, since = steps[: len(before)], steps[len(before) :]
    root = Path(tempfile.mkdtemp(prefix="molar-"))
    try:
        folder = root / "shop"
        folder.mkdir()
        pq.write_table(pa.table({"item_id": list(KNOWN), "title": list(KNOWN)}), folder / "items.parquet")
        workspace = Workspace.for_catalogue(root / "work", folder)
        prepare_catalogue(folder, workspace)
        append(workspace, before, 0)
        histories, _ = found(folder, workspace)
        log = EventLog(workspace)
        if sealed:
            log.compact(today=START // DAY + 30)
        last = log.tail(1)["seq"].to_pylist()
        log.close()
        with release(workspace, histories, last[0] if last else 0, False) as generation:
            append(workspace, since, len(before))
            overlay = Overlay(workspace, generation, read)
            state = overlay.now()
            expected, _ = found(folder, workspace)
            deeds, users = as_users(steps)
            assert expected == model([], [(f"e{n}", deed) for n, deed in enumerate(deeds)])
            people = {*histories, *expected, "u", "v", *map(session_key, "stu")}
            for key in people:
                session = key.removeprefix("@session:")
                whose = users.get(session, key) if key != session else key
                user, _ = overlay.person(state, key)
                own = [] if user is None else [(KNOWN[r], t) for r, t in zip(user.history, user.times, strict=True)]
                assert own == [(item, time) for item, time, _ in expected.get(whose, [])], (key, whose)
            stored = generation.users.between(0, len(generation.users))
            for one, now in zip(stored, overlay.people(state, stored), strict=True):
                record = overlay.person(state, one.user_id).record
                assert (now is None) == (record is None or not record.history)
                assert now is None or (list(now.history), now.times) == (list(record.history), record.times)
            overlay.close()
    finally:
        shutil.rmtree(root)
