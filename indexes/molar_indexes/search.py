"""Searching the items by words, by a photo, by another item; and for somebody.

Words ask twice, by meaning (``content``) and as they are written (``words``, BM25); a photo by its image features. Each
list's scores are divided by its best one and added up, so that a perfect match in one counts as much as in another.
That is for the order alone: how like the words an item is, :meth:`Searcher.similarities` says.

How like an item is what somebody asks for in words, whatever comes beside it: the best of a list may be unlike it.

A cosine says little by itself: how near unrelated words come depends on the encoder, on photos beside the words, and on
the catalogue. So words for things of everyday life (``unrelated.toml``), most of which a shop does not have, are asked
first; how near each of them comes at best to any item is what chance reaches.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from molar_indexes.generations import Generation
from molar_indexes.query_maps import QueryMaps
from molar_retrieval import columns
from molar_retrieval.data import text_features
from molar_retrieval.encoders.base import TRUST_REMEDY, EncoderInput
from molar_retrieval.errors import BackendError, DataError, RequestError, StaleArtefactError, shown
from molar_retrieval.ranking.index_protocol import Index, SparseVector, Vector
from molar_retrieval.ranking.query import ResolvedQuery, ScoredItem, UserQuery
from molar_retrieval.workspace.config_files import read_toml

if TYPE_CHECKING:
    from PIL.Image import Image

    from molar_retrieval.encoders.base import Encoder
    from molar_retrieval.encoders.minilm import NumpyMiniLM

Vectors = npt.NDArray[np.floating]
_RARE = 1.645
"""Standard deviations above the median that one in twenty unrelated texts reaches, if they are normal."""
_BATCH = 65_536
_TENTH = 1.2816
"""As many below the median lies the lowest tenth."""
Queries = dict[str, Vector | SparseVector]
CANDIDATES = 200
PERSONAL = "personal"
_PERSONAL = 0.5
"""What the candidate that suits somebody best gets beside the 1 of a perfect match, the one that suits least gets 0."""
_NO_SETTING = "trust_remote_code"
"""Earlier versions kept it with the encoder's settings; what a file says of it is not believed."""
_BORDER = 0.12
"""A photo is also looked at in a border of this share of its sides: what it was cut out of may have had one."""


@dataclass(frozen=True)
class Likeness:
    """What cosines with the items mean.

    Attributes:
        chance: What unrelated words usually reach at best, which counts as 0.
        notable: What hardly any of them reach.
        own: What an item's own words reach, which counts as 1.
    """

    chance: float
    notable: float
    own: float

    @classmethod
    def of(cls, items: Vectors, asked: Vectors) -> "Likeness | None":
        """Measured by the vectors of all items and of unrelated words, shapes (n, dim) and (m, dim), unit length.

        What chance reaches is read off the lower half of the words, so that those which the shop does have count for
        little. None where the items have nothing that words come near to.
        """
        of_words = np.any(asked != 0, axis=0)  # an item's vector says more, as of its photo
        best, lengths = np.zeros(len(asked)), [np.zeros(0)]
        for start in range(0, len(items), _BATCH):
            some = np.asarray(items[start : start + _BATCH])
            best = np.maximum(best, (some @ asked.T).max(axis=0))
            lengths.append(np.linalg.norm(some[:, of_words], axis=1))
        worded = np.concatenate(lengths)
        if not worded.any():
            return None
        chance, low = float(np.median(best)), float(np.quantile(best, 0.1))
        own = float(np.median(worded[worded > 0]))
        notable = chance + _RARE * (chance - low) / _TENTH
        return cls(chance, notable, own) if notable < own else None

    def similarity(self, cosine: float) -> float:
        """From 0, what unrelated words reach, to 1, what the item's own words do."""
        return float(np.clip((cosine - self.chance) / (self.own - self.chance), 0.0, 1.0))


@cache
def unrelated() -> tuple[str, ...]:
    """Words for things of everyday life."""
    return tuple(read_toml(Path(__file__).with_name("unrelated.toml"))["texts"])


def measured(items: Vectors, encoded: Callable[[str], Vectors]) -> Likeness | None:
    """What cosines with the items mean, where ``encoded`` gives the vector of a text in their space."""
    return Likeness.of(items, np.stack([encoded(text) for text in unrelated()]))


class Searcher:
    """Turns texts and photos into queries to one generation; threads may share it once it has encoded something.

    With ``trust_remote_code`` the encoder may run code that it brings; the generation has no say in it.
    """

    def __init__(self, generation: Generation, *, trust_remote_code: bool = False) -> None:
        self._generation, self._trust = generation, trust_remote_code
        self._encoder: Encoder | None = None
        self._light: NumpyMiniLM | None = None

    @staticmethod
    def has_words(text: str) -> bool:
        """Whether there is anything in a text to search by."""
        return bool(text_features.words(text))

    def text(self, text: str) -> Queries:
        """What a text asks for; RequestError if it has no words, StaleArtefactError if the items' encoder is gone."""
        if not self.has_words(text):
            raise RequestError("there are no words in the text", "say what to look for")
        vector = self._maps.content(self._encoded_text(text)[None])[0]
        asked: dict[str, Vector | SparseVector] = {columns.WORDS: SparseVector(*text_features.query(text))}
        return {columns.CONTENT: vector.tolist(), **asked} if vector.any() else asked

    def photo(self, photo: "str | Path | Image") -> Queries:
        """What a photo asks for: it, mirrored, and in a border.

        Raises:
            DataError: If the file is no photo.
            RequestError: If the items were embedded without photos.
        """
        from PIL import ImageOps

        maps = self._maps.image
        if maps is None or columns.IMAGE_FEATURES not in self._generation.spec.dims:
            raise RequestError("the items were embedded without photos", "search by words")
        image = _opened(photo)
        wide, high = (round(_BORDER * side) for side in image.size)
        corner: Any = image.getpixel((0, 0))
        seen = [image, ImageOps.mirror(image), ImageOps.expand(image, (wide, high), corner)]
        vectors = self._loaded().encode([EncoderInput(image=one) for one in seen])
        return {columns.IMAGE_FEATURES: maps(vectors.mean(axis=0, keepdims=True))[0].tolist()}

    def queries(self, text: str | None, photo: "str | Path | Image | None") -> Queries:
        """What a text and a photo ask for together, see :meth:`text` and :meth:`photo`."""
        return (self.text(text) if text is not None else {}) | (self.photo(photo) if photo is not None else {})

    def similarities(self, text: str, queries: Queries, rows: Sequence[int]) -> tuple[list[float] | None, list[str]]:
        """How like the words the items of some rows are, from 0 to 1, and a note where none is.

        An item that has every word of the text is; of others, :class:`molar_indexes.search.Likeness` says how much.
        None where nothing can be said.
        """
        likeness = self._likeness
        if likeness is None or columns.CONTENT not in queries or not len(rows):
            return None, []
        places = np.asarray(rows, np.int64)
        cosines = self._products(columns.CONTENT, queries[columns.CONTENT], places)
        written = self._having(text_features.query(text)[0], places)
        if cosines.max() < likeness.notable and not written.any():
            note = f"nothing here is clearly like {shown(text)}: these come nearest"
        else:
            note = ""
        found = np.where(written, 1.0, [likeness.similarity(cosine) for cosine in cosines.tolist()])
        return found.tolist(), [note] if note else []

    def find(self, queries: Queries, request: ResolvedQuery, index: Index) -> list[ScoredItem]:
        """At most as many of the best items as are asked for, best first, for queries by the name of a vector.

        What suits the request's user comes first among equals; ``index`` has the generation's items as they are now.
        """
        k = request.query.k
        top = partial(index.top, exclude=request.hidden, where=request.where)
        heads = {name: top(name, query, max(k, CANDIDATES)) for name, query in queries.items()}
        rows = np.array(sorted({row for head in heads.values() for row, _ in head}), np.int64)
        if not len(rows):
            return []
        parts = {name: self._products(name, queries[name], rows) / _best(heads[name]) for name in queries}
        if request.user is not None:
            parts[PERSONAL] = _PERSONAL * self._suits(request.user, rows)
        total = np.sum(list(parts.values()), axis=0)
        order = np.lexsort((rows, -total))[:k]
        scored = [(int(rows[n]), {name: float(values[n]) for name, values in parts.items()}) for n in order]
        return [ScoredItem(row, sum(own.values()), own, rank) for rank, (row, own) in enumerate(scored, 1)]

    def _suits(self, user: UserQuery, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        """How well items suit somebody, from 0 to 1 among them."""
        scores = self._generation.table.items.split(user.vector, user.sparse, rows).sum(axis=1)
        spread = float(np.ptp(scores))
        result: npt.NDArray[np.floating] = (scores - scores.min()) / spread if spread else np.zeros(len(rows))
        return result

    def _products(
        self, name: str, query: Vector | SparseVector, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.floating]:
        if name == columns.CONTENT:
            near: npt.NDArray[np.floating] = self._generation.table.items.content[rows] @ np.asarray(query)
            return near
        found = np.zeros(len(rows))
        place = {int(row): n for n, row in enumerate(rows)}
        for item in self._generation.index.fetch(rows.tolist(), vectors=[name]):
            if isinstance(query, SparseVector):
                own = item.sparse.get(name)
                known = {} if own is None else dict(zip(own.indices, own.values, strict=True))
                found[place[item.row]] = sum(v * known.get(i, 0.0) for i, v in zip(*query, strict=True))
            elif name in item.vectors:
                found[place[item.row]] = float(np.dot(np.asarray(query), np.asarray(item.vectors[name])))
        return found

    def _having(self, dimensions: list[int], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which items have all of the words."""
        found = self._generation.index.fetch(rows.tolist(), vectors=[columns.WORDS])
        having = {
            item.row
            for item in found
            if columns.WORDS in item.sparse and set(dimensions) <= set(item.sparse[columns.WORDS].indices)
        }
        return np.isin(rows, list(having))

    @cached_property
    def _likeness(self) -> Likeness | None:
        def encoded(text: str) -> npt.NDArray[np.float32]:
            vector: npt.NDArray[np.float32] = self._maps.content(self._encoded_text(text)[None])[0]
            return vector

        return measured(self._generation.table.items.content, encoded)

    @property
    def _maps(self) -> QueryMaps:
        maps = self._generation.table.queries
        if maps is None:
            raise StaleArtefactError("the generation cannot be searched by words or photos", "run `molar align`")
        return maps

    def _encoded_text(self, text: str) -> npt.NDArray[np.float32]:
        """The raw vector of a text; without torch where the encoder is the built-in one."""
        from molar_retrieval.encoders import builtin

        encoder = self._maps.encoder
        if encoder.get("family") != builtin.NAME or self._encoder is not None:
            vector: npt.NDArray[np.float32] = self._loaded().encode([EncoderInput(text=text)])[0]
            return vector
        if self._light is None:
            from molar_retrieval.encoders.minilm import NumpyMiniLM

            self._check()
            self._light = NumpyMiniLM(builtin.text_folder(), encoder["settings"]["max_text_tokens"])
        raw: npt.NDArray[np.float32] = np.zeros(self._maps.content.width, np.float32)
        own = self._light.encode(text)
        raw[: len(own)] = own
        return raw

    def _loaded(self) -> "Encoder":
        if self._encoder is None:
            from molar_retrieval.encoders import registry

            self._encoder = registry.load(self._check())
        return self._encoder

    def _check(self) -> Any:
        """Settings of the encoder, which is that of the items and trusted where it brings code of its own."""
        from molar_retrieval.embedding.run import find_model_folder
        from molar_retrieval.encoders import registry
        from molar_retrieval.workspace.settings import EmbedSettings, validated

        maps = self._maps
        if not maps.embed or maps.encoder.get("family") == "external":
            raise RequestError(
                "the items' vectors were made elsewhere", "search by --similar-to, or embed the items here"
            )
        embed = find_model_folder(maps.embed, self._generation.folder.parents[1])
        kept = {key: value for key, value in embed.items() if key != _NO_SETTING}
        settings = validated(EmbedSettings, {**kept, "device": "auto"}, "the generation's manifest")
        if self._trust:
            settings = settings.trusting()
        elif maps.encoder.get("settings", {}).get(_NO_SETTING):
            raise BackendError(f"the items were embedded by {settings.model!r} with code of its own", TRUST_REMEDY)
        here = registry.describe(settings)
        if here.fingerprint != maps.encoder["fingerprint"]:
            raise StaleArtefactError(
                f"the items were embedded by {maps.encoder['name']} ({maps.encoder['revision']}), here is"
                f" {here.name} ({here.revision})",
                "run `molar embed` and `molar align` again, or install the version that made the vectors",
            )
        return settings


def _best(head: list[tuple[int, float]]) -> float:
    return max(head[0][1], 1e-9) if head else 1.0


def _opened(photo: "str | Path | Image") -> "Image":
    from molar_retrieval.data.images import ImageError, accepted, open_file

    try:
        return open_file(Path(photo)) if isinstance(photo, str | Path) else accepted(photo).convert("RGB")
    except ImageError as error:
        name = photo if isinstance(photo, str | Path) else "the image"
        raise DataError(
            f"{name} is no photo to search by: {error.reason}",
            "name a JPEG, PNG or WebP file within the bounds of docs/catalogue.md",
        ) from error
