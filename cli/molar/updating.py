"""`molar update`: what has changed since the live generation was made is brought to the present, and no more."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from molar.base import ShopBase
from molar.bill import Bill
from molar.clustering import processes, runner_of
from molar.due import Due, due, with_kept_encoder
from molar.retaining import at_work
from molar_retrieval.reports.wording import plural
from molar_retrieval.workspace.activity_log import work_done
from molar_retrieval.workspace.artefacts import PRIVATE
from molar_retrieval.workspace.resources import Took

if TYPE_CHECKING:
    from molar_retrieval.models.drift import Reason
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.artefacts import Manifest, Workspace
    from molar_retrieval.workspace.jobs import Runner
    from molar_retrieval.workspace.settings import CostSettings, MolarSettings, UpdateSettings

KIND = "update"
_FORMER = 1_000
"""Lines of the log of work that are looked at, the newest first."""
_BUSY = "at work with `molar update` in"


@dataclass(frozen=True)
class UpdateStep:
    """One step of an update.

    Attributes:
        name: ``catalogue``, ``vectors``, ``interactions``, ``alignment``, ``towers``, ``generation`` or ``server``.
        outcome: What has changed, or was done, in words; empty: nothing.
        seconds: What it took.
    """

    name: str
    outcome: str
    seconds: float


@dataclass(frozen=True)
class UpdateReport:
    """What :meth:`molar.Shop.update` did, or with ``dry_run`` would do.

    Attributes:
        steps: In their order; those that found nothing to do have no outcome.
        later: What is left for later, and the command.
        generation: Name of the live generation.
        up_to_date: Whether nothing had changed, so that the live generation stays.
        seconds: Of the whole.
        dry_run: Whether nothing was written.
        staged: Name of the generation that is of the present and waits to be made live; None: the live one is, or will
            be.
        facts: Numbers by step, for programs.
        expected: With ``dry_run``, what the last update here took that found changes of the same kinds; None: there was
            none, or nothing has changed.
    """

    steps: tuple[UpdateStep, ...]
    later: tuple[Due, ...]
    generation: str
    up_to_date: bool
    seconds: float
    dry_run: bool = False
    staged: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    expected: Bill | None = None

    @property
    def summary(self) -> str:
        """One line."""
        done = [step.outcome for step in self.steps if step.outcome and step.name in _TOLD]
        words = "; ".join(done) or "nothing new in catalogue and log"
        state = "up to date" if self.up_to_date else "to be updated" if self.dry_run else "updated"
        state = f"{state}, beside what is live," if self.staged else state
        return f"{state}: {words} ({self.seconds:.1f} s)"

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {"summary": self.summary, **asdict(self)}


_TOLD = ("catalogue", "vectors", "interactions")
_COSTS = {*_TOLD, "towers"}  # steps by which two updates are alike


def update(
    workspace: "Workspace",
    settings: "MolarSettings",
    progress: "Progress",
    *,
    named: str = "",
    dry_run: bool = False,
    reading: "Runner | None" = None,
) -> UpdateReport:
    """Bring the live generation to the present catalogue and log, without training.

    ``named`` tells in words that settings name another encoder than made the vectors, which stays until it is asked
    for. ``reading`` does what towers make of people. Of a ``dry_run``,
    ``workspace`` is one to try it in, see :func:`molar_retrieval.workspace.artefacts.scratch_workspace`.
    """
    workspace["alignment"].require()
    with workspace.lock(KIND, _BUSY):
        with workspace.lock("alignment"):
            pass  # training is at work otherwise, and would lose what it reads
        work = _Update(workspace, settings, progress, named, dry_run, reading)
        if dry_run:
            return work.run()
        with at_work(workspace, KIND, settings, progress) as told:
            report = work.run()
            told.outcome = report.summary
            told.steps = {step.name: step.seconds for step in report.steps if step.outcome}
            return report


class _Update:
    def __init__(
        self,
        place: "Workspace",
        settings: "MolarSettings",
        progress: "Progress",
        named: str,
        dry_run: bool,
        reading: "Runner | None",
    ) -> None:
        self.place, self.settings, self.progress = place, settings, progress
        self.named, self.dry_run, self.reading = named, dry_run, reading
        self.steps: list[UpdateStep] = []
        self.facts: dict[str, Any] = {}
        self.later: list[Due] = []

    def run(self) -> UpdateReport:
        """All steps in their order; each one does nothing where nothing has changed."""
        from molar_indexes.refresh import is_current

        began = time.perf_counter()
        before = self.place["generations"].manifest
        self._step("catalogue", self._catalogue)
        self._step("vectors", self._vectors)
        self._step("interactions", self._interactions)
        present = self._derived_of_the_present()
        staged = self._staged() if present else None
        fresh = staged is not None or (
            present and is_current(self.place, self.settings.index, self.settings.exploration)
        )
        if not fresh and not self.dry_run:
            self._step("alignment", self._alignment)
            if (why := self._reason()) is not None:
                self._step("towers", lambda: self._towers(why))
            self._step("generation", self._generation)
            staged = self._staged()
        if self.settings.index.url is not None and self.settings.index.activate and not self.dry_run:
            self._step("server", self._server)
        alignment = self.place["alignment"].require()[1]
        self.later += due(alignment, self.settings, self.named)
        live = self.place["generations"].manifest
        unmoved = live is not None and before is not None and live.fingerprint == before.fingerprint
        same = fresh or (unmoved and staged is None)
        seconds = round(time.perf_counter() - began, 2)
        name = "" if live is None else live.fingerprint
        return UpdateReport(
            tuple(self.steps),
            tuple(dict.fromkeys(self.later)),
            name,
            fresh if self.dry_run else same,
            seconds,
            self.dry_run,
            staged,
            self.facts,
        )

    def _step(self, name: str, do: "Callable[[], str]") -> None:
        began = time.perf_counter()
        outcome = do()
        self.steps.append(UpdateStep(name, outcome, round(time.perf_counter() - began, 2)))

    def _catalogue(self) -> str:
        from molar_retrieval.data.prepare import condition_of, is_current, prepare_catalogue

        folder = self.place.catalogue
        if is_current(folder, self.place):
            return ""
        former = self.place["catalogue"].require()[1]
        now = prepare_catalogue(folder, self.place, self.progress, where=condition_of(self.place))
        if now.fingerprint == former.fingerprint:
            return ""
        items, before = now.facts["items"], former.facts["items"]
        self.facts["catalogue"] = {"items": items, "before": before}
        return f"{items:,} items ({items - before:+,})" if items != before else "values, photos or settings of items"

    def _vectors(self) -> str:
        from molar_retrieval.embedding import dry_run, embed

        made, catalogue = self.place["content"].require()[1], self.place["catalogue"].require()[1]
        if made.inputs.get("catalogue") == catalogue.fingerprint and not made.facts.get("failed"):
            return ""
        kept = with_kept_encoder(self.settings.embed, self.place)
        if self.dry_run:
            pending = dry_run(self.place, kept, progress=self.progress).to_encode
        else:
            report = embed(self.place, kept, progress=self.progress)
            pending = report.encoded
            for note in report.notes:
                self.progress.note(note)
        self.facts["vectors"] = {"encoded": pending}
        return f"{plural(pending, 'item')} encoded" if pending else ""

    def _interactions(self) -> str:
        from molar.aligning import prepare_log

        former = self.place["interactions"].require()[1]
        prepare_log(self.place, self.settings, self.progress)
        now = self.place["interactions"].require()[1]
        if now.fingerprint == former.fingerprint:
            return "" if now.facts.get("people") == former.facts.get("people") else "other names of people"
        counts = {name: now.facts[name] - former.facts[name] for name in ("interactions", "users")}
        self.facts["interactions"] = counts
        words = [f"{'+' * (count > 0)}{plural(count, name[:-1])}" for name, count in counts.items() if count]
        same = self._items(former) == self._items(now)  # else the rows of items alone may be others
        return ", ".join(words) or "other interactions" * same

    @staticmethod
    def _items(log: "Manifest") -> object:
        return (log.facts.get("sources") or {}).get("items")

    def _derived_of_the_present(self) -> bool:
        alignment = self.place["alignment"].require()[1]
        kinds = ("catalogue", "content") if PRIVATE in alignment.facts else ("catalogue", "content", "interactions")
        present = all(alignment.inputs.get(kind) == self.place[kind].require()[1].fingerprint for kind in kinds)
        return present and "derived" in alignment.facts

    def _alignment(self) -> str:
        from molar_retrieval.models.refresh import refresh

        report = refresh(self.place, self.progress)
        self.later += [Due(note, "molar align") for note in report.notes]
        if report.up_to_date:
            return ""
        if PRIVATE in self.place["alignment"].require()[1].facts:
            self.facts["alignment"] = dict(report.facts)
            return "statistics as they were released, over the present items"
        self.facts["alignment"] = dict(report.facts)
        counted = "item-item models counted again" if report.facts["recounted"] else "item-item models as they were"
        return f"{counted}, without training"

    def _reason(self) -> "Reason | None":
        """Why the towers are due to be trained on; the step is left out where they are not."""
        from molar_retrieval.models.drift import PredictedHits, drift, reason

        facts = self.place["alignment"].require()[1].facts
        found = drift([PredictedHits.of(record) for record in facts["derived"].get("predicted_hits", [])])
        if found is not None:
            self.facts["drift"] = found.to_dict()
        return reason(facts, self.settings.update)

    def _towers(self, why: "Reason") -> str:
        from molar_retrieval.models.incremental import warm_start

        words = why.in_words()
        if not self.place["alignment"].require()[1].facts["towers"]:
            self.later.append(Due(words, "molar align"))
            return words
        report = warm_start(self.place, why=why, threads=self.settings.align.threads, progress=self.progress)
        self.facts["towers"] = report.to_dict()
        again = "; weights chosen again" * report.weighted
        if not report.better:
            return f"{words}; training the towers on was no better, they stay{again}"
        return f"{words}; trained on, validation NDCG@10 {report.before:.4f} → {report.after:.4f}{again}"

    def _generation(self) -> str:
        from molar_indexes.refresh import publish_generation

        generation = publish_generation(
            self.place,
            self.settings.index,
            self.progress,
            exploration_settings=self.settings.exploration,
            runner=self.reading,
        )
        name = generation.name
        generation.close()
        return name

    def _staged(self) -> str | None:
        """The generation of the present that waits to be made live; None where the live one is that, or will be."""
        from molar_indexes.refresh import is_current, waiting

        about = self.place, self.settings.index, self.settings.exploration
        return None if self.settings.index.activate or is_current(*about) else waiting(*about)

    def _server(self) -> str:
        """Push what a killed run may have left as well: where it is there already, nothing is sent."""
        from molar_indexes.server.push import push

        report = push(self.place, self.settings.index, progress=self.progress)
        return f"{report.sent:,} points sent to {report.url}" if report.sent else ""


class Updating(ShopBase):
    """Keeps what is published in step with catalogue and log."""

    def update(
        self,
        *,
        dry_run: bool = False,
        stage: bool = False,
        index: str | None = None,
        trust_remote_code: bool = False,
        cluster: str | None = None,
    ) -> UpdateReport:
        """Bring the live generation to the present catalogue and log by the least that is right; nothing is trained.

        New and changed items are encoded, counting models count what histories have changed, users whose histories
        changed get new vectors, and a generation is published. Where nothing has changed nothing happens, so it may run
        as often as one likes, and be killed anywhere: the next one goes on.

        Args:
            dry_run: Only say what has changed and would be done.
            stage: Leave what is live as it is, so that :meth:`diff` says first what the new generation changes;
                :meth:`rollback` makes it live by its name. Nothing goes to a server. False: as the settings say.
            index: Address of a Qdrant server to push to; ``local``: none; None: as the settings say.
            trust_remote_code: Let the encoder run code that it brings.
            cluster: Who makes vectors of users where towers read them all anew; see :meth:`recommend`.

        Raises:
            MissingArtefactError: If nothing was aligned yet.
            StaleArtefactError: If the live alignment cannot be carried over, so that :meth:`align` is due.
            DataError: If another update, or training, is at work.
        """
        chosen = self._encoding(trust=trust_remote_code, index=index)
        chosen = self._staging(chosen) if stage else chosen
        named = self._encoder_named(chosen.embed, None)
        with self.bound(dry=dry_run) as place, self.progress() as progress:
            reading = runner_of(self, cluster, processes(chosen.align.threads))
            done = update(place, chosen, progress, named=named, dry_run=dry_run, reading=reading)
            if not dry_run or done.up_to_date:
                return done
            kinds = {step.name for step in done.steps if step.outcome} | _trained_on(place, chosen.update)
            return replace(done, expected=_as_before(self.opened(), kinds, chosen.costs))


def _trained_on(place: "Workspace", settings: "UpdateSettings") -> set[str]:
    """The step of the towers, where the log is known to make it due; whether drift does is found out by counting."""
    from molar_retrieval.models.als import open_log
    from molar_retrieval.models.drift import new_share

    facts = place["alignment"].require()[1].facts
    if PRIVATE in facts or settings.retrain_threshold is None or not facts["towers"]:
        return set()
    return {"towers"} if new_share(facts, open_log(place)) >= settings.retrain_threshold else set()


def _as_before(workspace: "Workspace", kinds: set[str], costs: "CostSettings") -> Bill | None:
    """What the last update took that published a generation for the sake of changes of these kinds, and no others."""
    for one in work_done(workspace, _FORMER):
        alike = one.what == KIND and "generation" in one.steps and _COSTS & set(one.steps) == kinds
        if alike and one.state == "done" and one.seconds is not None:
            return Bill.of(Took(one.seconds, one.processor or 0.0), costs)
    return None
