"""Any order, repetitions and interruptions of appends and compactions end in the same log."""

import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from molar_retrieval.data.event_log import EventLog, insert_events
from molar_retrieval.data.event_parsing import parse_event
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace.artefacts import Workspace

START = datetime(2026, 1, 1, tzinfo=UTC)
N = 12


def event(number: int) -> dict[str, object]:
    moment = START + timedelta(hours=7 * number)
    who = {"user_id": f"u{number % 3}"} if number % 4 else {"session_id": "s"}
    items = [{"item_id": f"i{n}"} for n in range(1 + number % 3)]
    return {"event_id": f"e{number}", "event": "purchase", "timestamp": moment, "items": items, **who}


class Killed(BaseException):
    """The process ends here."""


NUMBERS = st.lists(st.integers(0, N - 1), max_size=N)
STEP = st.tuples(st.sampled_from(["append", "compact", "insert_events", "sync_file", "sync_folder", "_write"]), NUMBERS)
"""What is done with which events; a name of a function is where the process ends while it does both."""


def end(*arguments: object) -> None:
    raise Killed


def play(workspace: Workspace, what: str, numbers: list[int]) -> None:
    log = EventLog(workspace)
    with suppress(Killed):
        if what == "append":
            log.append((n, event(n)) for n in numbers)
        elif what == "compact":
            log.compact()
        elif what == "_write":  # after the event with the highest number, in the middle of a transaction
            with log.transaction() as connection:
                insert_events(connection, (parse_event(event(n), 2**60) for n in numbers), 0, Pseudonymiser())
                raise Killed
        else:
            with mock.patch(f"molar_retrieval.data.event_log.{what}", end):
                log.append((n, event(n)) for n in numbers)
                log.compact()
    log.close()


def content(workspace: Workspace) -> list[tuple[object, ...]]:
    log = EventLog(workspace)
    table = log.table()
    log.close()
    assert len(set(table["seq"].to_pylist())) == len(table)
    columns = [table[name].to_pylist() for name in ("user_id", "timestamp", "event_id", "line", "item_id")]
    return list(zip(*columns, strict=True))


@settings(deadline=None, max_examples=40)
@given(st.lists(STEP, max_size=6), st.permutations(range(N)))
def test_every_way_ends_in_the_same_log(steps: list[tuple[str, list[int]]], last: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shop").mkdir()
        straight = Workspace.for_catalogue(Path(folder) / "a", Path(folder) / "shop")
        play(straight, "append", list(range(N)))
        crooked = Workspace.for_catalogue(Path(folder) / "b", Path(folder) / "shop")
        for what, numbers in steps:
            before = content(crooked)
            play(crooked, what, numbers)
            after = content(crooked)
            assert set(before) <= set(after)
            if what == "append":
                assert {f"e{n}" for n in numbers} <= {row[2] for row in after}
            elif what == "_write":
                assert before == after
        play(crooked, "append", last)
        assert content(crooked) == content(straight)
