"""Models of the user's own in the ensemble: each is a range of the dense vectors, as a tower is.

They are named by the entry points of installed packages, in settings and in artefacts: whoever opens an alignment finds
the model by its name, and its arrays beside those of the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.sparse import csr_array

from molar_retrieval.data.interactions import Interactions
from molar_retrieval.errors import ModelError, SettingsError
from molar_retrieval.models.model_digest import model_digest
from molar_retrieval.models.protocol import (
    FitData,
    Histories,
    IndexableModel,
    Model,
    Validation,
    guarded,
    load_model,
    read_only,
)
from molar_retrieval.models.validation import ValidationCases
from molar_retrieval.workspace.settings import COUNT_MODELS, TOWERS
from molar_retrieval.workspace.tensors import Array, Matrix, Rows, under

_VECTORS = ("item_vectors", "user_vectors", "to_arrays", "from_arrays")
_PARTS = {
    *(*TOWERS, *COUNT_MODELS, "ease_future", "total_popularity", "als", "aligned"),
    *("cold_start", "reranker", "rules", "next_item"),
}
"""Names of the score's own components, and of others in the tables of an alignment."""
_TENSORS = "own."


@dataclass(frozen=True, eq=False)
class OwnBlock:
    """A fitted model, and its vectors of all items, shape (n_items, dim)."""

    model: IndexableModel
    items: Matrix

    @classmethod
    def fit(cls, model: IndexableModel, data: FitData) -> Self:
        """Fit the model, or fit it again."""
        return cls._of(guarded(model.name, "fit", model.fit, data), model.name, data.interactions.n_items)

    @classmethod
    def _of(cls, model: IndexableModel, name: str, n_items: int) -> Self:
        if unable := _without_vectors(model):
            raise ModelError(f"the model {name!r}: fit returned something without {unable}", "return self")
        found = guarded(name, "item_vectors", model.item_vectors)
        return cls(model, _checked(name, "item_vectors", found, n_items, None))

    @property
    def name(self) -> str:
        """As the score's part is called."""
        return self.model.name

    def users(self, log: Interactions) -> Matrix:
        """Vectors of users after their histories, shape (n_users, dim)."""
        found = guarded(self.name, "user_vectors", self.model.user_vectors, Histories.of(log))
        return _checked(self.name, "user_vectors", found, log.n_users, self.items.shape[1])

    def user(self, items: Rows, times: Rows) -> Matrix:
        """The vector of one history, shape (dim,)."""
        offsets = np.array([0, len(items)], np.int64)
        history = Histories(offsets, items.astype(np.int32), times, None, None, len(self.items))
        found = guarded(self.name, "user_vectors", self.model.user_vectors, history)
        vector: Matrix = _checked(self.name, "user_vectors", found, 1, self.items.shape[1])[0]
        return vector


def installed(names: Sequence[str], least: int = 1) -> list[IndexableModel]:
    """Models that may enter an ensemble whose pairs of items rest on ``least`` people; SettingsError says why not."""
    if names and least > 1:
        raise SettingsError(
            f"models of your own cannot promise that nothing rests on fewer than {least} people",
            "leave [align] own_models empty, or set [privacy] min_users = 1",
        )
    models: list[IndexableModel] = []
    for name in dict.fromkeys(names):
        if name in _PARTS:
            raise SettingsError(f"{name!r} is a part of the score already", "give the model of your own another name")
        model = load_model(name)
        if unable := _without_vectors(model):
            raise SettingsError(
                f"the model {name!r} has no {unable}: an index finds items by vectors alone, so it can be evaluated,"
                " but not enter the ensemble",
                "give it item_vectors and user_vectors whose products are its scores, to_arrays and from_arrays",
            )
        models.append(model)  # type: ignore[arg-type]
    return models


def installed_names(models: Sequence[str | Model]) -> list[str]:
    """Names of models, of which objects must equal what is installed: other processes open them by name."""
    names = []
    for model in models:
        if not isinstance(model, str) and model_digest(model) != model_digest(load_model(model.name)):
            raise SettingsError(
                f"the model {model.name!r} is not what its entry point brings, and a server opens it by that name",
                "install the model as it is, or give it by its name",
            )
        names.append(model if isinstance(model, str) else model.name)
    return names


def digests(names: Sequence[str]) -> dict[str, str]:
    """The digest of each installed model, by name."""
    return {name: model_digest(load_model(name)) for name in names}


def fit_data(log: Interactions, cases: ValidationCases | None, features: Matrix, seed: int) -> FitData:
    """What models are fitted on: a log, content of all items, and validation cases, None: none."""
    asked = log.of_users(np.zeros(0, np.int64)) if cases is None else cases.histories()
    targets = np.zeros(0, np.int64) if cases is None else cases.targets
    rows = (np.ones(len(targets), np.float32), targets, np.arange(len(targets) + 1))
    return FitData(
        interactions=Histories.of(log),
        validation=Validation(Histories.of(asked), csr_array(rows, shape=(len(targets), log.n_items))),
        content=read_only(features),
        item_ids=log.items.array.to_pylist(),
        seed=seed,
    )


def to_tensors(blocks: Sequence[OwnBlock]) -> dict[str, Array]:
    """The arrays of all models, by number and their own names."""
    found: dict[str, Array] = {}
    for number, one in enumerate(blocks):
        for name, array in guarded(one.name, "to_arrays", one.model.to_arrays).items():
            found[f"{_TENSORS}{number}.{name}"] = np.asarray(array)
    return found


def of_tensors(names: Sequence[str], tensors: Mapping[str, Array], n_items: int) -> tuple[OwnBlock, ...]:
    """The models of these names from their arrays; a SettingsError names one that is not installed here."""
    return tuple(_opened(name, under(tensors, f"{_TENSORS}{n}."), n_items) for n, name in enumerate(names))


def _opened(name: str, arrays: dict[str, Array], n_items: int) -> OwnBlock:
    (model,) = installed([name])
    return OwnBlock._of(guarded(name, "from_arrays", type(model).from_arrays, arrays), name, n_items)


def _without_vectors(model: Any) -> str:
    return " and ".join(name for name in _VECTORS if not callable(getattr(model, name, None)))


def _checked(name: str, method: str, vectors: Any, rows: int, dim: int | None) -> Matrix:
    """Vectors as float32; a ModelError says what is wrong with them."""
    found = np.asarray(vectors)
    right = found.ndim == 2 and len(found) == rows and found.shape[1] == (found.shape[1] if dim is None else dim)
    if not right or found.dtype.kind not in "fiu" or not np.isfinite(found).all() or not found.shape[1]:
        width = "dim" if dim is None else dim
        raise ModelError(
            f"the model {name!r}: {method} returned an array of shape {found.shape} and type {found.dtype}, not finite"
            f" numbers of shape ({rows}, {width})",
            "return one row each; zeros where there is nothing to say",
        )
    return np.ascontiguousarray(found, np.float32)
