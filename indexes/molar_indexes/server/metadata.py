"""What a collection says of itself, as its metadata: the generation that it holds, and what that was made from."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from molar_indexes.generations import Generation
from molar_indexes.server.config import ServerConfig
from molar_indexes.server.layout import Layout
from molar_retrieval.errors import StaleArtefactError
from molar_retrieval.ranking.index_protocol import IndexSpec
from molar_retrieval.workspace import fingerprint

KEY = "molar"
FORMAT = 2
"""Items' points have rows as ids. In the first one they had UUIDs, and their rows were payload; it can be listed."""
_PEOPLE = "people"
_KINDS = {"content": "encoder and its vectors", "catalogue": "catalogue", _PEOPLE: "names of people"}
"""How inputs of a generation are called to people, where not by their kind."""


@dataclass(frozen=True)
class CollectionMetadata:
    """What is known of a collection of ``count`` points, which holds a generation's ``items`` or ``users``.

    Attributes:
        inputs: Fingerprints of what the generation was made from, by kind; with users, of what these are called.
        ids: Fingerprint of the items' ids in their order.
        spec: What the index holds, as JSON text: servers read numbers of 17 digits a bit off.
        begun: When the collection was made, in seconds since 1970.
        whole: Whether it was verified; only such collections are ever live.
        efs: Candidate lists that its own graphs need, see :attr:`molar_retrieval.ranking.index_protocol.IndexSpec.efs`.
        format: How its points are stored, up to :data:`FORMAT`.
    """

    generation: str
    holds: str
    inputs: Mapping[str, str]
    ids: str
    spec: str
    count: int
    layout: Layout
    begun: float = 0.0
    whole: bool = False
    efs: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def of(cls, generation: Generation, layout: Layout, holds: str) -> Self:
        """The metadata of a generation's items or users."""
        count = len(generation.users) if holds == "users" else int(generation.manifest.facts[holds])
        inputs, names = dict(generation.manifest.inputs), generation.manifest.facts.get(_PEOPLE)
        inputs |= {_PEOPLE: names} if holds == "users" and names is not None else {}
        held = {name: value for name, value in asdict(generation.spec).items() if name != "efs"}  # of the graphs here
        spec = json.dumps(held, sort_keys=True)
        return cls(generation.name, holds, inputs, ids_of(generation), spec, count, layout, time.time())

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> Self | None:
        """The metadata in a collection's metadata; None where it is not one of ours."""
        found = (stored or {}).get(KEY)
        try:
            if found is None or not 1 <= found["format"] <= FORMAT:
                return None
            return cls(**{**found, "layout": Layout(**found["layout"])})
        except (TypeError, KeyError):
            return None

    def as_metadata(self) -> dict[str, Any]:
        """As a collection's metadata."""
        return {KEY: asdict(self)}

    def verified(self, efs: Mapping[str, int]) -> Self:
        """The same of a collection that was verified, and is searched so."""
        return replace(self, whole=True, efs=efs)

    @property
    def present(self) -> bool:
        """Whether this version asks such points; those of earlier ones can only be listed and removed."""
        return self.format == FORMAT

    @property
    def mark(self) -> str:
        """Eight characters that differ between layouts and formats."""
        return self.layout.mark if self.format == 1 else fingerprint.of_json([asdict(self.layout), self.format])[:8]

    @property
    def people(self) -> str | None:
        """A digest of what its users are called; None where it has none."""
        return self.inputs.get(_PEOPLE)

    @property
    def age(self) -> tuple[str, float]:
        """Orders collections: by the second in which their generation was made, then by when they were."""
        return self.generation[:15], self.begun

    @property
    def index_spec(self) -> IndexSpec:
        """What the index holds."""
        spec = json.loads(self.spec)
        return IndexSpec(**{**spec, "sparse": tuple(spec["sparse"])})

    def differs(self, other: "CollectionMetadata") -> list[str]:
        """What of two generations is not the same, as sentences with both sides."""
        kinds = [*self.inputs, *(kind for kind in other.inputs if kind not in self.inputs)]
        found = [
            f"the {_KINDS.get(kind, kind)} {_short(self.inputs.get(kind))} there, {_short(other.inputs.get(kind))} here"
            for kind in kinds
            if self.inputs.get(kind) != other.inputs.get(kind)
        ]
        if self.format != other.format:
            found.append(f"points of format {self.format} there, {other.format} here")
        if self.ids != other.ids:
            found.append(f"the items' ids {_short(self.ids)} there, {_short(other.ids)} here")
        if self.spec != other.spec:
            found.append(f"vectors {_vectors(self)} there, {_vectors(other)} here")
        if self.count != other.count and self.holds != "users":  # people may have been removed on one side so far
            found.append(f"{self.count:,} {self.holds} there, {other.count:,} here")
        return found


def refuse_other(server: ServerConfig, collection: str, there: CollectionMetadata, here: CollectionMetadata) -> None:
    """Refuse a collection that does not hold what the workspace's generation of the same name does.

    Raises :class:`StaleArtefactError`, which names both sides.
    """
    if problems := there.differs(here):
        raise StaleArtefactError(
            f"the collection {collection!r} of {server.name} is not the workspace's generation {here.generation}: "
            + "; ".join(problems),
            "run `molar index push`, or ask from the workspace that the collection was made from",
        )


def ids_of(generation: Generation) -> str:
    """The fingerprint of the items' ids in their order."""
    text, ends = generation.table.ids
    return fingerprint.of_bytes([text.tobytes(), ends.astype("<i8").tobytes()])


def _short(mark: str | None) -> str:
    return "none" if mark is None else mark[:16]


def _vectors(metadata: CollectionMetadata) -> str:
    spec = metadata.index_spec
    return ", ".join([*(f"{name} {dim}" for name, dim in spec.dims.items()), *spec.sparse])
