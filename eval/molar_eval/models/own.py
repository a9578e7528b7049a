"""A user's own model as one under test: given as an object, or installed as an entry point `molar.models`."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from molar_eval.cases import Cases, Mask, Scores
from molar_eval.models.base import EvaluationTask, Kind, sample
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import DataError, ModelError, SettingsError
from molar_retrieval.models import protocol
from molar_retrieval.models.model_digest import model_digest
from molar_retrieval.models.protocol import FitData, Histories, Validation, checked_scores, guarded, read_only
from molar_retrieval.progress import SILENT, Progress

OwnModels = Mapping[str, protocol.Model]
"""Models that a program gives, by name."""


class OwnModel:
    """A model of the user's own, compared as a baseline is; every fit is that of a copy."""

    kind: Kind = "baseline"

    def __init__(self, model: protocol.Model) -> None:
        self.name = model.name
        self.settings: Mapping[str, Any] = {"class": type(model).__qualname__, "digest": model_digest(model)}
        self.stochastic = bool(getattr(model, "stochastic", True))
        self._model = model

    def fit(self, data: EvaluationTask, seed: int, progress: Progress = SILENT) -> "OwnScorer":
        """See :class:`molar_eval.models.base.Model`; a ModelError names a model that fails."""
        if not len(data.training):
            raise DataError(f"{self.name}: there are no training interactions", "check the split, or give more data")
        model = guarded(self.name, "a copy", deepcopy, self._model)
        fitted = guarded(self.name, "fit", model.fit, fit_data(data, seed))
        if not callable(getattr(fitted, "score", None)):
            raise ModelError(
                f"the model {self.name!r}: fit returned {type(fitted).__name__}, not a fitted model", "return self"
            )
        return OwnScorer(self.name, fitted)


@dataclass(frozen=True, eq=False)
class OwnScorer:
    """A fitted model of the user's own; see :class:`molar_eval.models.base.Scorer`."""

    name: str
    model: protocol.Model
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: None = field(default=None, init=False)  # what was fitted lies in memory

    def scores(self, inputs: Interactions) -> Scores:
        """See :class:`molar_eval.models.base.Scorer`."""
        found = guarded(self.name, "score", self.model.score, Histories.of(inputs))
        return checked_scores(self.name, found, inputs.n_users, inputs.n_items)

    def finish(self, scores: Scores, allowed: Mask, inputs: Interactions) -> Scores:
        """Nothing more."""
        return scores


def fit_data(task: EvaluationTask, seed: int) -> FitData:
    """What a user's own model may see of a split."""
    return FitData(
        interactions=Histories.of(task.training),
        validation=_validation(sample(task.validation)),
        content=read_only(task.content),
        item_ids=task.training.items.array.to_pylist(),
        seed=seed,
    )


def checked_models(models: Iterable[str | protocol.Model]) -> tuple[list[str], dict[str, protocol.Model]]:
    """The names of all models that a call gives, in their order, and those that are objects, by name.

    A SettingsError says of an object why it is no model, or that two have one name.
    """
    given = [(m, m) if isinstance(m, str) else (protocol.checked_model(m).name, m) for m in models]
    names = [name for name, _ in given]
    own = {name: model for name, model in given if not isinstance(model, str)}
    if twice := [name for name in own if names.count(name) > 1]:
        raise SettingsError(f"two models are called {twice[0]!r}", "give each a name of its own")
    return names, own


def own_makers(own: OwnModels, built_in: Iterable[str]) -> dict[str, Callable[[], OwnModel]]:
    """Makes a model by its name: objects that were given, and installed ones, which are imported when they are made.

    A SettingsError names one that is called like a built-in model.
    """
    names = {*own, *protocol.installed_models()}
    if taken := sorted(names & {*built_in}):
        raise SettingsError(f"{taken[0]!r} is a built-in model", "give the model of your own another name")
    return {name: partial(_made, name, own) for name in sorted(names)}


def _made(name: str, own: OwnModels) -> OwnModel:
    return OwnModel(own[name] if name in own else protocol.load_model(name))


def _validation(cases: Cases) -> Validation:
    arrays = (np.ones(len(cases.targets), np.float32), cases.targets, cases.offsets)
    return Validation(Histories.of(cases.inputs()), csr_array(arrays, shape=(len(cases), cases.history.n_items)))
