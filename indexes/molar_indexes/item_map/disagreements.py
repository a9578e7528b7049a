"""Where content and behaviour disagree about an item, as one list: what seems to be wrong, and why it is thought so."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from molar_indexes.item_map.agreement import Agreements, agreements
from molar_indexes.item_map.categories import Categories, OtherCategory, chosen, other_categories
from molar_indexes.item_map.hidden import HiddenItem, ImpressionCounts, hidden_items
from molar_indexes.item_map.photos import OtherPhoto, other_photos
from molar_indexes.item_map.views import NEAR, Views
from molar_retrieval.workspace.tensors import Rows

Kind = Literal["photo", "category", "hidden", "apart"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LONGEST = 200
"""Disagreements of one kind that are kept, the surest ones."""
_APART = 0.5  # of the level of a typical item, below which two views disagree
_SHARE, _FEWEST, _MANY = 0.05, NEAR, 200  # of the items are near an item; at least and at most so many


@dataclass(frozen=True)
class Witness:
    """Why something is thought, by the name of a sentence and what is told in it."""

    name: str
    numbers: Mapping[str, Any]


@dataclass(frozen=True)
class Disagreement:
    """An item about which two views disagree; ``row`` is that of the generation, ``score`` orders those of one kind."""

    row: int
    kind: Kind
    score: float
    evidence: tuple[Witness, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Disagreement":
        """The inverse of :meth:`to_dict`."""
        evidence = tuple(Witness(one["name"], one["numbers"]) for one in told["evidence"])
        return cls(told["row"], told["kind"], told["score"], evidence)


@dataclass(frozen=True, eq=False)
class Judged:
    """What two views say of each other: ``agree`` of each item, the categories if any, and where they disagree."""

    agree: Agreements
    categories: Categories | None
    found: tuple[Disagreement, ...]


def judged(views: Views, fields: Mapping[str, Sequence[object]], exposure: ImpressionCounts | None = None) -> Judged:
    """Compare the views of all items.

    Args:
        views: The views.
        fields: What each item has in the fields that may group them: a value, a list of them, or None.
        exposure: How often items were shown, where that is known.
    """
    near = int(np.clip(len(views) * _SHARE, _FEWEST, _MANY))
    alike = views.alike(near)
    agree, closest = agreements(views, alike), alike[:, :NEAR]
    categories = chosen(fields, closest)
    others = [] if categories is None else other_categories(views, categories, closest)
    strays = [_category(views, one) for one in others]
    explained = {one.row for one in strays}  # words that name a wrong category do not go with the photo either
    photos = [_photo(views, one) for one in other_photos(views, near) if int(views.rows[one.row]) not in explained]
    explained |= {one.row for one in photos}
    rest = [one for one in _apart(views, agree) if one.row not in explained]
    hidden = [_hidden(views, one) for one in hidden_items(views, closest, exposure)]
    kept = [one for kind in (photos, strays, hidden, rest) for one in kind[:LONGEST]]
    return Judged(agree, categories, tuple(kept))


def _photo(views: Views, one: OtherPhoto) -> Disagreement:
    told = [Witness("photo.words", {"share": one.better})]
    if one.belongs is not None:
        told = [Witness("photo.exchanged", {"row": int(views.rows[one.belongs])})]
    if one.people:
        company = {"people": one.people, "share": one.share, "chance": one.chance, "usual": one.usual}
        told.append(Witness("photo.company", company))
    return Disagreement(int(views.rows[one.row]), "photo", one.score, tuple(told))


def _category(views: Views, one: OtherCategory) -> Disagreement:
    names = {"own": one.own, "other": one.other}
    told = [Witness("category.alike", {"votes": one.votes[0], "own_votes": one.votes[1], "of": NEAR, **names})]
    shares = {"share": one.share[0], "usual": one.usual[0], "usual_own": one.usual[1]}
    company = "category.company" if one.agreed else "category.company_silent"
    told.append(Witness(company, {"people": one.people, **shares, **names}))
    return Disagreement(int(views.rows[one.row]), "category", one.score, tuple(told))


def _hidden(views: Views, one: HiddenItem) -> Disagreement:
    told = [Witness("hidden.takes", {"takes": one.takes, "others": one.others, "better": one.better, "of": NEAR})]
    if one.rate is not None:
        told = [Witness("hidden.rate", {"rate": one.rate[0], "others": one.rate[1]})]
    if one.shown is not None:
        told.append(Witness("hidden.shown", {"shown": one.shown[0], "others": one.shown[1]}))
    else:
        told.append(Witness("hidden.unknown", {}))
    return Disagreement(int(views.rows[one.row]), "hidden", one.score, tuple(told))


def _apart(views: Views, agree: Agreements) -> list[Disagreement]:
    """Items with which people take what is alike hardly more than by chance, the surest first."""
    rows: Rows = np.flatnonzero(agree.known & (agree.high < _APART))
    width = np.maximum(agree.high - agree.low, 1e-9)
    usual = agree.lift * agree.chance
    found = []
    for row in rows.tolist():
        shares = {"share": agree.share[row], "chance": agree.chance[row], "usual": usual[row]}
        numbers = {"people": int(agree.people[row]), **{name: float(value) for name, value in shares.items()}}
        score = float((_APART - agree.level[row]) / width[row])
        found.append(Disagreement(int(views.rows[row]), "apart", score, (Witness("apart.company", numbers),)))
    return sorted(found, key=lambda one: (-one.score, one.row))
