"""Requests of people in experiments.

Nothing here knows of HTTP, so that a simulated shop answers by the same code as a server.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from molar_eval.experiments.arms import NOTHING, ListWanted, LiveExperiment, LiveExperiments, OpenArm
from molar_eval.experiments.assignment import Asker, BackgroundLists, ExperimentRecorder, PlacedPerson, Placing
from molar_retrieval.errors import MolarError
from molar_retrieval.experiments.definition import ARMS, CONTROL, EVERYBODY, INTERLEAVED, SHADOW, TREATMENT
from molar_retrieval.experiments.records import ShadowRow
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.ranking.results import Recommendations
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import ExperimentSettings

if TYPE_CHECKING:
    from molar_indexes.recommender import Recommender


_FIRST = 10  # places that are compared
_BURST = 10  # lists that may be compared at once, before the rate holds
_PRICES = ("price", "unit_price", "median_price", "mean_price")
_TRIGGERED = 100_000  # people of each experiment who are known to be triggered


class Shadowing:
    """Has a sample of requests ranked by both arms.

    Args:
        recorder: Where rows go.
        behind: Makes the lists.
        rate: How many a second, at most.
        limited: Whether that holds; else every request is.
    """

    def __init__(
        self, recorder: ExperimentRecorder, behind: BackgroundLists, rate: float, *, limited: bool = True
    ) -> None:
        self._recorder, self._behind, self._rate, self._limited = recorder, behind, rate, limited
        self._left, self._looked = float(_BURST), time.monotonic()
        self._lock = threading.Lock()

    def compare(self, live: LiveExperiment, wanted: ListWanted, given: Recommendations, at: int) -> None:
        """Have both arms rank a request that was answered at a moment (microseconds since 1970), if it is sampled."""
        if self._limited and not self._taken():
            return
        self._behind.do(lambda: self._recorder.shadow(live.name, _row(live, wanted, given.events, at)))

    def _taken(self) -> bool:
        """Whether one more is within the rate."""
        with self._lock:
            now = time.monotonic()
            self._left = min(float(_BURST), self._left + self._rate * (now - self._looked))
            self._looked = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


def _row(live: LiveExperiment, wanted: ListWanted, events: int, at: int) -> ShadowRow:
    """Both arms, one after the other; either may be first, as what the first one reads is warm for the other."""
    names = (CONTROL, TREATMENT) if at % 2 else (TREATMENT, CONTROL)
    made = {name: _made(live.arms[name], wanted, events) for name in names}
    told: dict[str, Any] = {}
    for name, (answer, milliseconds) in made.items():
        told[f"{name}_ms"], told[f"{name}_error"] = milliseconds, answer is None
        told[f"{name}_empty"] = answer is not None and not answer.items
        told[f"{name}_price"] = None if answer is None else _price(answer)
    firsts = [
        {item.item_id for item in answer.items[:_FIRST]} if answer is not None else set() for answer, _ in made.values()
    ]
    longest = max(map(len, firsts))
    overlap = len(firsts[0] & firsts[1]) / longest if longest else 1.0
    return ShadowRow(at, overlap, **told)


def _made(arm: OpenArm, wanted: ListWanted, events: int) -> tuple[Recommendations | None, float]:
    """An arm's list, None where it fails, and the milliseconds that it took."""
    began = time.perf_counter()
    try:
        answer: Recommendations | None = arm.answer(wanted, events)
    except Exception:  # it is counted
        answer = None
    return answer, 1000 * (time.perf_counter() - began)


def _price(answer: Recommendations) -> float | None:
    """The mean price of a list's items; None where none has one."""
    found = [next((item.payload[name] for name in _PRICES if name in item.payload), None) for item in answer.items]
    prices = [float(price) for price in found if isinstance(price, int | float) and not isinstance(price, bool)]
    return sum(prices) / len(prices) if prices else None


@dataclass(frozen=True)
class GivenList:
    """A list, and what is to be written down of it once it is on its way.

    Attributes:
        answer: The list.
        placed: Whom it is for, with their arm; None: somebody who is in no experiment.
        wanted: What it was made by.
        at: When, in microseconds since 1970.
        arm: Which arm it is told to be of; None: of none, as in a shadow stage.
        failed: Whether an arm could not answer, so that another one did.
        teams: Of an interleaved list, by item whose place it was.
    """

    answer: Recommendations
    placed: PlacedPerson | None
    wanted: ListWanted
    at: int
    arm: str | None = None
    failed: bool = False
    teams: Mapping[str, Any] | None = None

    @property
    def experiment(self) -> str | None:
        """The name of the experiment that the answer tells."""
        return None if self.placed is None or self.arm is None else self.placed.live.name


class Experimenting:
    """Answers within the experiments of a workspace; threads may share it, and processes the workspace.

    Args:
        workspace: The workspace.
        live: What answers without an experiment; it stays open longer than this.
        opened: Opens a generation and a file of rules; None: what is live.
        settings: The share of people held out, and of requests that are ranked by both arms in a shadow stage.
        background: Whether threads follow the record, write rows and compare lists; else all of it is done by
            :meth:`catch_up`, by :meth:`flush` and by :meth:`record`, as a simulation needs it.
        dropping: Called for each list that is not compared, because too many wait or there is no time.

    Attributes:
        running: The experiments that run.
        recorder: What is written down.
        behind: Lists that nobody waits for.
    """

    def __init__(
        self,
        workspace: Workspace,
        live: "Recommender",
        opened: "Callable[[str | None, str | None], Recommender]",
        settings: ExperimentSettings,
        *,
        background: bool = True,
        dropping: Callable[[], None] = lambda: None,
    ) -> None:
        self._live, self._background, self._dropping = live, background, dropping
        self._store, self._written = (
            ExperimentStore(workspace),
            ExperimentStore(workspace),
        )  # reading waits for no batch
        self.recorder = ExperimentRecorder(self._written)

        def of_arm(generation: str | None, rules: str | None) -> "Recommender":
            return opened(generation, None if rules is None else str(workspace.root / rules))

        self.running = LiveExperiments(self._store, live, of_arm)
        self.behind = BackgroundLists(background=background, dropping=dropping)
        self._placing = Placing(workspace, self._store, self.recorder, settings.holdout)
        self._shadowing = Shadowing(self.recorder, self.behind, settings.shadow, limited=background)
        self._triggered: dict[tuple[str, str], None] = {}
        self.running.catch_up()

    def start(self) -> None:
        """Follow the record, write and compare in the background, if it is there."""
        if self._background:
            self.running.follow()
            self.recorder.start()
            self.behind.start()

    def catch_up(self) -> None:
        """Return once what is on record runs here."""
        self.running.catch_up()

    def flush(self) -> None:
        """Return once all lists are compared and all rows are written that came so far."""
        self.behind.wait()
        self.recorder.flush()

    def close(self) -> None:
        """Write what waits, and close what is open for experiments alone."""
        self.behind.close()
        self.recorder.close()
        self.running.close()
        self._placing.close()
        self._store.close()
        self._written.close()

    def answer(self, asker: Asker, wanted: ListWanted, at: int) -> GivenList:
        """The list that somebody gets at a moment (microseconds since 1970).

        An arm that fails leaves no page empty: the control arm answers instead, or else what is live. A question that
        is wrong raises what it always does.
        """
        placed = self._placed(asker, at)
        if placed is None or placed.arm == SHADOW:
            return GivenList(wanted.listed(self._live, {}, None), placed, wanted, at)
        if placed.arm == INTERLEAVED:
            return self._interleaved(placed, wanted, at)
        answer, failed = self._by(placed, placed.arm, lambda arm: arm.answer(wanted), wanted)
        return GivenList(answer, placed, wanted, at, placed.arm, failed)

    def popular(self, asker: Asker, wanted: ListWanted, at: int) -> GivenList:
        """What comes where that list would be late: the popular one, as somebody's arm has it."""
        placed = self._placed(asker, at)
        if placed is None or placed.arm == SHADOW:
            return GivenList(wanted.popular(self._live, {}), None, wanted, at)
        shown = CONTROL if placed.arm == INTERLEAVED else placed.arm
        answer, failed = self._by(placed, shown, lambda arm: arm.popular(wanted), wanted)
        return GivenList(answer, placed, wanted, at, placed.arm, failed)

    def record(self, given: GivenList, milliseconds: float, *, late: bool = False, compare: bool = True) -> None:
        """Have written down that a list was given, and compare it with what the other arm would have shown.

        Args:
            given: The list.
            milliseconds: After how many.
            late: Whether it is the popular one because its own would have been late.
            compare: Whether there is time to make other lists; where there is none, the next one of this person tells.
        """
        placed = given.placed
        if placed is None:
            return
        if given.arm is None and not compare:
            self._dropping()
        elif given.arm is None:
            self._shadowing.compare(placed.live, given.wanted, given.answer, given.at)
        else:
            self._count(given, placed, milliseconds, late=late, compare=compare)

    def _count(self, given: GivenList, placed: PlacedPerson, milliseconds: float, *, late: bool, compare: bool) -> None:
        assert given.arm is not None
        name, empty = placed.live.name, not given.answer.items and given.answer.basis != NOTHING
        self.recorder.served(name, given.arm, given.at, milliseconds, error=given.failed, empty=empty, late=late)
        if given.teams is not None:
            self.recorder.interleaved(name, given.answer.request_id, placed.unit, given.at, given.teams)
        elif placed.arm in ARMS and placed.live.stage != EVERYBODY and (name, placed.unit) not in self._triggered:
            if compare:
                self.behind.do(lambda: self._compare(given, placed, late=late))
            else:
                self._dropping()

    def arm(self, name: str, arm: str) -> OpenArm | None:
        """What answers for an arm that lists were given of; None where the experiment is over, or it cannot answer."""
        live = self.running.named(name)
        found = None if live is None else live.arms.get(arm)
        return None if found is None or found.problem is not None else found

    def _placed(self, asker: Asker, at: int) -> PlacedPerson | None:
        """Where somebody is; nowhere while the record cannot be read."""
        try:
            return self._placing.place(self.running.present, asker, at)
        except MolarError as error:
            self.running.problem = error
            return None

    def _by(
        self, placed: PlacedPerson, shown: str, ask: Callable[[OpenArm], Recommendations], wanted: ListWanted
    ) -> tuple[Recommendations, bool]:
        """The list of an arm, and whether it failed, so that the control arm answers, or what is live."""
        arms = placed.live.arms
        try:
            return ask(arms[shown]), False
        except Exception as error:
            answer = self._instead(arms[CONTROL] if shown == TREATMENT else None, ask, wanted)
            return _noting(answer, placed.live, shown, error), True

    def _instead(
        self, control: OpenArm | None, ask: Callable[[OpenArm], Recommendations], wanted: ListWanted
    ) -> Recommendations:
        """The list of the control arm, or what is live: if that fails as well, the question is wrong."""
        if control is not None:
            with suppress(Exception):
                return ask(control)
        return wanted.listed(self._live, {}, None)

    def _interleaved(self, placed: PlacedPerson, wanted: ListWanted, at: int) -> GivenList:
        """Both arms' lists made into one; where the treatment fails, that of the control arm."""
        from molar_retrieval.experiments.interleaving import coin, interleave

        control, failed = self._by(placed, CONTROL, lambda arm: arm.answer(wanted), wanted)
        answer = control
        try:
            treatment = placed.live.arms[TREATMENT].answer(wanted, control.events)
        except Exception as error:
            answer, failed = _noting(control, placed.live, TREATMENT, error), True
        if failed:
            return GivenList(answer, placed, wanted, at, INTERLEAVED, failed)
        lists = {one.item_id: one for one in (*treatment.items, *control.items)}
        first, second = ([one.item_id for one in answer.items] for answer in (control, treatment))
        ruled = {item_id for item_id, one in lists.items() if one.rule is not None}
        merged = interleave(first, second, max(control.k, 1), coin(control.request_id), ruled)
        items = [replace(lists[item_id], rank=rank, propensity=None) for rank, item_id in enumerate(merged.items, 1)]
        timings = {name: took + treatment.timings_ms.get(name, 0.0) for name, took in control.timings_ms.items()}
        notes = list(dict.fromkeys([*control.notes, *treatment.notes]))
        short = control.shortfall if len(items) < control.k else None
        answer = replace(control, items=items, notes=notes, timings_ms=timings, shortfall=short)
        return GivenList(answer, placed, wanted, at, INTERLEAVED, teams=merged.credits)

    def _compare(self, given: GivenList, placed: PlacedPerson, *, late: bool) -> None:
        """Put on record that somebody is shown what the other arm would not show.

        A list that was late is compared as if it had not been, so that it is the same of both arms who counts.
        """
        known = placed.live.name, placed.unit
        if known in self._triggered or given.failed:
            return
        arms, events = placed.live.arms, given.answer.events
        try:
            own = arms[placed.arm].answer(given.wanted, events) if late else given.answer
            other = arms[CONTROL if placed.arm == TREATMENT else TREATMENT].answer(given.wanted, events)
        except Exception:
            return  # both arms show the same then; it is told, and counted, of those to whom it answers
        if [item.item_id for item in own.items] != [item.item_id for item in other.items]:
            self._triggered[known] = None
            if len(self._triggered) > _TRIGGERED:
                self._triggered.pop(next(iter(self._triggered)), None)
            self.recorder.trigger(*known, given.at)


def _noting(answer: Recommendations, live: LiveExperiment, arm: str, error: Exception) -> Recommendations:
    """An answer with a note that an arm could not give it."""
    words = error.message if isinstance(error, MolarError) else f"{type(error).__name__}: {error}"
    return replace(answer, notes=[*answer.notes, f"the {arm} arm of experiment {live.name} does not answer: {words}"])


def clock() -> int:
    """Microseconds since 1970, now."""
    return time.time_ns() // 1000
