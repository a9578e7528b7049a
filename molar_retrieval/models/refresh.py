"""A new ensemble from the live one without training: what has changed in catalogue and log, and nothing else.

Towers, weights, slots and the reranker stay what training made of them. Items are found again by their ids; what an
encoder saw of them goes through the map that was fitted once; item-item models are counted again over the present log
with their settings: validation has chosen these and the weights without the interactions that it held out, and a model
that ships may count all of them. An item that training did not know has a vector predicted from its content, as a
cold-start item has, and keeps it when the first users have taken it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.models.validation import ValidationCases, gains, sample
from molar_retrieval.workspace.settings import UpdateSettings
from molar_retrieval.workspace.tensors import Rows

if TYPE_CHECKING:
    from molar_retrieval.models.ensemble import Ensemble
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.numpy import load_file, save_file

from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.text_features import features_digest, hashed_features, numeric_attributes
from molar_retrieval.embedding import ContentVectors
from molar_retrieval.embedding.content_vectors import VECTORS
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.models import ease, snapshot
from molar_retrieval.models.als import open_log
from molar_retrieval.models.base import EASE, ITEM_KNN, REGRESSION, Setting, refit
from molar_retrieval.models.content_knn import DIM, compressed, principal
from molar_retrieval.models.ensemble import Ensemble
from molar_retrieval.models.item_item import ItemItemWeights, countable, known_items, many_pairs
from molar_retrieval.models.k_anonymity import KAnonymity
from molar_retrieval.models.repeat_consumption import over_items
from molar_retrieval.models.store import described, open_model, save
from molar_retrieval.models.towers.inference import FILE
from molar_retrieval.models.towers.network import TwoTowerNetwork
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.ranking import reranker
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import PRIVATE, Manifest, Workspace
from molar_retrieval.workspace.pinned import pin
from molar_retrieval.workspace.resources import library_versions
from molar_retrieval.workspace.tensors import Mask, Matrix

_MOST_CASES = 400
_LEAST_CASES = 300
"""Cases from which a share can be told: of the first days, and of the last ones."""
_PLACES = 10
_RESAMPLES = 2000
_SMALL = 50
"""Cases below which a record takes in the next one."""
_GAIN = np.append(gains(np.arange(1, _PLACES + 1)), 0.0)


@dataclass(frozen=True)
class PredictedHits:
    """What an alignment foretold of the interactions up to a moment, ``until`` in seconds since 1970.

    ``hits`` are cases by the place of what was taken: first to tenth, and behind.
    """

    until: int
    hits: tuple[int, ...]

    @property
    def cases(self) -> int:
        """How many there were."""
        return sum(self.hits)

    def with_later(self, other: "PredictedHits") -> "PredictedHits":
        """Both as one."""
        return PredictedHits(other.until, tuple(a + b for a, b in zip(self.hits, other.hits, strict=True)))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a manifest."""
        return {"until": self.until, "hits": list(self.hits)}

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """Of what a manifest says."""
        return cls(int(record["until"]), tuple(map(int, record["hits"])))


@dataclass(frozen=True)
class Level:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Drift:
    """NDCG@10 of what came first after training (``then``) and last (``now``), and by what share it fell."""

    then: Level
    now: Level
    fall: Level

    def exceeds(self, limit: float) -> bool:
        """Whether the fall is larger than a share, and more than chance: its interval lies above zero."""
        return self.fall.mean > limit and self.fall.low > 0

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class Reason:
    """Why towers are to be trained on.

    Attributes:
        drift: How far what is foretold has fallen since training, where that is more than may be; else None.
        unread: Share of the interactions that are newer than all that the towers have read.
    """

    drift: float | None
    unread: float

    def in_words(self) -> str:
        """What weighs more."""
        if self.drift is not None:
            return f"new interactions are foretold {self.drift:.0%} worse than after training"
        return f"{self.unread:.1%} of the interactions are new to the towers"


def reason(facts: Mapping[str, Any], settings: UpdateSettings) -> Reason | None:
    """Why the towers of an alignment with these facts, a derived one, are due to be trained on; None: they are not."""
    derived = facts["derived"]
    found, share = (
        drift([PredictedHits.of(record) for record in derived.get("foretold", [])]),
        derived.get("unread", 0.0),
    )
    if found is not None and settings.drift is not None and found.exceeds(settings.drift):
        return Reason(found.fall.mean, share)
    enough = settings.unread is not None and share >= settings.unread and facts["towers"]
    return Reason(None, share) if enough else None


def new_share(facts: Mapping[str, Any], log: Interactions) -> float:
    """Share of a log that is newer than all that the towers of an alignment with these facts could read so far."""
    until = facts.get("warm", {}).get("until", facts.get("learned_until"))
    return 0.0 if until is None or not len(log) else float((log.timestamp > until).mean())


def predicted_hits(model: "Ensemble", before: Interactions, now: Interactions, seed: int = 0) -> PredictedHits | None:
    """Ask a model of the log ``before`` about what has come since, as the log ``now`` has it.

    A case is the first thing that a person took, by the strongest kind of event, after all of the former log, and had
    not had; person and item were known. Of more than 400 some are drawn. The logs may differ in users and items,
    which are told by their ids. None where there is no case.
    """
    from molar_retrieval.models.cold_start import model_ranks  # brings torch

    if not len(before):
        return None
    came = now.timestamp > before.timestamp.max()
    if not came.any():
        return None
    users, items = _places(now, before)
    rows = np.flatnonzero(came if now.strength is None else came & (now.strength == 1))
    rows = rows[(users[now.user[rows]] >= 0) & (items[now.item[rows]] >= 0)]
    user, item = users[now.user[rows]], items[now.item[rows]]
    had = before.user.astype(np.int64) * before.n_items + before.item
    new = ~np.isin(user * before.n_items + item, had) & (np.diff(before.offsets)[user] > 0)
    user, item, time = user[new], item[new], now.timestamp[rows[new]]
    asked, first = np.unique(user, return_index=True)
    if not len(asked):
        return None
    everything = np.ones(before.n_items, bool)
    cases = ValidationCases(before, asked, item[first], everything, time[first])
    cases = sample(cases, _MOST_CASES, rng.generator(seed, "foretold"))
    ranks = np.minimum(model_ranks(model.seeing(before), cases), _PLACES + 1)
    hits = np.bincount(ranks, minlength=_PLACES + 2)[1:]
    return PredictedHits(int(now.timestamp.max()), tuple(hits.tolist()))


def drift(records: Sequence[PredictedHits], seed: int = 0) -> Drift | None:
    """Compare the last cases with the first ones after training; None before there are 300 of either kind, apart."""
    first = reference(records)
    last = reference(records[::-1])
    if len(first) + len(last) > len(records) or min(_cases(first), _cases(last)) < _LEAST_CASES:
        return None
    random = rng.generator(seed, "drift")
    then, now = _resampled(first, random), _resampled(last, random)
    if not then[0]:
        return None
    falls = 1 - now / np.where(then > 0, then, np.nan)
    return Drift(_level(then), _level(now), _level(falls))


def remembered(records: Sequence[PredictedHits], new: PredictedHits | None = None) -> list[PredictedHits]:
    """What is worth keeping of the records and a ``new`` one: the first and the last 300 cases, in few records."""
    kept = list(records)
    if new is not None and kept and kept[-1].cases < _SMALL:
        kept[-1] = kept[-1].with_later(new)
    elif new is not None:
        kept.append(new)
    first = reference(kept)
    rest = kept[len(first) :]
    return [*first, *reference(rest[::-1])[::-1]]


def reference(records: Sequence[PredictedHits]) -> Sequence[PredictedHits]:
    """The first records that have 300 cases together: what later ones are measured by; all where there are fewer."""
    counts = np.cumsum([record.cases for record in records])
    return records[: int(np.searchsorted(counts, _LEAST_CASES)) + 1]


def _cases(records: Sequence[PredictedHits]) -> int:
    return sum(record.cases for record in records)


def _resampled(records: Sequence[PredictedHits], random: np.random.Generator) -> npt.NDArray[np.float64]:
    """The mean gain of the cases, and of each of 2,000 draws of as many of them."""
    hits = np.sum([record.hits for record in records], axis=0)
    count = int(hits.sum())
    drawn = np.vstack([hits, random.multinomial(count, hits / count, _RESAMPLES)])
    means: npt.NDArray[np.float64] = drawn @ _GAIN / count
    return means


def _level(values: npt.NDArray[np.float64]) -> Level:
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    return Level(float(values[0]), float(low), float(high))


def _places(now: Interactions, before: Interactions) -> tuple[Rows, Rows]:
    """Where each user and item of one log is in another one, -1 where it is not."""
    users = before.users.rows(now.users.array).astype(np.int64)
    return users, before.items.rows(now.items.array).astype(np.int64)


_LITTLE = 1000
"""Of so many interactions one is little."""


@dataclass(frozen=True, eq=False)
class Recounted:
    """Item-item models over a log.

    ``left`` names those that stay as they were, with the reason, because the log is too large for their model by now.
    """

    item_item: tuple[ItemItemWeights, ...]
    left: Mapping[str, str]


def counts_nearly_all(log: Interactions, training: int) -> bool:
    """Whether models of so many ``training`` interactions of a log are not worth counting again.

    They are not where pairs are counted in blocks and less than a thousandth of the interactions is missing.
    """
    return (len(log) - training) * _LITTLE < len(log) and many_pairs(log)


def same_histories(before: Interactions, after: Interactions, rows: Rows) -> bool:
    """Whether the histories of two logs are equal; ``rows`` says where each item is now, -1 where it is gone."""
    if not (before.users.array.equals(after.users.array) and np.array_equal(before.offsets, after.offsets)):
        return False
    strengths = [np.float32(1) if log.strength is None else log.strength for log in (before, after)]
    same = np.array_equal(rows[before.item], after.item) and np.array_equal(before.timestamp, after.timestamp)
    return same and bool(np.all(strengths[0] == strengths[1]))


def recount(
    log: Interactions,
    chosen: Mapping[str, Setting],
    partners: int,
    former: Sequence[ItemItemWeights],
    rows: Rows,
    least: int = 1,
    folder: Path | None = None,
    *,
    unchanged: bool = False,
) -> Recounted:
    """Count the models with the settings ``chosen`` by name, keeping so many ``partners`` of each item.

    ``rows`` says where each item of the ``former`` models is now, -1 where it is gone. Where the histories are
    ``unchanged`` since these were counted, only item neighbours are counted again, as they weigh a history by its share
    of all items. No pair rests on fewer people than ``least``. Large weights are mapped from files in ``folder``,
    None: in memory.
    """
    left = {one.name: note for one in former if (note := _too_many(chosen[one.name], log))}
    same_items = np.array_equal(rows, np.arange(log.n_items))
    kept = {
        one.name
        for one in former
        if one.name in left or (unchanged and (same_items or chosen[one.name]["model"] != ITEM_KNN))
    }
    few = None if len(kept) == len(former) else KAnonymity.of(countable(log), least)
    item_item = tuple(
        one.moved(rows, log.n_items)
        if one.name in kept
        else refit(one.name, log, chosen[one.name], partners, few, folder)
        for one in former
    )
    return Recounted(item_item, left)


def _too_many(setting: Setting, log: Interactions) -> str | None:
    known = int(known_items(log).sum())
    if setting["model"] not in (EASE, REGRESSION) or known <= ease.MAX_ITEMS:
        return None
    return f"{known:,} items have interactions, and {setting['model']} takes {ease.MAX_ITEMS:,}"


_COLLABORATIVE = "collaborative"


@dataclass(frozen=True, eq=False)
class Present:
    """A model of the present data, how its experts were counted, and what came since, its log, as facts."""

    model: Ensemble
    counted: Recounted
    came: dict[str, Any]

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the arrays into a version's folder; returns what belongs into its manifest's facts."""
        save(self.model, folder)
        known = self.model.known
        counts = {"users": self.came["users"], "items": len(known), "cold_items": int((~known).sum())}
        return described(self.model) | counts


def bring(folder: Path, manifest: Manifest, read: Workspace, before: Interactions, partial: Path) -> Present:
    """Bring the alignment in ``folder``, which has seen the log ``before``, to the artefacts that are ``read``.

    How well it foretold what has come is asked first, and told with what came. Large weights are mapped from files
    without a name in the folder ``partial``.
    """
    model, log = open_model(folder), open_log(read)
    records = [PredictedHits.of(record) for record in manifest.facts.get("derived", {}).get("foretold", [])]
    foretold = remembered(records, predicted_hits(model, before, log))
    catalogue = Catalogue.open(read["catalogue"].require()[0])
    moved_to = catalogue.ids.rows(before.items.array).astype(np.int64)
    rows = before.items.rows(catalogue.ids.array).astype(np.int64)
    chosen = {name: one["chosen"] for name, one in manifest.facts["experts"].items()}
    partners = manifest.settings["align"]["partners"]
    counts_all = "derived" in manifest.facts or counts_nearly_all(log, manifest.facts["training_interactions"])
    unchanged = counts_all and same_histories(before, log, moved_to)
    counted = recount(log, chosen, partners, model.item_item, moved_to, model.least, partial, unchanged=unchanged)
    content = ContentVectors.open(read["content"].require()[0])
    features = model.conditioner(content.vectors, hashed_features(catalogue), folder=read.root)
    moved = _with_items(model, features, rows, None if "derived" in manifest.facts else model.known)
    standards = {} if model.reranker is None else model.reranker.numbers
    numbers = reranker.matrix(numeric_attributes(catalogue), standards, len(features))
    habits = None if model.habits is None else over_items(model.habits, rows, log, model.least)
    moved = replace(moved, known=known_items(log), item_item=counted.item_item, numbers=numbers, habits=habits)
    came = {
        "users": log.n_users,
        "interactions": len(log),
        "last_interaction": int(log.timestamp.max()) if len(log) else None,
        "new_items": int((rows < 0).sum()),
        "gone_items": int((moved_to < 0).sum()),
        "recounted": not unchanged,
        "foretold": [record.to_dict() for record in foretold],
        "unread": new_share(manifest.facts, log),
    }
    return Present(moved, counted, came)


def _with_items(model: Ensemble, features: Matrix, rows: Rows, trained: Mask | None) -> Ensemble:
    """A model over other items: each was at ``rows`` before, -1 where it is new, shape (n,), and has ``features``.

    Rows of the collaborative table that no training has shaped are guesses: of new items, and where the model is as it
    was trained, of all that it did not know, which ``trained`` says, shape (number of items before,).
    """
    axes = model.taste_axes
    if axes is None and features.shape[1] > DIM:
        axes = principal(model.features)
    taste = model.content_knn
    return replace(
        model,
        network=_network(model, features, rows, trained),
        features=features,
        content_knn=None if taste is None else replace(taste, items=compressed(features, axes)),
        cf=None if model.cf is None else _carried(model.cf, rows),
        taste_axes=axes,
    )


def _network(model: Ensemble, features: Matrix, rows: Rows, trained: Mask | None) -> TwoTowerNetwork:
    state = dict(model.network.state_dict())
    name = f"items.{_COLLABORATIVE}.weight"
    if name in state:
        before = state[name].numpy()
        table = _carried(before, rows)
        fresh = (rows < 0) if trained is None else (rows < 0) | ~trained[rows]
        ordinary = before[model.known].mean(axis=0) if model.known.any() else np.float32(0)
        predictor = model.predictors.get(_COLLABORATIVE)
        table[fresh] = ordinary + (0 if predictor is None else predictor(features[fresh]))
        state[name] = torch.from_numpy(table)
    factors = state["project_factors.weight"].shape[1] if "project_factors.weight" in state else 0
    network = TwoTowerNetwork(model.network.shapes, len(rows), torch.from_numpy(features), factors)
    network.load_state_dict(state)
    return network.eval()


def _carried(matrix: Matrix, rows: Rows) -> Matrix:
    """Rows of a matrix, zeros for -1."""
    found: Matrix = np.where(rows[:, None] >= 0, matrix[rows], np.float32(0))
    return found


_VERSION = 1
"""Raised with every change of what comes of the same inputs."""
_WORK = "molar update"


@dataclass(frozen=True)
class RefreshReport:
    """What was derived.

    Attributes:
        folder: The ``alignment`` artefact.
        fingerprint: Its fingerprint.
        up_to_date: Whether the live one is of the present data already.
        facts: What its manifest says under ``derived``: of which trained alignment, how many updates since, what came.
        notes: What could not be brought up to date, and why.
    """

    folder: Path
    fingerprint: str
    up_to_date: bool
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return asdict(self) | {"folder": str(self.folder), "notes": list(self.notes)}


def refresh(workspace: Workspace, progress: Progress = SILENT) -> RefreshReport:
    """Bring the live ``alignment`` to the workspace's present catalogue, content vectors and log, and publish it.

    Nothing happens where these are what it was made from; what shapes it is as it was trained, whatever settings say.

    Raises:
        MissingArtefactError: If there is no alignment yet, or something it is made from is missing.
        StaleArtefactError: If it cannot be carried over, so that training is due, or something that is read was made
            anew meanwhile.
    """
    if PRIVATE in workspace["alignment"].require()[1].facts:
        return _of_statistics(workspace)
    with workspace.lock("alignment"), pin(workspace, "catalogue", "content", "interactions", work=_WORK) as read:
        former = _Base(*workspace["alignment"].require())
        inputs = _inputs(read)
        derived = former.manifest.facts.get("derived")
        if derived is not None and inputs == dict(former.manifest.inputs):
            snapshot.rename(read, former.folder)
            return RefreshReport(former.folder, former.manifest.fingerprint, True, dict(derived))
        began = time.perf_counter()
        reason = cannot_be_refreshed(read, former.manifest)
        before = None if reason else snapshot.kept_log(former.folder)
        if before is None:
            words = f"the alignment cannot be brought to the present data: {reason or 'an earlier molar made it'}"
            raise StaleArtefactError(words, "run `molar align`, which trains it anew")
        store, vectors = workspace["alignment"], fingerprint.of_file(read["content"].require()[0] / VECTORS)
        name = fingerprint.of_json(["derived", _VERSION, former.manifest.fingerprint, inputs])
        partial = store.partial(name[:16])
        _clear(partial)
        notes: tuple[str, ...] = ()
        if former.differs_in_numbers(read, inputs, vectors):
            facts, came = former.renumbered(read, partial)
        else:
            pass  # brings torch

            progress.start("counting what has changed", None)
            now = bring(former.folder, former.manifest, read, before, partial)
            facts, came = now.write(partial), now.came
            notes = tuple(f"{one}: {why}" for one, why in now.counted.left.items())
            progress.finish()
        snapshot.keep(read, partial)
        account = {**former.account, **came, "seconds": round(time.perf_counter() - began, 2)}
        facts = {**former.manifest.facts, **facts, "derived": account, "content_vectors": vectors}
        libraries = library_versions("torch", "numpy", "implicit")
        read.confirm()
        folder = store.publish(partial, Manifest("alignment", name, inputs, former.manifest.settings, facts, libraries))
    return RefreshReport(folder, name, False, account, notes)


def _clear(folder: Path) -> None:
    """Remove what a killed run has left."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _of_statistics(workspace: Workspace) -> RefreshReport:
    """What statistics with noise give over the present catalogue; the log counts again with their next release."""
    from molar_retrieval.models.private_alignment import align_on_statistics  # brings torch
    from molar_retrieval.models.store import trained_with

    settings = trained_with(workspace["alignment"].require()[1])
    folder, manifest, made = align_on_statistics(workspace, settings, _WORK)
    return RefreshReport(folder, manifest.fingerprint, not made, dict(manifest.facts["derived"]))


def cannot_be_refreshed(read: Workspace, alignment: Manifest) -> str | None:
    """Why an alignment cannot be carried over to the live content vectors; None where it can."""
    made_by, now = alignment.facts.get("encoder"), read["content"].require()[1].settings["encoder"]
    if made_by is None:
        return "an earlier version of molar made it"
    if made_by["fingerprint"] != now["fingerprint"]:
        return f"it was trained on vectors of {made_by['name']}, and those of the workspace are by {now['name']}"
    return None


def _inputs(read: Workspace) -> dict[str, str]:
    """Fingerprints of what a derived alignment is of, by kind."""
    folder, catalogue = read["catalogue"].require()
    attributes = features_digest(Catalogue.open(folder))
    others = {kind: read[kind].require()[1].fingerprint for kind in ("content", "interactions")}
    return {**others, "attributes": attributes, "catalogue": catalogue.fingerprint}


@dataclass(frozen=True)
class _Base:
    """The alignment from which another one is derived."""

    folder: Path
    manifest: Manifest

    @property
    def account(self) -> dict[str, Any]:
        """Which training it goes back to, and how many updates since then, with the next one."""
        derived = self.manifest.facts.get("derived")
        if derived is None:
            return {"trained": self.manifest.fingerprint, "trained_at": self.manifest.created, "updates": 1}
        return {name: derived[name] for name in ("trained", "trained_at")} | {"updates": derived["updates"] + 1}

    def differs_in_numbers(self, read: Workspace, inputs: Mapping[str, str], vectors: str) -> bool:
        """Whether nothing else of the present data can differ: the same items, words, photos, histories.

        ``vectors`` is the fingerprint of the present content vectors.
        """
        facts, same = self.manifest.facts, ("attributes", "interactions")
        if "derived" not in facts or facts.get("content_vectors") != vectors:
            return False
        items = Catalogue.open(read["catalogue"].require()[0]).ids
        known = snapshot.kept_items(self.folder).array.equals(items.array)
        return known and all(self.manifest.inputs[kind] == inputs[kind] for kind in same)

    def renumbered(self, read: Workspace, partial: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write the model with the present numbers; facts of the model, and of what came: nothing."""
        catalogue, tensors = Catalogue.open(read["catalogue"].require()[0]), load_file(self.folder / FILE)
        second = self.manifest.facts["reranker"]
        standards = {} if second is None else second["numbers"]
        numbers = reranker.matrix(numeric_attributes(catalogue), standards, len(catalogue))
        save_file(tensors | {"numbers": np.ascontiguousarray(numbers)}, partial / FILE)
        derived = self.manifest.facts["derived"]
        kept = ("users", "interactions", "last_interaction", "foretold", "unread")
        return {}, {name: derived[name] for name in kept if name in derived} | {
            "new_items": 0,
            "gone_items": 0,
            "recounted": False,
        }
