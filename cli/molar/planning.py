"""An experiment is planned by the shop's own log, before anything runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from molar.base import front_door
from molar.serving import Serving
from molar_retrieval.workspace.artefacts import Workspace

if TYPE_CHECKING:
    from molar_eval.experiments.planning import ExperimentPlan
    from molar_retrieval.workspace.artefacts import Workspace


@front_door
@dataclass(frozen=True)
class Planning:
    """What an experiment with the people of a shop would take."""

    shop: Serving

    def plan(
        self,
        *,
        who: Literal["buyers", "visitors"] | None = None,
        share: float = 1.0,
        treated: float = 0.5,
        power: float = 0.8,
        alpha: float = 0.05,
        weeks: Sequence[int] = (1, 2, 4, 8, 12),
        lifts: Sequence[float] = (0.05, 0.1, 0.2),
    ) -> "ExperimentPlan":
        """How many people and weeks it takes to see more conversion or revenue, by the shop's own log.

        Windows at the end of the log stand for the weeks to come, with a look after each week. Nothing is written.

        Args:
            who: Who is in the experiment: ``visitors`` by the event log, or ``buyers`` of the 26 weeks before it; None:
                visitors, where the event log knows them for four weeks, else buyers.
            share: Which share of them, above 0 and at most 1.
            treated: Which share of these is in the new arm, between 0 and 1.
            power: The chance that an effect is seen that is there.
            alpha: The chance of a false alarm, both sides together.
            weeks: Lengths of the experiment to look at.
            lifts: Effects to look at, as shares: 0.1 is +10 %.

        Raises:
            SettingsError: If one of them has no meaning.
            DataError: If there is no purchase, the log is too short for every window, or of one person.
            MissingArtefactError: If no catalogue was named and nothing made yet.
        """
        from molar_eval.experiments.covariates import past_purchases
        from molar_eval.experiments.planning import plan_experiment

        with self._workspace() as place, self.shop.progress() as progress:
            past = past_purchases(place, progress)
        return plan_experiment(
            past, who=who, share=share, treated=treated, power=power, alpha=alpha, weeks=weeks, lifts=lifts
        )

    @contextmanager
    def _workspace(self) -> "Iterator[Workspace]":
        """The workspace as it is; before its catalogue was prepared, one that forgets it."""
        from molar_retrieval.data.prepare import prepare_catalogue

        if Workspace(self.shop.workspace)["catalogue"].manifest is not None:
            with nullcontext(self.shop.opened()) if self.shop.catalogue is None else self.shop.bound() as place:
                yield place
            return
        with self.shop.bound(dry=True) as place:
            with self.shop.progress() as progress:
                prepare_catalogue(place.catalogue, place, progress)
            yield place
