"""Items with few interactions among those without any: what is believed of them, and their chance to be tried.

An item's first sale makes it a known one, whose score rests on that sale alone. Until it has more, it is ranked among
newcomers as well. With n interactions, of which ``evidence`` tell as much as content does, what is believed of it is
the posterior mean of a normal prior, the guess from its content, and of what was learned of it:

    n / (n + evidence) · learned  +  evidence / (n + evidence) · guess

but for its popularity, for which that of known items on average is taken: few sales of a new item say how long it has
been there, and the guess from content was fitted on them, too. Its chance against a newcomer's falls as the share of
the guess does, to nothing at four times the evidence:

    evidence / (n + evidence) · (1 − n / (4 · evidence))

so that there is no number of sales at which it loses its places. The logarithm of the chance is part of the guess, in
the unit of the draw (:mod:`molar_retrieval.ranking.exploration`). Items that training did not know at all, sold or not,
are newcomers, and have the whole chance.
"""

import numpy as np
import numpy.typing as npt

from molar_retrieval import rng
from molar_retrieval.alignment.model import AlignedModel
from molar_retrieval.alignment.user_encoder import NEIGHBOURS, TREND
from molar_retrieval.alignment.vectors import ItemVectors, item_sides
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.ranking.item_store import Emerging
from molar_retrieval.ranking.places import last
from molar_retrieval.ranking.request import Exploration
from molar_retrieval.workspace.settings import NewcomerSettings
from molar_retrieval.workspace.tensors import Matrix, Rows

_LAST = 4.0
"""An item with so many times the evidence is no longer tried."""
_ASKED = 200
"""People whose scores tell the spread; it differs little between people."""


def exploration(
    model: AlignedModel, items: ItemVectors, log: Interactions, settings: NewcomerSettings
) -> tuple[Exploration, Emerging | None]:
    """How new items are tried, and the emerging ones; ``items`` are the model's, ``log`` all that is known of sales."""
    counts = np.bincount(log.item, minlength=log.n_items)
    rows = np.flatnonzero(model.known & (counts < _LAST * settings.evidence))
    prior = settings.evidence / (counts[rows] + settings.evidence)
    dense = believed(model, rows, prior)
    scale = settings.temperature * _spread(model, log, np.concatenate([items.dense[items.newcomer], dense]))
    dense[:, -1] += scale * np.log(prior * (1 - counts[rows] / (_LAST * settings.evidence)))
    least = 1 if settings.places is None else settings.places
    places = model.places if len(model.places) >= least else last(least)
    if not len(rows) and not items.newcomer.any():
        places = ()
    return Exploration(places, float(scale)), Emerging(rows, dense) if len(rows) else None


def believed(model: AlignedModel, rows: Rows, prior: npt.NDArray[np.floating]) -> Matrix:
    """Vectors of E known items among newcomers, shape (E, d); ``prior`` is the share of the guess in each, (E,)."""
    popularity = model.predictors.get(TREND)
    usual = np.full((len(model.known), 1), 0 if popularity is None else popularity.mean, np.float32)
    sides = {**item_sides(model.network, model.known), TREND: usual}
    if model.content_knn is not None:
        sides[NEIGHBOURS] = model.content_knn.items
    blocks, guess = [], prior.astype(np.float32)[:, None]
    for part in model.dense_parts:
        block = sides[part.name][rows]
        if part.name == NEIGHBOURS:  # content is no guess
            block = model.guesses(part.name, sides[part.name], rows)
        elif part.name in model.predictors and part.name != TREND:
            block = guess * model.guesses(part.name, sides[part.name], rows) + (1 - guess) * block
        blocks.append(block * np.float32(model.newcomer_weights.get(part.name, 0.0)))
    return np.concatenate(blocks, axis=1)


def _spread(model: AlignedModel, log: Interactions, dense: Matrix) -> float:
    """The standard deviation of the items' scores for a person, the mean over some people; 1 where all are alike."""
    people = np.flatnonzero(np.diff(log.offsets))
    if len(people) > _ASKED:
        people = np.sort(rng.generator(0, "spread of newcomers").choice(people, _ASKED, replace=False))
    if not len(people) or not len(dense):
        return 1.0
    scores = model.users(log, people).dense @ dense.T
    return float(scores.std(axis=1).mean()) or 1.0
