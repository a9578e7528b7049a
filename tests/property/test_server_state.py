"""Log, overlay and generations of two servers on one workspace, as a state machine, against a plain model.

Whatever comes twice, late or after another clock, is sealed, published, gone back from or read by a server that starts
anew: both servers know the same, and it is what the events say. Events that take others back are left out, of which a
generation and the events since know less than the whole log (:mod:`test_overlay_histories`).
MOLAR_TEST_EXAMPLES=100 plays as many games, of 15 steps.
"""

import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from test_interactions_of_events import DAY, EVENTS, KNOWN, START, TAKES, found, model, name_all
from test_overlay_histories import read, release

from molar_indexes.generations import list_generations, open_generation, rollback
from molar_indexes.live_state import Overlay
from molar_retrieval.data.event_log import EventLog
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.workspace.artefacts import Workspace

EXAMPLES = int(os.environ.get("MOLAR_TEST_EXAMPLES", "12"))
BATCHES = st.lists(
    EVENTS.filter(lambda event: event.kind not in TAKES and (event.user, event.session) != (None, "u")),
    min_size=1,
    max_size=3,
)
SERVER = st.sampled_from([0, 1])


class Server:
    """What a server has open: the log that it writes, and the overlay of the generation from which it answers."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace, self.log = workspace, EventLog(workspace)
        self.overlay = self.generation = None

    def histories(self, people):
        """What it knows of people, from what is live."""
        if self.generation is None or self.generation.name != self.workspace["generations"].pointer:
            self._release()
            self.generation = open_generation(self.workspace)
            self.overlay = Overlay(self.workspace, self.generation, read)
        state, told = self.overlay.now(), {}
        for person in people:
            user, notes = self.overlay.person(state, person)
            assert all("does not have their items" in note for note in notes)
            if user is not None and len(user.history):
                told[person] = [(KNOWN[row], moment) for row, moment in zip(user.history, user.times, strict=True)]
        return told

    def close(self) -> None:
        self.log.close()
        self._release()

    def _release(self) -> None:
        if self.overlay is not None:
            self.overlay.close()
            self.generation.close()


class TwoServers(RuleBasedStateMachine):
    """What may happen to a workspace on which two servers run."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="molar-"))
        self.folder = self.root / "shop"
        self.folder.mkdir()
        pq.write_table(pa.table({"item_id": list(KNOWN), "title": list(KNOWN)}), self.folder / "items.parquet")
        self.workspace = Workspace.for_catalogue(self.root / ".molar", self.folder)
        prepare_catalogue(self.folder, self.workspace)
        self.servers, self.sent, self.published = [Server(self.workspace), Server(self.workspace)], [], []
        self.clock = ExitStack()

    def teardown(self) -> None:
        self.clock.close()
        for server in self.servers:
            server.close()
        shutil.rmtree(self.root)

    @rule(server=SERVER, batch=BATCHES)
    def events_come(self, server, batch):
        self.append(server, name_all(batch, len(self.sent)))

    @precondition(lambda self: self.sent)
    @rule(server=SERVER, count=st.integers(1, 5))
    def events_come_again(self, server, count):
        before = self.servers[server].log.tail(1)["seq"].to_pylist()
        self.append(server, self.sent[-count:])
        assert self.servers[server].log.tail(1)["seq"].to_pylist() == before

    @rule()
    def an_update_publishes(self):
        histories, _ = found(self.folder, self.workspace)
        tail = self.servers[0].log.tail(1)["seq"].to_pylist()
        release(self.workspace, histories, tail[0] if tail else 0, days=True).close()
        self.published.append(self.workspace["generations"].pointer)
        kept = self.kept()
        assert kept == [name for name in self.published if name in kept]  # in this order, whatever the clock said
        assert kept[-1] == self.published[-1]

    @precondition(lambda self: len(self.published) > 1)
    @rule(back=st.integers(1, 3))
    def somebody_goes_back(self, back):
        kept = self.kept()
        name = kept[max(0, len(kept) - 1 - back)]
        if name != self.workspace["generations"].pointer:
            rollback(self.workspace, name)

    @rule(days=st.integers(0, 4))
    def the_log_is_sealed(self, days):
        self.servers[0].log.compact(today=START // DAY + days)

    @rule(server=SERVER)
    def a_server_starts_anew(self, server):
        self.servers[server].close()
        self.servers[server] = Server(self.workspace)

    @rule(seconds=st.sampled_from([-30 * DAY, -60, 3600, 30 * DAY]))
    def the_clock_jumps(self, seconds):
        self.clock.close()
        real, real_ns = time.time, time.time_ns

        def now():
            return real() + seconds

        def now_ns():
            return real_ns() + seconds * 10**9

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime.fromtimestamp(time.time(), tz)

        for place in ("molar_indexes.generations", "molar_retrieval.workspace.artefacts"):
            self.clock.enter_context(mock.patch(f"{place}.datetime", Clock))
        self.clock.enter_context(mock.patch("time.time", now))
        self.clock.enter_context(mock.patch("time.time_ns", now_ns))

    @invariant()
    def both_know_what_the_events_say(self):
        if not self.published:
            return
        wanted = {
            person: [(item, moment) for item, moment, _ in own] for person, own in model([], self.sent).items() if own
        }
        people = {event.person for _, event in self.sent}
        for server in self.servers:
            assert server.histories(people) == wanted

    def append(self, server, batch):
        report = self.servers[server].log.append(enumerate(event.row(name) for name, event in batch))
        assert not report.refusals
        self.sent += batch

    def kept(self):
        return [one.name for one in list_generations(self.workspace)]


TestTwoServers = TwoServers.TestCase
TestTwoServers.settings = settings(
    deadline=None,
    derandomize=EXAMPLES <= 12,
    max_examples=EXAMPLES,
    stateful_step_count=15,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
