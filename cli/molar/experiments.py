"""Experiments with a shop's people: planned before anything runs, begun, looked at, ended, written out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from molar.base import front_door
from molar.planning import Planning
from molar_retrieval.data.availability import moment
from molar_retrieval.experiments.definition import Experiment, Segment
from molar_retrieval.workspace.activity_log import current_user

if TYPE_CHECKING:
    from molar.introducing.exporting import Exported
    from molar.introducing.moving import Moved
    from molar.introducing.outside import Assigned
    from molar.introducing.proposed import RulesSource, Shows
    from molar.introducing.standing import ExperimentStatus
    from molar_eval.experiments.results import ExperimentResults


@front_door
@dataclass(frozen=True)
class Experiments(Planning):
    """What can be seen of a change by comparing people who have it with people who do not."""

    def start(
        self,
        name: str,
        *,
        generation: str | None = None,
        preset: str | None = None,
        rules: "RulesSource | None" = None,
        options: Mapping[str, Any] | None = None,
        shows: "Shows" = "lists",
        control_generation: str | None = None,
        control_preset: str | None = None,
        control_rules: "RulesSource | None" = None,
        control_options: Mapping[str, Any] | None = None,
        control_shows: "Shows" = "lists",
        people: str | None = None,
        items: str | None = None,
        placements: Sequence[str] = (),
        primary: Literal["conversion", "revenue", "clicks"] = "conversion",
        stage: Literal["shadow", "interleaving", "canary", "ab"] | None = None,
        unit: Literal["person", "time"] = "person",
        assigned: Literal["here", "elsewhere"] = "here",
        layer: str = Experiment.layer,
        slice: tuple[float, float] = Experiment.slice,
        canary: float = Experiment.canary,
        treated: float = Experiment.treated,
        weeks: int = Experiment.weeks,
        alpha: float = Experiment.alpha,
        power: float = Experiment.power,
        lift: float = Experiment.lift,
        harm: Mapping[str, float] | None = None,
        block_hours: int = Experiment.block_hours,
        margin: float | None = None,
        anyway: bool = False,
        by: str | None = None,
        now: datetime | None = None,
    ) -> "ExperimentStatus":
        """Begin an experiment; a server that runs answers by it from its next question on.

        Where one of the arms names a generation, the other one gets the name of what is live now, so that an update in
        the middle changes neither. Rules are kept as they are now. Where the event log has impressions, both arms are
        asked for lists of people who were shown one, and a treatment that would do harm is refused.

        Args:
            name: Its name, which no other one ever had.
            generation: The generation that the treatment asks, as `molar align --stage` or `molar update --stage` leave
                it; None: what is live.
            preset: Instead of its name, the preset with which it was trained; the last one of these.
            rules: A file of rules for the treatment, or what it would hold; None: those of the shop.
            options: Options of the treatment's queries, see :data:`molar_retrieval.experiments.definition.OPTIONS`;
                they win over what a page asks for.
            shows: What the treatment shows: ``lists`` of one's own, the ``popular`` one, or ``nothing``.
            control_generation: As ``generation``, of the control arm.
            control_preset: As ``preset``, of the control arm.
            control_rules: As ``rules``, of the control arm.
            control_options: As ``options``, of the control arm.
            control_shows: As ``shows``, of the control arm.
            people: Only for people who fulfil this condition on columns of the table of users, as ``region = Kansai``;
                the index must know them, see ``[index] segments``.
            items: Only for people whose history has an item that fulfils this condition when they are first seen.
            placements: Only there on the site; empty: everywhere.
            primary: The figure that decides, per visitor.
            stage: The first stage; None: ``shadow``, or the first one that such an experiment has.
            unit: What has an arm: each ``person``, or blocks of ``time`` (a switchback).
            assigned: Who says which arm somebody has: molar, ``here``; or a service of the shop, ``elsewhere``.
            layer: Experiments of one layer have different people; those of others are drawn independently.
            slice: Its part of the layer, from where to where within 0 to 1.
            canary: The share of its people who are treated in the stage ``canary``; as many others are compared.
            treated: The share of its people who are treated in the stage ``ab``.
            weeks: How long that lasts at most, with a look after each week.
            alpha: The chance of a false alarm, both sides together, over all looks.
            power: The chance to see the effect that it is planned for.
            lift: That effect, as a share: 0.1 is +10 %.
            harm: By how much a guardrail may be worse, as shares by its name; others as docs/experiments.md says.
            block_hours: How long a block of time is.
            margin: The share of revenue that stays; None: as ``[costs] margin`` says.
            anyway: Begin it though what was shown so far says that it does harm; that is written down.
            by: Who begins it, as it is written down; None: the user of this process.
            now: The present moment; None: that of the clock.

        Raises:
            SettingsError: If a number or word has no meaning, both arms are the same, or rules are wrong.
            RequestError: If the name is taken, another experiment has its people, a condition is not understood, or the
                treatment does harm by what was shown so far.
            MissingArtefactError: If there is no such generation, or nothing is live.
            StaleArtefactError: If a generation is damaged.
            DataError: If the clock was set back, or another process changes experiments.
        """
        from molar.introducing.proposed import WantedArm, arms_of
        from molar.introducing.starting import start

        workspace = self.shop.opened()
        control, treatment = arms_of(
            workspace,
            WantedArm(control_shows, control_generation, control_preset, control_rules, control_options or {}),
            WantedArm(shows, generation, preset, rules, options or {}),
        )
        experiment = Experiment(
            name,
            control,
            treatment,
            segment=Segment(people, items, tuple(placements)),
            primary=primary,
            unit=unit,
            assigned=assigned,
            layer=layer,
            slice=(slice[0], slice[1]),
            salt=name,
            canary=canary,
            treated=treated,
            weeks=weeks,
            alpha=alpha,
            power=power,
            lift=lift,
            harm=harm or {},
            block_hours=block_hours,
            margin=margin,
        )
        beforehand = start(workspace, experiment, stage, moment(now), by or current_user(), anyway=anyway)
        return replace(self.status(name)[0], beforehand=beforehand)

    def status(
        self, name: str | None = None, *, known: bool = False, now: datetime | None = None
    ) -> "list[ExperimentStatus]":
        """How experiments stand: in which stage, since when, who is in them; with ``known``, what is known by now.

        A weekly look that is due is written down by whoever asks what is known; nothing else is.

        Args:
            name: Of this one alone; None: of all that ever began, the last one first.
            known: Whether to reckon what is known, which reads the event log.
            now: The present moment; None: that of the clock.

        Raises:
            RequestError: If there is no such experiment.
            MissingArtefactError: If there is no workspace.
        """
        from molar.introducing.standing import statuses

        found = statuses(workspace := self.shop.opened(), name)
        if not known:
            return found
        from molar.introducing.looking import known_of

        settings, at = self.shop.settings, moment(now)
        return [replace(one, results=known_of(workspace, settings, one.experiment.name, at)) for one in found]

    def check(self, name: str, *, now: datetime | None = None) -> "ExperimentResults":
        """Look at an experiment once: what is known, and what is to become of its stage.

        What protects people is carried out at once, unless ``[experiments] automatic`` says otherwise: it goes back, or
        ends, with what was live before. Nothing goes on by itself. `molar serve` looks every half a minute.

        Args:
            name: Its name.
            now: The present moment; None: that of the clock.

        Returns:
            What was known before anything was carried out.

        Raises:
            RequestError: If there is no such experiment.
            DataError: If its data cannot be read, or another process changes experiments.
        """
        from molar.introducing.looking import look

        workspace, at = self.shop.opened(), moment(now)
        return look(workspace, self.shop.settings, name, at, activate=self.shop.rollback)

    def check_all(self, *, now: datetime | None = None) -> "list[ExperimentResults]":
        """Look at all that run, see :meth:`check`, the one that began last first.

        Args:
            now: The present moment; None: that of the clock.

        Raises:
            DataError: As :meth:`check` does.
        """
        from molar_retrieval.experiments.store import ExperimentStore

        with ExperimentStore(self.shop.opened()) as store:
            names = [one.experiment.name for one in store.running()]
        return [self.check(name, now=now) for name in names]

    def advance(
        self,
        name: str,
        to: Literal["interleaving", "canary", "ab", "everybody"] | None = None,
        *,
        anyway: bool = False,
        by: str | None = None,
        now: datetime | None = None,
    ) -> "Moved":
        """Bring an experiment to its next stage; with ``everybody`` the treatment's generation goes live.

        The holdout of ``[experiments] holdout`` keeps the control arm then.

        Args:
            name: Its name.
            to: The stage, if it is not to be the next one.
            anyway: Do it though what is known does not say so; that is written down.
            by: Who says so, as it is written down; None: the user of this process.
            now: The present moment; None: that of the clock.

        Raises:
            RequestError: If there is no such experiment or stage, it is over, or what is known does not say so.
            MissingArtefactError: If the treatment's generation is gone.
            DataError: If the clock was set back, or another process changes experiments.
        """
        from molar.introducing.looking import known_of
        from molar.introducing.moving import advance

        workspace, settings, at = self.shop.opened(), self.shop.settings, moment(now)
        return advance(
            workspace,
            name,
            to,
            at,
            by or current_user(),
            decide=lambda: known_of(workspace, settings, name, at).decision,
            anyway=anyway,
            activate=self.shop.rollback,
        )

    def stop(
        self,
        name: str,
        why: str = "",
        *,
        keep: Literal["control", "treatment"] = "control",
        by: str | None = None,
        now: datetime | None = None,
    ) -> "Moved":
        """End an experiment: from then on everybody has what is live.

        Where the treatment is kept, its generation goes live; its rules and options are for people to keep, and told.
        Where control is kept of an experiment that had reached everybody, its generation goes live again.

        Args:
            name: Its name.
            why: Why, as it is written down.
            keep: The arm that stays.
            by: Who ends it, as it is written down; None: the user of this process.
            now: The present moment; None: that of the clock.

        Raises:
            RequestError: If there is no such experiment, or it is over.
            MissingArtefactError: If the generation of the arm is gone.
            DataError: If the clock was set back, or another process changes experiments.
        """
        from molar.introducing.moving import stop

        workspace, at = self.shop.opened(), moment(now)
        return stop(workspace, name, why, at, by or current_user(), keep=keep, activate=self.shop.rollback)

    def assign(self, name: str, path: str | Path, *, now: datetime | None = None) -> "Assigned":
        """Take who is in which arm from a file, where a service of the shop assigns people.

        A row has ``user_id`` or ``session_id``, ``arm`` (control or treatment) and ``timestamp``; other usual names are
        understood as those of events are. The arm that somebody has stays; may be called again.

        Args:
            name: The experiment, begun with ``assigned="elsewhere"``.
            path: A CSV, JSONL or Parquet file.
            now: The present moment; None: that of the clock.

        Raises:
            RequestError: If there is no such experiment, or molar assigns its people.
            DataError: If the file cannot be read at all.
        """
        from molar.introducing.outside import assign

        return assign(self.shop.opened(), name, Path(path), moment(now))

    def export(
        self, name: str, folder: str | Path, *, format: Literal["csv", "parquet", "growthbook"] = "csv"
    ) -> "Exported":
        """Write who was assigned to which arm, and who met a difference, for other programs.

        Args:
            name: The experiment.
            folder: Where ``assignments`` and ``exposures`` go; it is made.
            format: ``csv``, ``parquet``, or ``growthbook``: the exposures alone, under the names that it asks for.

        Raises:
            RequestError: If there is no such experiment or format.
            DataError: If the folder is a file.
        """
        from molar.introducing.exporting import export

        return export(self.shop.opened(), name, Path(folder), format)

    def report(
        self,
        name: str,
        path: str | Path,
        *,
        language: Literal["en", "de", "ja"] = "en",
        now: datetime | None = None,
    ) -> Path:
        """Write the page for those who decide: what is tried, what it brings with its interval, money, doubts.

        Args:
            name: The experiment.
            path: The file, HTML; what is there is replaced.
            language: Of the page.
            now: The present moment; None: that of the clock.

        Returns:
            The file.

        Raises:
            RequestError: If there is no such experiment or language.
            DataError: If its data cannot be read, or the path is a folder.
        """
        from molar.introducing.reporting import write_page

        (one,) = self.status(name, known=True, now=now)
        return write_page(one, Path(path), language)
