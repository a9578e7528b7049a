"""Photos that do not belong to the words beside them, unless what people take says that they do.

Words and photos are judged by :mod:`molar_retrieval.quality.photo_text`, by the vectors that the generation has.
Behaviour is a third witness: where people who took an item also took what looks like its photo, more than they usually
do, the photo is not doubted.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from molar_indexes.item_map.agreement import FEWEST, agreements
from molar_indexes.item_map.views import Views
from molar_retrieval.quality import photo_text

_TOLD_APART = 0.9  # how often own words must fit a photo better than others' for two exchanged photos to be believed
_VOUCHED = 1.64  # standard errors above the typical by which people's takes speak for a photo


@dataclass(frozen=True)
class OtherPhoto:
    """An item whose photo seems to be of something else.

    ``better``: the share of other items' words that fit the photo better than its own; ``belongs``: the row whose photo
    was exchanged with it, or None. Of what ``people`` who took it took besides, the ``share`` of what looks like it,
    which is ``chance`` by chance and ``usual`` for an item that as many people took. ``score``: the higher, the surer.
    """

    row: int
    better: float
    belongs: int | None
    people: int
    share: float
    chance: float
    usual: float
    score: float


def other_photos(views: Views, near: int) -> list[OtherPhoto]:
    """Items whose photo and words do not go together, the surest first; behaviour asks for ``near`` similar photos."""
    if not {"text", "image"} <= views.sources.keys():
        return []
    images = views.sources["image"]
    found = photo_text.agreement(images, views.sources["text"])
    if found is None or not found.useful:
        return []
    low = np.flatnonzero(found.fit < found.limit).tolist()
    doubted: dict[int, tuple[int, int | None]] = {int(found.rows[place]): (place, None) for place in low}
    if found.win_rate >= _TOLD_APART:
        for left, right, _ in photo_text.swapped(found):
            for own, other in ((left, right), (right, left)):
                doubted[int(found.rows[own])] = own, int(found.rows[other])
    if not doubted:
        return []
    looks = agreements(views, views.alike(near, images))
    usual = looks.lift * looks.chance
    others = []
    for row, (place, belongs) in doubted.items():
        fit, error = float(found.fit[place]), max(float(looks.error[row]), 1e-9)
        beyond = float(looks.share[row] - usual[row]) / error if looks.people[row] >= FEWEST else 0.0
        if beyond < _VOUCHED:
            taken = int(looks.people[row]), float(looks.share[row]), float(looks.chance[row]), float(usual[row])
            others.append(OtherPhoto(row, float(ndtr(-fit)), belongs, *taken, -fit - 0.2 * beyond))
    return sorted(others, key=lambda one: (-one.score, one.row))
