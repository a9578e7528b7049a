"""From a list to the answer that is told: ids and titles, reasons, why it is short."""

from collections.abc import Callable, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from molar_indexes.generations import Generation
from molar_retrieval import columns
from molar_retrieval.ranking.index_protocol import StoredItem
from molar_retrieval.ranking.query import Listing, Placed, ResolvedQuery
from molar_retrieval.ranking.results import Answer, Recommendation, new_id
from molar_retrieval.workspace.config_files import ObjectiveName

if TYPE_CHECKING:
    from molar_indexes.explain import Explained

POPULARITY = "popularity"
_MORE = 10  # popular items that are looked at at once, beside those asked for


def told(
    generation: Generation,
    photos: Callable[[str], Path | None],
    request: ResolvedQuery,
    basis: str,
    listing: Listing,
    stored: Sequence[StoredItem],
    seconds: dict[str, float],
    user_id: str | None,
    reasons: "Sequence[Explained]",
    events: int,
    objective: ObjectiveName | None,
) -> Answer:
    """A list as it is told; ``stored`` has the item of each place, ``reasons`` one for each if they are asked for."""
    items: list[Recommendation] = []
    for placed, item, why in zip_longest(listing.places, stored, reasons):
        items.append(
            Recommendation(
                rank=len(items) + 1,
                item_id=item.item_id,
                title=item.payload.get(columns.TITLE),
                score=placed.score,
                parts=placed.parts,
                rank_by_score=placed.by_score,
                rule=", ".join(placed.causes) or None,
                propensity=placed.propensity,
                reasons=() if why is None else (why.sentence,),
                evidence=None if why is None else why.evidence,
                payload=item.payload,
            )
        )
    milliseconds = {name: round(1000 * value, 3) for name, value in seconds.items()}
    return Answer(
        user_id=user_id,
        k=request.query.k,
        generation=generation.name,
        basis=basis,
        items=items,
        shortfall=_shortfall(generation, request, basis, len(items)),
        notes=[*generation.notes, *request.notes, *listing.notes],
        timings_ms=milliseconds | {"total": round(sum(milliseconds.values()), 3)},
        request_id=new_id(request.now),
        events=events,
        objective=objective,
        photo_of=photos,
    )


def popular(
    generation: Generation, stored: Callable[[Sequence[int]], Sequence[StoredItem]], request: ResolvedQuery
) -> tuple[Listing, list[StoredItem]]:
    """The most popular items that may come, for people without history, and what is ``stored`` of them."""
    where, query, places, items = request.where, request.query, list[Placed](), list[StoredItem]()
    left = ((row, float(count)) for row, count in generation.popular if row not in request.hidden)
    while len(items) < query.k and (some := list(islice(left, query.k + _MORE))):
        for item, (row, score) in zip(stored([row for row, _ in some]), some, strict=True):
            if len(items) < query.k and (where is None or item.fulfils(where)):
                items.append(item)
                places.append(Placed(row, score, {POPULARITY: score}, len(items)))
    unused = [name for name in ("diversity", "calibrate", "explain") if getattr(query, name)]
    notes = [f"the most popular items come as they are, without {', '.join(unused)}"] if unused else []
    return Listing(places, notes), items


def _shortfall(generation: Generation, request: ResolvedQuery, basis: str, count: int) -> str | None:
    query = request.query
    if count >= query.k:
        return None
    others = "others" if count else "all others"
    reasons = [f"{len(request.hidden):,} are hidden"] if request.hidden else []
    reasons += [f"the filter leaves out {others}"] if query.where is not None or query.only is not None else []
    reasons += [f"the rules leave out {others}"] if request.rules is not None and request.rules.limits else []
    reasons += ["only the most popular are kept for a fallback"] if basis == POPULARITY else []
    return ", ".join([f"{count} of {query.k} items: the catalogue has {len(generation.index):,}", *reasons])
