"""Why an item stands in a list: attributions to items of the history and to content, and the sentences that say so."""

import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.errors import RequestError, SettingsError, shown, suggestion
from molar_retrieval.models.repeat_consumption import REPEAT_CONSUMPTION
from molar_retrieval.ranking.index_protocol import Spans, SparseVector
from molar_retrieval.ranking.item_store import ItemStore
from molar_retrieval.workspace.config_files import read_toml

Array = npt.NDArray[Any]
Rows = Sequence[int] | npt.NDArray[np.integer]
ANONYMITY = 5  # fewest people who must have had both items before one is said to go with the other
CONTENT_KNN = "content_knn"
_MOST = 3
_DAY = 86_400  # seconds


def of_cold_start(part: str) -> str:
    """The name of a part's map for cold items, where that differs from the one for all others."""
    return f"cold_start {part}"


@dataclass(frozen=True)
class ContentKNNWeights:
    """How content kNN reads a history: weight lost per place from its end, and how many of the latest count."""

    decay: float
    last: int


@dataclass(frozen=True, eq=False)
class Origins:
    """What a generation knows of how its vectors came about.

    ``maps`` lead from content vectors to the dense blocks of parts that are linear in them, by part, shape (f, width);
    where cold items have another map, it is there by the name that :func:`of_cold_start` gives it.
    ``ordinary`` are attribute values that most items have, by field: nothing worth telling.
    """

    blocks: Spans = field(default_factory=dict)  # of each source (image, text, attributes) within the content vectors
    maps: Mapping[str, Array] = field(default_factory=dict)
    content_knn: ContentKNNWeights | None = None
    ordinary: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def map_of(self, part: str, *, cold: bool) -> Array:
        """The map that leads to a part of cold items, or of the others."""
        return self.maps.get(of_cold_start(part), self.maps[part]) if cold else self.maps[part]

    def described(self) -> dict[str, Any]:
        """All but the maps, JSON-able."""
        content_knn = self.content_knn
        return {
            "blocks": {name: list(span) for name, span in self.blocks.items()},
            "taste": None if content_knn is None else [content_knn.decay, content_knn.last],
            "ordinary": {name: list(values) for name, values in self.ordinary.items()},
        }

    @classmethod
    def of(cls, described: Mapping[str, Any], maps: Mapping[str, Array]) -> Self:
        """The inverse of :meth:`described`, with the maps."""
        blocks = {name: (start, stop) for name, (start, stop) in described.get("blocks", {}).items()}
        weights = described.get("taste")
        content_knn = None if weights is None else ContentKNNWeights(*weights)
        return cls(blocks, maps, content_knn, described.get("ordinary", {}))


@dataclass(frozen=True)
class TakenBefore:
    """On how many days somebody took an item, and how many days were between two of them on average, if any were."""

    times: int
    days: float | None

    @classmethod
    def of(cls, history: Rows, times: Rows, row: int) -> Self | None:
        """What a history says of an item, with times in seconds since 1970; None where it does not have it."""
        days = np.unique(np.asarray(times, np.int64)[np.asarray(history, np.int64) == row] // _DAY)
        if not len(days) or days[0] <= 0:
            return None
        return cls(len(days), float(days[-1] - days[0]) / (len(days) - 1) if len(days) > 1 else None)


@dataclass(frozen=True)
class Attributions:
    """Why one item was recommended: items of the history with how much of its score they carry, and content sources."""

    together: Sequence[tuple[int, float]]  # had with it by at least five people
    alike: Sequence[tuple[int, float]]  # it looks like these
    sources: Mapping[str, float]  # of the content parts' score, by source
    taken: TakenBefore | None = None  # None: never

    @property
    def history(self) -> list[tuple[int, float]]:
        """Both kinds in one list, those that carry most first."""
        sums: dict[int, float] = {}
        for row, amount in (*self.together, *self.alike):
            sums[row] = sums.get(row, 0.0) + amount
        return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST]


def attributions(
    table: ItemStore,
    origins: Origins,
    vector: Sequence[float],
    sparse: SparseVector,
    history: Rows,
    rows: Rows,
    times: Rows = (),
) -> list[Attributions]:
    """Evidence for each of the recommended ``rows``, which are distinct; the history is oldest first.

    Without ``times`` of the history nobody knows how often its items were taken.
    """
    chosen = np.asarray(rows, np.int64)
    together = _together(table, sparse, chosen)
    alike = _alike(table, origins, vector, np.asarray(history, np.int64), chosen)
    sources = _sources(table, origins, vector, chosen)
    had = set(history) if len(times) else set()
    taken = [TakenBefore.of(history, times, row) if row in had else None for row in chosen.tolist()]
    return [Attributions(*found) for found in zip(together, alike, sources, taken, strict=True)]


def _together(table: ItemStore, sparse: SparseVector, rows: Array) -> list[list[tuple[int, float]]]:
    """What each item of the history adds through the count-based models, by recommended item."""
    products = table.sparse_products(sparse, rows)
    items = products.dimensions % len(table)
    told = (products.support >= ANONYMITY) & (items != rows[products.places])  # of an item itself habits tell
    items, places, amounts = items[told], products.places[told], products.values[told]
    return _largest(places, items, amounts, len(rows))


def _alike(
    table: ItemStore, origins: Origins, vector: Sequence[float], history: Array, rows: Array
) -> list[list[tuple[int, float]]]:
    """What each item of the history adds through content kNN: its share of their score by likeness."""
    span, content_knn = table.parts.get(CONTENT_KNN), origins.content_knn
    if span is None or content_knn is None or not len(history):
        return [[] for _ in rows]
    recent = history[-content_knn.last :]
    weights = content_knn.decay ** np.arange(len(recent))[::-1]
    likeness = np.asarray(table.content[rows] @ table.content[recent].T, np.float64) * weights
    own = np.asarray(table.dense[rows, span[0] : span[1]], np.float64) @ np.asarray(vector[span[0] : span[1]])
    own *= table.factor(CONTENT_KNN, rows)
    total = likeness.sum(axis=1, keepdims=True)
    shares = np.divide(likeness, total, out=np.zeros_like(likeness), where=total > 0) * np.maximum(own, 0)[:, None]
    shares[rows[:, None] == recent] = 0  # that an item is like itself is no reason
    places = np.repeat(np.arange(len(rows)), len(recent))
    return _largest(places, np.tile(recent, len(rows)), shares.ravel(), len(rows))


def _sources(table: ItemStore, origins: Origins, vector: Sequence[float], rows: Array) -> list[dict[str, float]]:
    found = np.zeros((len(rows), len(origins.blocks)))
    features, cold = np.asarray(table.content[rows], np.float32), table.cold[rows]
    for part, matrix in origins.maps.items():
        if part not in table.parts:
            continue
        user = np.asarray(vector[slice(*table.parts[part])], np.float32)
        towards = features * (matrix @ user)
        if cold.any():
            towards[cold] = features[cold] * (origins.map_of(part, cold=True) @ user)
        scale = _scales(table, origins, part, rows) * table.factor(part, rows)
        for number, (first, last) in enumerate(origins.blocks.values()):
            found[:, number] += scale * towards[:, first:last].sum(axis=1)
    return [dict(zip(origins.blocks, amounts, strict=True)) for amounts in found.tolist()]


def _scales(table: ItemStore, origins: Origins, part: str, rows: Array) -> Array:
    """What the maps of a part make of some items' content is as much shorter than their vectors; it is kept."""
    known = table.forms.of(f"scales {part}", table.dense, lambda dense: np.full(len(dense), np.nan))
    missing = rows[np.isnan(known[rows])]
    for cold in (False, True):
        some = missing[table.cold[missing] == cold]
        if len(some):
            made, own = (
                table.content[some] @ origins.map_of(part, cold=cold),
                table.dense[some, slice(*table.parts[part])],
            )
            size = (made * made).sum(axis=1)
            known[some] = np.divide((own * made).sum(axis=1), size, out=np.zeros(len(some)), where=size > 0)
    return known[rows]


def _largest(places: Array, items: Array, amounts: Array, count: int) -> list[list[tuple[int, float]]]:
    """For each of so many places the items whose amounts there add up to most, none that adds nothing."""
    named = np.zeros(int(items.max(initial=-1)) + 1, np.intp)
    named[items] = 1
    known = named.nonzero()[0]
    named[known] = np.arange(len(known))
    sums = np.bincount(places * len(known) + named[items], amounts, minlength=count * len(known))
    sums = sums.reshape(count, len(known))
    found: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for _ in range(min(_MOST, len(known))):
        best = sums.argmax(axis=1)  # of equal ones the first
        for own, item, amount in zip(found, known[best].tolist(), sums[np.arange(count), best].tolist(), strict=True):
            if amount > 0:
                own.append((item, amount))
        sums[np.arange(count), best] = 0.0
    return found


FILE_NAME = "reasons.toml"
_NAMING = ("together", "photo", "text", "attributes", "alike")
_FIELDS = {
    "quote": {""},
    "shared": {"values"},
    "rule": {"rule"},
    "again": {"times", "days"},
    "daily": {"times"},
    **{name: {"items"} for name in _NAMING},
}
"""Gaps of the templates that have any."""
_TEMPLATE = {"image": "photo", "text": "text", "words": "text", "attributes": "attributes"}
"""What is said of a source that is named alone."""
_CLEAR = 0.6  # share of the content score from which a source is named alone
_NAMED = 2
_SHARED = 3
_LONG = 40  # longer values are texts, not attributes


class Speaker:
    """Says why, in one language, by templates named as those of ``reasons/en.toml``; ``source`` is for messages.

    Raises:
        SettingsError: If a template is missing, unknown, or has another gap than the English one.
    """

    def __init__(self, templates: Mapping[str, str], source: str) -> None:
        wanted = _packaged("en")
        for name, template in templates.items():
            if name not in wanted:
                raise SettingsError(f"{source}: unknown template {name!r}", suggestion(name, wanted, "remove it"))
            _check(name, template, source)
        if missing := [name for name in wanted if name not in templates]:
            raise SettingsError(f"{source}: the template {missing[0]!r} is missing", "say it in this language too")
        self._templates = templates

    @classmethod
    def of(cls, language: str, overrides: Path | None = None) -> Self:
        """The templates of a language, with those of a file in their place; English ones where neither has one.

        Raises:
            RequestError: If the language is unknown.
            SettingsError: If the file has a mistake.
        """
        given: dict[str, Any] = {}
        if overrides is not None and overrides.exists():
            try:
                given = read_toml(overrides)
            except OSError as error:
                raise SettingsError(f"{overrides} cannot be read: {error}", "make it a readable file") from error
        own = given.get(language, {})
        if not isinstance(own, dict):
            raise SettingsError(f"{overrides}: {language!r} is no table", f"write [{language}]")
        known = [*languages(), *given]
        if language not in known:
            raise RequestError(
                f"reasons can not be given in {shown(language)}",
                suggestion(language, known, f"known are {', '.join(dict.fromkeys(known))}; {FILE_NAME} adds others"),
            )
        source = f"{overrides}: [{language}]" if own else f"reasons in {language}"
        return cls({**_packaged("en"), **_packaged(language), **own}, source)

    def say(
        self,
        evidence: Attributions,
        parts: Mapping[str, float],
        titles: Mapping[int, str],
        shared: Sequence[str],
        causes: Sequence[str] = (),
    ) -> str:
        """The reason for one item by its evidence, the addends of its score and what it shares with the items named.

        ``titles`` are of the items of the history that the evidence names, by row; causes are those of
        :class:`molar_retrieval.ranking.query.ScoredItem`.
        """
        told = [self._templates["cold_start"]] if "cold_start" in parts else []
        told.append(self._main(evidence, parts, titles))
        if shared and (evidence.together or evidence.alike):
            told.append(self._templates["shared"].format(values=", ".join(shared[:_SHARED])))
        told += [
            self._templates[c] if c in ("diversity", "calibration") else self._templates["rule"].format(rule=c)
            for c in causes
        ]
        return " ".join(told)

    def _main(self, evidence: Attributions, parts: Mapping[str, float], titles: Mapping[int, str]) -> str:
        together = sum(amount for _, amount in evidence.together)
        alike = sum(amount for _, amount in evidence.alike)
        if evidence.taken is not None and parts.get(REPEAT_CONSUMPTION, 0.0) > max(together, alike):
            return self._habit(evidence.taken)
        if together > 0 and together >= alike:
            return self._named("together", evidence.together, titles)
        if alike > 0:
            return self._named(named_source(evidence.sources) or "alike", evidence.alike, titles)
        if any(parts.get(name, 0.0) > 0 for name in ("id_tower", "content_tower", "content_knn")):
            return self._templates["taste"]
        return self._templates["popularity" if parts.get("popularity", 0.0) > 0 else "chosen"]

    def _habit(self, taken: TakenBefore) -> str:
        if taken.days is None:
            return self._templates["before"]
        days = round(taken.days)
        return self._templates["again" if days > 1 else "daily"].format(times=taken.times, days=days)

    def _named(self, template: str, items: Sequence[tuple[int, float]], titles: Mapping[int, str]) -> str:
        quoted = [self._templates["quote"].format(titles[row]) for row, _ in items[:_NAMED]]
        return self._templates[template].format(items=self._templates["joint"].join(quoted))


def languages() -> list[str]:
    """Languages that come with molar."""
    return sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml"))


def traits(
    payload: Mapping[str, Any], fields: Sequence[str], ordinary: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], None]:
    """An item's values of some fields, in their order, without the ``ordinary`` ones that are not worth telling."""
    found: dict[tuple[str, str], None] = {}
    for name in fields:
        value = payload.get(name)
        for word in value if isinstance(value, list) else (value,):
            if isinstance(word, str) and 0 < len(word) <= _LONG and word not in ordinary.get(name, ()):
                found[name, word] = None
    return found


def named_source(sources: Mapping[str, float]) -> str | None:
    """The template of the source that has most of the likeness, so that it is named alone; None: there is no such."""
    total, amounts = 0.0, dict.fromkeys(_TEMPLATE.values(), 0.0)
    for name, amount in sources.items():
        total += max(0.0, amount)
        if name in _TEMPLATE:
            amounts[_TEMPLATE[name]] += max(0.0, amount)
    return next((name for name, amount in amounts.items() if total > 0 and amount >= _CLEAR * total), None)


def _folder() -> Any:
    return resources.files("molar_retrieval.ranking") / "reasons"


def _packaged(language: str) -> dict[str, str]:
    file = _folder() / f"{language}.toml"
    return tomllib.loads(file.read_text("utf-8")) if language in languages() else {}


def _check(name: str, template: Any, source: str) -> None:
    try:
        parsed = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
        gaps = {gap for gap, _, _ in parsed}
        if gaps == _FIELDS.get(name, set()) and not any(spec or conversion for _, spec, conversion in parsed):
            template.format("", **dict.fromkeys(gaps - {""}, ""))
            return
    except (TypeError, ValueError, IndexError) as error:
        raise SettingsError(f"{source}: the template {name!r} cannot be read: {error}", "double lone braces") from error
    wanted = ", ".join(f"{{{gap}}}" for gap in sorted(_FIELDS.get(name, set()))) or "no gap"
    raise SettingsError(f"{source}: the template {name!r} has other gaps than {wanted}", f"use {wanted}")
