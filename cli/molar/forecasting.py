"""What `molar align` would take: steps of the towers, timed, and all the rest, tried.

What a step takes does not depend on what the towers know already. What is counted, chosen and published takes a small
part of a training: up to a million interactions it is done as it would be, in a workspace that is gone afterwards. Of a
longer log it is done for a quarter, a half and all of a million, those of people drawn at random, and goes on as it
grew: pairs of items grow more slowly than a log. With differential privacy statistics are drawn, too, and are gone with
the workspace: nobody sees them, and the ledger does not count them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from molar.aligning import PrivateOutcome, align_privately, prepare_log, refuse_to_break_a_promise
from molar.bill import Bill
from molar_indexes.refresh import publish_generation
from molar_retrieval import rng
from molar_retrieval.data.prepare_interactions import write_log
from molar_retrieval.models.alignment import align as train
from molar_retrieval.models.alignment import training_data
from molar_retrieval.models.als import ALSFactors, held_out, open_log
from molar_retrieval.models.refresh import refresh
from molar_retrieval.models.towers.epoch_time import epoch_time
from molar_retrieval.models.towers.training import sized
from molar_retrieval.privacy.dp_release import is_released
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.reports.wording import duration, size
from molar_retrieval.workspace.artefacts import Workspace, scratch_workspace
from molar_retrieval.workspace.files import generation_size
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import Took, timed

if TYPE_CHECKING:
    import numpy.typing as npt

    from molar_retrieval.data.interactions import Interactions
    from molar_retrieval.workspace.settings import MolarSettings

_WHOLE = 1_000_000
"""Interactions that are taken as they are."""
_PARTS = (1 / 4, 1 / 2, 1)
_SLOWEST, _LINEAR = 0.3, 1.0  # powers of the log's length with which work may grow


@dataclass(frozen=True)
class AlignForecast:
    """What :meth:`molar.Shop.align` would take.

    Attributes:
        bill: By the clock, of the processors, in energy and money.
        interactions: What it would learn from.
        reading: Seconds by the clock for what has changed in the log.
        counting: Seconds by the clock for all but the towers.
        epoch: Seconds by the clock of one pass of the towers; None: no tower is trained.
        epochs: How many there are at most.
        disk_bytes: What alignment and generation take.
        private: What it would take of the year's budget of privacy; None: it is trained without noise.
    """

    bill: Bill
    interactions: int
    reading: float
    counting: float
    epoch: float | None
    epochs: int
    disk_bytes: int
    private: PrivateOutcome | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**vars(self), "bill": self.bill.to_dict(), "private": self.private and self.private.to_dict()}

    def lines(self) -> list[str]:
        """The forecast in a few lines for people."""
        told = f"about {self.bill.words}; {size(self.disk_bytes)} on disk"
        what = "counting, choosing" if self.private is None else "statistics with noise"
        parts = f"{what} and publishing {duration(self.counting)}"
        if self.epoch is not None:
            parts += f", at most {self.epochs} epochs of {duration(self.epoch)}, fewer where validation gains no more"
        return [f"{self.interactions:,} interactions: {told}", parts, *self._of_the_budget()]

    def _of_the_budget(self) -> list[str]:
        if self.private is None:
            return []
        ledger = self.private.ledger
        would = f"365 days would have taken ε = {ledger.spent:.2f} of {ledger.yearly:g}"
        return [would if self.private.released else "statistics of the same log are released already: no cost"]


def forecast(workspace: Workspace, settings: "MolarSettings", progress: Progress = SILENT) -> AlignForecast:
    """Predict what aligning takes on this machine, as it is now; ``workspace`` is one to be thrown away.

    Raises:
        MissingArtefactError: If content vectors are missing.
        DataError: If the log leaves nothing to train on, or the year's budget does not bear a release.
        SettingsError: If the live alignment has differential privacy, and this one would be without.
    """
    refuse_to_break_a_promise(workspace, settings)
    noise = settings.privacy.with_noise
    reading = timed(lambda: prepare_log(workspace, settings, progress, choose=not noise, fixed=noise))
    log, private = open_log(workspace), None
    if noise:
        counting, private = _with_noise(workspace, settings, log, progress)
        epoch, epochs = Took(), 0
    else:
        still = settings.model_copy(update={"align": settings.align.without_towers()})
        counting = _tried(partial(_without_towers, workspace, still), log, progress)
        epoch, epochs = _towers(workspace, settings)
    took = reading + counting + epoch * epochs
    return AlignForecast(
        bill=Bill.of(took, settings.costs),
        interactions=len(log),
        reading=round(reading.seconds, 2),
        counting=round(counting.seconds, 2),
        epoch=round(epoch.seconds, 2) if epochs else None,
        epochs=epochs,
        disk_bytes=generation_size(log.n_items, log.n_users, len(log)),
        private=private,
    )


def _tried(trial: "Callable[[Interactions], None]", log: "Interactions", progress: Progress) -> Took:
    """What the whole log takes, by a trial of it or of parts of it."""
    if len(log) <= _WHOLE:
        return timed(partial(trial, log))
    order, whole = rng.generator(0, "forecast").permutation(log.n_users), _WHOLE / len(log)
    sizes, found = [], []
    progress.start("trying it with a part of the people", len(_PARTS))
    for part in _PARTS:
        some = log.of_users(np.sort(order[: max(1, round(log.n_users * whole * part))]))
        found.append(timed(partial(trial, some)))
        sizes.append(len(some))
        progress.advance(1)
    progress.finish()
    further = len(log) / sizes[-1]
    return Took(
        seconds=onwards([one.seconds for one in found], further),
        processor=onwards([one.processor for one in found], further),
    )


def onwards(found: Sequence[float], further: float) -> float:
    """What something takes at ``further`` times a size, given what it takes at a quarter, a half and all of that size.

    It is ``a + b * size ** power``; the power is read off the three, between 0.3 and 1.
    """
    first, second = found[1] - found[0], found[2] - found[1]
    if second <= 0:
        return found[2]
    power = _LINEAR if first <= 0 else min(_LINEAR, max(_SLOWEST, math.log2(second / first)))
    return float(found[2] + second * (further**power - 1) / (1 - 0.5**power))


def _with_noise(
    workspace: Workspace, settings: "MolarSettings", log: "Interactions", progress: Progress
) -> tuple[Took, PrivateOutcome]:
    """A release and what is made of it, or what is made of the release that the log has already; no server hears."""
    here = settings.model_copy(update={"index": settings.index.model_copy(update={"url": None})})
    found: list[PrivateOutcome | None] = []

    def trial(some: "Interactions") -> None:
        with scratch_workspace(workspace.root, workspace.catalogue) as place:
            if some is not log:
                _take(place, some)
            found.append(align_privately(place, here, SILENT).private)

    again = is_released(workspace, settings.privacy)  # of a part of the log there is no release
    took = timed(partial(trial, log)) if again else _tried(trial, log, progress)
    assert found[-1] is not None
    return took, found[-1]


def _take(place: Workspace, log: "Interactions") -> None:
    """Have a workspace learn from another log."""
    made = place["interactions"].require()[1].inputs
    write_log(place, log, {kind: name for kind, name in made.items() if kind != "catalogue"})


def _without_towers(workspace: Workspace, settings: "MolarSettings", log: "Interactions") -> None:
    with scratch_workspace(workspace.root, workspace.catalogue) as place:
        _take(place, log)
        with pin(place, "catalogue", "content", "interactions", work="molar align") as read:
            train(read, settings, restart=True)
            refresh(read, SILENT)
            publish_generation(read, settings.index, SILENT, exploration_settings=settings.exploration).close()


def _towers(workspace: Workspace, settings: "MolarSettings") -> tuple[Took, int]:
    """What an epoch takes, its validation included, and how many there are at most; 0 where no tower is trained."""
    if not settings.align.towers:
        return Took(), 0
    log = held_out(workspace, settings.split).training
    options = sized(settings.align, log)
    shape = settings.als.factors
    factors = ALSFactors(np.zeros((log.n_users, shape), np.float32), _start(log.n_items, shape))
    data, _ = training_data(workspace, options, settings.split, factors)
    return epoch_time(data, options), options.epochs


def _start(items: int, factors: int) -> "npt.NDArray[np.float32]":
    """Factors of items that stand for those that ALS would find."""
    return rng.generator(0, "forecast").normal(size=(items, factors)).astype(np.float32)
