"""Molar itself as a model under test: the same steps as the commands, in a workspace of the split's own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from molar_eval.models.base import Kind, Scores, Task
from molar_eval.models.variants import Variant, content_workspace, link
from molar_eval.modules import of_modules
from molar_retrieval import fingerprint, rng
from molar_retrieval.alignment.align import align
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.config import MolarSettings
from molar_retrieval.interactions import Holdout, InteractionLog, write_log
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import Workspace

_FITTING = ("molar_retrieval.alignment.align", "molar_retrieval.interactions.write")


@dataclass(frozen=True)
class Molar:
    """Content, factors, post-alignment; or that with something switched off.

    Attributes:
        base: The whole catalogue's workspace with its content vectors, which are made without any interaction.
        variants: Folder where content vectors with something taken away are kept.
        options: Settings of embedding, factors and alignment.
        name: As it stands in tables.
        kind: ``ours``, or ``ablation``.
        variant: What is taken from the content vectors.
        towers: Which towers' scores count. They share no weights, so leaving one out after training is the same as
            never having trained it, but for the epoch, which both chose.
    """

    base: Workspace
    variants: Path
    options: MolarSettings
    name: str = "molar"
    kind: Kind = "ours"
    variant: Variant = "full"
    towers: tuple[bool, bool] = (True, True)
    stochastic: bool = field(default=True, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """All that shapes the result."""
        sections = self.options.model_dump(mode="json", include={"embed", "split", "cf", "align"})
        return {**sections, "content": self.variant, "towers": list(self.towers)}

    def fit(self, task: Task, seed: int, progress: Progress = SILENT) -> "MolarScorer":
        """Run `molar cf` and `molar align` on the training interactions; see :class:`molar_eval.models.base.Model`."""
        content = content_workspace(self.base, self.variant, self.variants, self.options.embed, progress)
        options = self.options.model_copy(
            update={
                "align": self.options.align.model_copy(update={"seed": seed}),
                "cf": self.options.cf.model_copy(update={"seed": seed}),
            }
        )
        trained_from = {k: v for k, v in self.settings.items() if k != "towers"}
        name = fingerprint.of_json(
            [trained_from, seed, content["content"].require()[1].fingerprint, of_modules(*_FITTING)]
        )[:16]
        workspace = Workspace.for_catalogue(task.folder / f"molar-{name}", self.base.catalogue)
        for kind in ("catalogue", "content"):
            link(content, workspace, kind)
        inputs = {"catalogue": content["catalogue"].require()[1].fingerprint}
        write_log(workspace, _holdout(task, options.split.validation_users), inputs)
        report = align(workspace, options, progress=progress)
        model = AlignedModel.open(report.folder)
        weights = tuple(w if on else 0.0 for w, on in zip(model.weights, self.towers, strict=True))
        if not any(weights):  # validation gave the only tower left no weight; its scale is free
            weights = tuple(float(on) for on in self.towers)
        facts = {
            "weights": {"collaborative": weights[0], "content": weights[1]},
            "epochs": report.facts["best_epoch"],
            "validation": report.scores,
            "fit_seconds": report.facts["seconds"],
        }
        return MolarScorer(model, (weights[0], weights[1]), workspace, facts)


@dataclass(frozen=True)
class MolarScorer:
    """A trained alignment that scores histories as the recommender does: user vector times item vectors.

    Attributes:
        model: With the network.
        weights: Of the collaborative and the content tower.
        workspace: Of the split.
        facts: What training chose.
    """

    model: AlignedModel
    weights: tuple[float, float]
    workspace: Workspace
    facts: Mapping[str, Any]

    @cached_property
    def aligned(self) -> AlignedModel:
        """The model with these weights."""
        return replace(self.model, weights=self.weights)

    @cached_property
    def items(self) -> Scores:
        """Item vectors, shape (n_items, d)."""
        return self.model.items()

    def vectors(self, inputs: InteractionLog) -> Scores:
        """User vectors after each history, shape (n_histories, d)."""
        return self.aligned.users(inputs, np.arange(inputs.n_users))

    def scores(self, inputs: InteractionLog) -> Scores:
        """See :class:`molar_eval.models.base.Scorer`."""
        result: Scores = self.vectors(inputs) @ self.items.T
        return result


def _holdout(task: Task, most: int) -> Holdout:
    """The training interactions with the task's validation cases, as `molar align` takes them."""
    cases = task.validation
    users, targets = cases.user[cases.case_of_target], cases.targets
    if len(users) > most:
        chosen = np.sort(rng.generator(0, "validation cases").choice(len(users), most, replace=False))
        users, targets = users[chosen], targets[chosen]
    return Holdout(task.training, users.astype(np.int32), targets)
