"""Photos and words that do not belong together, judged by the catalogue itself.

A ridge regression learns to tell an item's text vector from its photo's vector; each item is judged by a map that was
fitted on others (five folds). How much better its own words fit than those of other items is its *fit*, in standard
deviations of how the others' words fit. No photo model has to know the language of the texts: what a shop's own photos
and words have in common is learned from them, which for small encoders is much more than they bring along.

The limit is calibrated, not fixed. How pairs of strangers fit is known, since they can be made: any photo with any
words. How matching pairs fit is read off the catalogue: below the median as a normal distribution of the width that the
lower half has. What lies at the bottom beyond that is what strangers explain, and the limit is where half of the pairs
below it are expected to be strangers (a two-groups model as in Efron 2008, doi:10.1214/07-STS236).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.prepare import condition_of, prepare_catalogue
from molar_retrieval.embedding.content_vectors import ContentVectors
from molar_retrieval.embedding.run import embed
from molar_retrieval.encoders.base import unit
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.progress import Progress
from molar_retrieval.quality.findings import Finding
from molar_retrieval.quality.items import Items
from molar_retrieval.quality.photos import KIND
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import EmbedSettings

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_OWN = ("builtin", "builtin-multilingual")  # Encoders whose vectors have words and photo apart, and that run anywhere
FEWEST = 100  # Items with photo and words that a judgement needs
WRONG = 0.5  # Share of the pairs pointed out that must be expected to be wrong
WEAK = 0.65  # How often own words must fit better than another item's for the map to be of any use
_FOLDS = 5
_RIDGES = (75.0, 300.0, 1_200.0)  # times the mean variance of the photos' numbers
_CHOSEN = 2_500  # items by which one of them is chosen
_LEARNED = 20_000  # most items that a map is fitted on
_REFERENCES = 1_000  # other items' texts to which each is compared
_CHUNK = 4_096
_SUSPECTS = 3_000  # most items among which exchanged photos are looked for
_TOGETHER, _ALONE = 0.66, 0.1  # share of all pairs that an exchange must fit better than: both on average, and each
_CHANCE = 0.75  # a fit below is one that a random pair might have


@dataclass(frozen=True)
class PhotoTextAgreement:
    """How well photos and words go together, of the items in ``rows`` that have both.

    ``fit`` is in standard deviations of how other items' words fit the photo; ``win_rate``: how often own words fit
    better than another item's, 0.5 … 1. Fits below ``limit`` are pointed out (minus infinity: none); a share
    ``strangers`` of all pairs is expected to be wrong. Vectors of words are ``predicted`` by photos, and as they are.
    """

    rows: Rows
    fit: npt.NDArray[np.float64]
    win_rate: float
    limit: float
    strangers: float
    predicted: Floats
    texts: Floats

    @property
    def useful(self) -> bool:
        """Whether photos and words have enough in common for a judgement."""
        return self.win_rate >= WEAK

    def to_dict(self) -> dict[str, Any]:
        """What is worth telling, as plain data."""
        better, wrong = round(self.win_rate, 4), round(self.strangers, 4)
        return {"items": len(self.rows), "own_words_fit_better": better, "expected_wrong": wrong}


def agreement(images: Floats, texts: Floats, seed: int = 0) -> PhotoTextAgreement | None:
    """Judge the pairs of a catalogue; None where fewer than 100 items have photo and words.

    Vectors of photos and of words have shapes (n_items, d) and (n_items, e), and zeros where there is none.
    """
    rows = np.flatnonzero(np.any(images, axis=1) & np.any(texts, axis=1))
    if len(rows) < FEWEST:
        return None
    some = np.sort(rng.generator(seed, "agreement", "ridge").permutation(rows)[:_CHOSEN])
    ridge = max(_RIDGES, key=lambda one: _judged(images, texts, some, one, seed).fit.mean())
    return _judged(images, texts, rows, ridge, seed)


def _judged(images: Floats, texts: Floats, rows: Rows, ridge: float, seed: int) -> PhotoTextAgreement:
    """Judge the pairs of some items."""
    from sklearn.linear_model import Ridge

    n, random = len(rows), rng.generator(seed, "agreement")
    fold = random.permutation(n) % _FOLDS
    fit, chance, win_rate = np.zeros((3, n))
    predicted, own = np.zeros((2, n, texts.shape[1]), np.float32)
    for number in range(_FOLDS):
        mine = np.flatnonzero(fold == number)
        others = np.sort(random.permutation(np.flatnonzero(fold != number))[:_LEARNED])
        x, y = unit(images[rows[others]]), unit(texts[rows[others]])
        middle = y.mean(axis=0)
        learned = Ridge(ridge * float(x.var(axis=0).mean())).fit(x, y - middle)
        own[mine] = unit(unit(texts[rows[mine]]) - middle)
        references = own[random.permutation(mine)[:_REFERENCES]]
        for start in range(0, len(mine), _CHUNK):
            part = mine[start : start + _CHUNK]
            predicted[part] = unit(learned.predict(unit(images[rows[part]])))
            strangers = predicted[part] @ references.T
            fitting = np.einsum("nd,nd->n", predicted[part], own[part])
            one = strangers[np.arange(len(part)), random.integers(len(references), size=len(part))]
            mean, spread = strangers.mean(axis=1), np.maximum(strangers.std(axis=1), 1e-6)
            fit[part], chance[part] = (fitting - mean) / spread, (one - mean) / spread
            win_rate[part] = (strangers < fitting[:, None]).mean(axis=1)
    return PhotoTextAgreement(rows, fit, float(win_rate.mean()), *_limit(fit, chance), predicted, own)


def check_pairs(found: PhotoTextAgreement, items: Items) -> Iterator[Finding]:
    """Findings about photos and words that do not belong together; none where the map is of no use."""
    if not found.useful:
        return
    exchanged: set[int] = set()
    for left, right, gain in swapped(found):
        exchanged |= {left, right}
        for own, other in ((left, right), (right, left)):
            name = items.ids.id(int(found.rows[other]))
            detail = f"its photo fits the words of {name} and the other way round"
            yield items.finding("pair.swapped", int(found.rows[own]), detail, gain, others=(name,), photo=True)
    for place in np.flatnonzero(found.fit < found.limit):
        if int(place) not in exchanged:
            detail = f"fit {found.fit[place]:+.1f}; half of all items have more than {np.median(found.fit):+.1f}"
            amount = float(np.median(found.fit) - found.fit[place])
            yield items.finding("pair.mismatch", int(found.rows[place]), detail, amount, photo=True)


def swapped(found: PhotoTextAgreement) -> list[tuple[int, int, float]]:
    """Pairs of places in ``found`` whose photos fit each other's words as matching ones do, and own ones do not.

    Only items that fit no better than chance are compared with each other, each with the one that gains most.
    """
    median = float(np.median(found.fit))
    suspects = np.flatnonzero(found.fit < min(_CHANCE, median - 1))
    suspects = suspects[np.argsort(found.fit[suspects], kind="stable")][:_SUSPECTS]
    if len(suspects) < 2:
        return []
    sample = rng.generator(0, "references").permutation(len(found.rows))[:_REFERENCES]
    against = found.predicted[suspects] @ found.texts[sample].T
    cross = found.predicted[suspects] @ found.texts[suspects].T
    cross = (cross - against.mean(axis=1, keepdims=True)) / np.maximum(against.std(axis=1, keepdims=True), 1e-6)
    own = np.diag(cross).copy()
    both = cross + cross.T
    gain = both - own[:, None] - own[None]
    together, alone = np.quantile(found.fit, (_TOGETHER, _ALONE))
    gain[(both / 2 < together) | (np.minimum(cross, cross.T) < alone)] = -np.inf
    np.fill_diagonal(gain, -np.inf)
    partner = gain.argmax(axis=1)
    return [
        (int(suspects[place]), int(suspects[other]), float(gain[place, other]))
        for place, other in enumerate(partner.tolist())
        if place < other and partner[other] == place and np.isfinite(gain[place, other])
    ]


def _limit(fit: npt.NDArray[np.float64], chance: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Below which fit half of the pairs are expected to be wrong, and the share of all that are."""
    from scipy.special import ndtr

    n, middle = len(fit), float(np.median(fit))
    width = float(np.median(middle - fit[fit < middle])) / 0.6745
    at = float(np.median(chance))
    right = float(ndtr((at - middle) / max(width, 1e-9)))
    # What is below the middle of strangers beyond what matching pairs explain, less one standard error.
    surplus = float((fit < at).mean()) - right - float(np.sqrt(right * (1 - right) / n))
    strangers = max(0.0, surplus / max(0.5 - right, 1e-9))
    ordered, others = np.sort(fit), np.sort(chance)
    wrong = strangers * np.searchsorted(others, ordered, side="right") / np.arange(1, n + 1)
    enough = np.flatnonzero((wrong >= WRONG) & (ordered < middle))
    return (float(ordered[enough[-1]]) + 1e-9 if len(enough) else -np.inf), strangers


@dataclass(frozen=True)
class PairVectors:
    """Words and photos as vectors, shape (n_items, d), zeros for none."""

    texts: Floats
    images: Floats
    encoder: str


def stored_vectors(workspace: Workspace, catalogue: Catalogue) -> PairVectors | None:
    """The workspace's vectors, if they are of the catalogue as it is and have words and photo apart; or the check's."""
    for place in (workspace, _own(workspace)):
        with suppress(StaleArtefactError):
            live = place["content"].live
            if live is None or live[1].inputs.get("catalogue") != catalogue.manifest.fingerprint:
                continue
            found = ContentVectors.open(live[0])
            texts, images = found.block("content_text"), found.block("content_image")
            if len(found.ids) == len(catalogue) and texts is not None and images is not None:
                return PairVectors(texts, images, str(found.info["name"]))
    return None


def make_vectors(workspace: Workspace, folder: Path, settings: EmbedSettings, progress: Progress) -> None:
    """Embed what is new or changed with a built-in encoder.

    Where that is the workspace's encoder, or it has no vectors yet, this is what `molar embed` does, and is not done
    again there. Vectors of another encoder stay as they are; those of the check lie beside them.
    """
    live, place = workspace["content"].manifest, workspace
    if settings.model not in _OWN or (live is not None and live.settings["encoder"]["name"] != settings.model):
        place = Workspace.for_catalogue(_own(workspace).root, folder)
        prepare_catalogue(folder, place, progress, where=condition_of(workspace))
        settings = EmbedSettings(model=_OWN[0], batch_size=settings.batch_size, device=settings.device)
    embed(place, settings, progress=progress)


def _own(workspace: Workspace) -> Workspace:
    return Workspace(workspace.root / KIND / "vectors")
