"""A model of the user's own: what it has to do, what it is fitted on, and how an installed one is found by its name."""

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from molar_retrieval.errors import ModelError, MolarError, SettingsError, shown, suggestion
from molar_retrieval.workspace.tensors import Array, Matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from molar_retrieval.data.interactions import Interactions

GROUP = "molar.models"
"""The entry points by which installed packages bring models."""
_NAME = re.compile(r"\w[\w ().+-]{0,63}")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Histories:
    """Interactions of users, oldest first; ``len`` is the number of users. The arrays are read-only.

    Attributes:
        offsets: Borders between users, shape (n_users + 1,): those of ``u`` are ``offsets[u]`` to ``offsets[u + 1]``.
        item: The row of each interaction's item, shape (n,).
        timestamp: Seconds since 1970 in UTC, 0 where the log has no times, shape (n,).
        weight: How much each interaction counts, shape (n,); None: all the same.
        asked_at: When each user's list is asked for, in seconds, shape (n_users,); None: after the last interaction.
        n_items: Number of items in the catalogue.
    """

    offsets: npt.NDArray[np.int64]
    item: npt.NDArray[np.int32]
    timestamp: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32] | None
    asked_at: npt.NDArray[np.int64] | None
    n_items: int

    @classmethod
    def of(cls, log: "Interactions") -> Self:
        """The histories of a log; what is less than the strongest kind of event, as a view, has less weight."""
        weight = log.weight
        if log.strength is not None:
            weight = log.strength if weight is None else weight * log.strength
        return cls(
            offsets=read_only(log.offsets),
            item=read_only(log.item),
            timestamp=read_only(log.timestamp),
            weight=read_only(weight),
            asked_at=read_only(log.asked_at),
            n_items=log.n_items,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def user(self) -> npt.NDArray[np.int64]:
        """The user of each interaction, shape (n,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def matrix(self) -> "csr_array":
        """Users × items, float32: the sum of the weights of a pair's interactions, 1 each without weights."""
        from scipy.sparse import csr_array

        values = np.ones(len(self.item), np.float32) if self.weight is None else self.weight
        matrix = csr_array((values, self.item, self.offsets), shape=(len(self), self.n_items), copy=True)
        matrix.sum_duplicates()
        return matrix


@dataclass(frozen=True, eq=False)
class Validation:
    """Cases to choose settings by: ``histories`` before a moment, and the ``targets`` that followed.

    The targets are a sparse matrix of histories × items, 1 where an item would have been right.
    """

    histories: Histories
    targets: "csr_array"


@dataclass(frozen=True, eq=False)
class FitData:
    """What a model is fitted on.

    Attributes:
        interactions: The training interactions; nothing of a test or of the validation cases is among them.
        validation: Cases to choose settings by; there may be none.
        content: Content vectors, one row per item, of length 1 or 0, shape (n_items, dim); None: there are none.
        item_ids: The catalogue's ids, in the order of the rows.
        seed: Where randomness begins.
    """

    interactions: Histories
    validation: Validation
    content: Matrix | None
    item_ids: Sequence[str]
    seed: int


class Model(Protocol):
    """A model that can be evaluated: anything with these three.

    ``name`` is how tables and options call it. A class attribute ``stochastic = False`` says that the seed is not used.
    """

    name: str

    def fit(self, data: FitData) -> Self:
        """Fit on the data and return the fitted model, as a rule ``self``; every split fits a copy of its own."""

    def score(self, histories: Histories) -> npt.NDArray[np.floating]:
        """Scores of all items for each history, shape (n_histories, n_items); -inf where there is no score."""


class IndexableModel(Model, Protocol):
    """A model whose scores are products of vectors, ``user_vectors(h) @ item_vectors().T``, as an index takes them."""

    def item_vectors(self) -> Matrix:
        """One row per item, shape (n_items, dim)."""

    def user_vectors(self, histories: Histories) -> Matrix:
        """One row per history, shape (n_histories, dim); queries call it, with one history each."""

    def to_arrays(self) -> dict[str, Array]:
        """All that :meth:`from_arrays` needs, and nothing that tells of a single user."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """The fitted model again; ``fit`` may be called once more, on newer data."""


def checked_model(model: Any) -> Model:
    """The model itself, if it has a usable name and both methods; else a SettingsError says what is missing."""
    missing = [what for what in ("fit", "score") if not callable(getattr(model, what, None))]
    if isinstance(model, type) or missing:
        what = "a class" if isinstance(model, type) else f"without {' and '.join(missing)}"
        raise SettingsError(
            f"{getattr(model, '__qualname__', type(model).__qualname__)} is {what}, not a model",
            "pass an object with a name, fit(data) and score(histories)",
        )
    name = getattr(model, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            f"the model {type(model).__qualname__} has the name {shown(name)}",
            "use up to 64 letters, digits, spaces and ( ) . + -, and begin with a letter or digit",
        )
    return model  # type: ignore[no-any-return]


def installed_models() -> list[str]:
    """Names of the models that installed packages bring; none of them is imported."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def load_model(name: str) -> Model:
    """An installed model by its name; its entry point is an object, or a class that needs no arguments.

    Raises:
        SettingsError: If no installed package brings it, several do, or it is no model of this name.
        ModelError: If it cannot be imported or made.
    """
    points = entry_points(group=GROUP, name=name)
    if len(points) != 1:
        known = ", ".join(installed_models()) or "none"
        what = f"{len(points)} installed packages bring" if points else "no installed package brings"
        raise SettingsError(f"{what} a model {name!r}", suggestion(name, installed_models(), f"installed are: {known}"))
    (point,) = points
    loaded = guarded(name, "the import", point.load)
    model = checked_model(guarded(name, "the constructor", loaded) if isinstance(loaded, type) else loaded)
    if model.name != name:
        raise SettingsError(
            f"the entry point {name!r} of {GROUP} brings a model that is called {model.name!r}", "name both the same"
        )
    return model


def guarded(name: str, what: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a model returns; a ModelError names the model and the line where it fails."""
    try:
        return function(*args, **kwargs)
    except MolarError:
        raise
    except Exception as error:
        below = traceback.extract_tb(error.__traceback__)[1:2]
        where = f" (line {below[0].lineno} of {Path(below[0].filename).name})" if below else ""
        raise ModelError(
            f"the model {name!r}: {what} failed with {type(error).__name__}: {error}{where}", "correct the model"
        ) from error


def checked_scores(name: str, scores: Any, n_histories: int, n_items: int) -> Matrix:
    """The scores as float32, in an array of their own; a ModelError names a model that returns anything else."""
    found, shape = np.asarray(scores), (n_histories, n_items)
    if found.shape != shape or found.dtype.kind not in "fiu":
        raise ModelError(
            f"the model {name!r} returned scores of shape {found.shape} and type {found.dtype}, not numbers of shape"
            f" {shape}: {n_histories} histories, {n_items} items",
            "return one row per history and one column per item",
        )
    table = np.array(found, np.float32)
    if np.isnan(table).any() or np.isposinf(table).any():
        raise ModelError(
            f"the model {name!r} returned scores that are NaN or infinite", "use -inf for what cannot be scored"
        )
    return table


def read_only(array: Any) -> Any:
    """A view that cannot be written through; None stays None."""
    if array is None:
        return None
    view = array.view()
    view.flags.writeable = False
    return view
