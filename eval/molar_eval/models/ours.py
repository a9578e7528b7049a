"""Molar itself as a model under test: the steps of `molar cf` and `molar align` in a workspace of the split's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from molar_eval.cases import Mask, Rows, Scores
from molar_eval.models.base import EvaluationTask, Kind
from molar_eval.models.content_variants import FineTuning, Variant, content_workspace, link
from molar_eval.modules import of_making
from molar_retrieval import rng
from molar_retrieval.data.interactions import Holdout, Interactions
from molar_retrieval.data.prepare_interactions import write_log
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.models.alignment import align
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.objectives import comes_back
from molar_retrieval.models.own_block import digests
from molar_retrieval.models.store import open_model
from molar_retrieval.models.towers.distributed import threads
from molar_retrieval.models.towers.inference import UserVectors
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking.objectives import NEXT_ITEM, Objective, served
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.config_files import ObjectiveName
from molar_retrieval.workspace.files import MANIFEST
from molar_retrieval.workspace.settings import MolarSettings

_FITTING = ("molar_retrieval.models.alignment", "molar_retrieval.data.prepare_interactions")


@dataclass(frozen=True)
class Molar:
    """Content, factors, post-alignment; or that with something switched off.

    The workspace of the whole catalogue, ``base``, has content vectors, which are made without any interaction.
    Training is the same with and without a second stage, the re-ranker, and for each ``objective`` that lists are asked
    for (None: the default of the settings).
    """

    base: Workspace
    variants: Path  # where content vectors with something taken away are kept
    options: MolarSettings
    name: str = "molar"
    kind: Kind = "ours"  # baseline: one part of it alone
    variant: Variant = "full"
    tuning: FineTuning | None = None  # fine-tunes the content vectors for each split; None: they stay as they are
    second_stage: bool = True
    objective: ObjectiveName | None = None
    stochastic: bool = field(default=True, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the result."""
        sections = self.options.model_dump(mode="json", include={"embed", "split", "als", "align", "privacy"})
        settings: dict[str, Any] = {**sections, "content": self.variant}
        if self.options.align.own_models:
            settings["own_models"] = digests(self.options.align.own_models)
        if self.tuning is not None:
            settings["finetune"] = self.tuning.settings.model_dump()
        if not self.second_stage:
            settings["second_stage"] = False
        if self.objective is not None:
            settings["objective"] = self.objective
        return settings

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> "MolarScorer":
        """See :class:`molar_eval.models.base.Model`; what was trained before is found in the data's folder."""
        if self.tuning is None:
            content = content_workspace(self.base, self.variant, self.variants, self.options.embed, progress)
        else:
            content = self.tuning.workspace(data.training, seed, progress)
        seeded = {part: getattr(self.options, part).model_copy(update={"seed": seed}) for part in ("align", "als")}
        options = self.options.model_copy(update=seeded)
        made_from = content["content"].require()[1].fingerprint
        shaping = replace(self, second_stage=True, objective=None).settings
        name = fingerprint.of_json([shaping, seed, made_from, of_making(*_FITTING)])
        workspace = Workspace.for_catalogue(data.folder / f"molar-{name[:16]}", self.base.catalogue)
        for kind in ("catalogue", "content"):
            link(content, workspace, kind)
        inputs = {"catalogue": content["catalogue"].require()[1].fingerprint}
        write_log(workspace, as_held_out(data, options.split.validation_users), inputs)
        report = align(workspace, options, progress=progress)
        model = opened_model(report.folder, data.training, self.second_stage)
        objective = self._objective(model, data)
        facts = {
            "weights": model.weights_for(objective),
            "slots": list(model.slots),
            "reranking": report.facts["reranking"],
            "repeat": report.facts["repeat"],
            "epochs": report.facts["best_epoch"],
            "validation": report.scores,
            "fit_seconds": report.facts["seconds"],
        }
        files = MolarFiles(report.folder.resolve(), self.second_stage, objective)
        return MolarScorer(model, workspace, facts, objective, files)

    def _objective(self, model: Ensemble, data: EvaluationTask) -> Objective:
        try:
            return served(model.objectives, Objective(self.objective or model.default_objective, data.seen))
        except RequestError as error:
            raise DataError("the log tells too little of what people take later", error.hint) from error


@dataclass
class MolarScorer:
    """A trained alignment that scores histories as the recommender does."""

    model: Ensemble
    workspace: Workspace
    facts: Mapping[str, Any]
    objective: Objective = NEXT_ITEM  # whose weights rank, but for users who come back
    files: "MolarFiles | None" = None
    _users: UserVectors | None = field(default=None, init=False, repr=False)

    def scores(self, inputs: Interactions) -> Scores:
        """See :class:`molar_eval.models.base.Scorer`."""
        self._users = self.model.users(inputs, np.arange(inputs.n_users))
        found = self.model.scores_of(self._users, inputs, self.objective)
        back, rows = self._coming_back(inputs)
        if len(rows):
            found[rows] = self.model.scores_of(self._users.of(rows), inputs.of_users(rows), back)
        return found

    def finish(self, scores: Scores, allowed: Mask, inputs: Interactions) -> Scores:
        """Lift cold items to their places, then ask the second stage, which knows scores of the default aim alone."""
        lifted = self.model.lifted(scores, allowed, self.objective)
        if self._users is None or self.model.reranker is None or self.objective != NEXT_ITEM:
            return lifted
        _, rows = self._coming_back(inputs)
        kept = lifted[rows]
        moved = self.model.reranked(lifted, allowed, self._users, inputs)
        moved[rows] = kept
        return moved

    def _coming_back(self, inputs: Interactions) -> tuple[Objective, Rows]:
        """The rows of the histories whose users come back, for whom other weights rank, and the aim of these."""
        back = replace(self.objective, session_start=self.objective.target == "next_item")
        own = back.name in self.model.objectives
        return back, np.flatnonzero(comes_back(inputs)) if own else np.zeros(0, np.int64)


@dataclass(frozen=True)
class MolarFiles:
    """An alignment in a folder, whether its second stage is asked, and the aim; see :class:`ScorerFiles`."""

    folder: Path
    second_stage: bool
    objective: Objective

    @property
    def fingerprint(self) -> str:
        """Of the artefact's manifest, which says when it was made."""
        return fingerprint.of_json(
            [fingerprint.of_file(self.folder / MANIFEST), self.second_stage, self.objective.name]
        )

    @contextmanager
    def opened(self, training: Interactions) -> Iterator[MolarScorer]:
        """See :class:`molar_eval.models.base.ScorerFiles`."""
        model = opened_model(self.folder, training, self.second_stage)
        with threads(1), threadpool_limits(1, "blas"):
            yield MolarScorer(model, Workspace(self.folder.parents[1]), {}, self.objective, self)


def opened_model(folder: Path, training: Interactions, second_stage: bool) -> Ensemble:
    """An alignment that has seen a log, with or without its second stage."""
    model = open_model(folder).seeing(training)
    return model if second_stage else replace(model, reranker=None)


def as_held_out(data: EvaluationTask, most: int) -> Holdout:
    """The training interactions with the validation cases, as `molar align` takes them.

    Where training ends at one moment for everybody, a case is asked with what its user did since, as the test is.
    """
    cases = data.validation
    users, targets, times = cases.user[cases.case_of_target], cases.targets, cases.times()[cases.case_of_target]
    known = cases.inputs().of_users(cases.case_of_target)
    held_out = Holdout(data.training, users.astype(np.int32), targets, times, known)
    if len(users) > most:
        chosen = rng.generator(0, "validation cases").choice(len(users), most, replace=False)
        held_out = held_out.select(np.sort(chosen))
    trained = data.training.of_users(held_out.users)
    same = np.array_equal(trained.offsets, held_out.histories.offsets)
    return replace(held_out, known=None) if same and np.array_equal(trained.item, held_out.histories.item) else held_out
