"""From what somebody types or shows to vectors in the items' spaces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.encoders.base import VectorBlock
from molar_retrieval.models.content_features import Conditioner

Array = npt.NDArray[Any]
_CONTENT, _IMAGE = "content", "look"  # names of the two maps in a generation


@dataclass(frozen=True, eq=False)
class QueryMaps:
    """What a generation keeps to answer texts and photos."""

    embed: Mapping[str, Any]  # settings of the encoder that made the items' vectors
    encoder: Mapping[str, Any]  # what it said about itself
    content: Conditioner  # from its vectors to those of the name ``content``
    image: Conditioner | None  # from its vectors to image features; None where it sees no photos

    @property
    def _maps(self) -> dict[str, Conditioner]:
        return {_CONTENT: self.content} | ({} if self.image is None else {_IMAGE: self.image})

    def described(self) -> dict[str, Any]:
        """All that is no array, JSON-able."""
        blocks = {
            name: [[block.name, block.start, block.stop] for block in maps.blocks] for name, maps in self._maps.items()
        }
        return {"embed": dict(self.embed), "encoder": dict(self.encoder), _IMAGE: None} | blocks

    def to_tensors(self) -> dict[str, Array]:
        """The arrays by name."""
        return {
            f"{name}.{kind}.{number}": np.asarray(array)
            for name, maps in self._maps.items()
            for kind, arrays in (("mean", maps.means), ("map", maps.maps))
            for number, array in enumerate(arrays)
        }

    @classmethod
    def of(cls, described: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of the two."""

        def read(name: str) -> Conditioner:
            blocks = described[name]
            means, maps = ([tensors[f"{name}.{kind}.{n}"] for n in range(len(blocks))] for kind in ("mean", "map"))
            return Conditioner(tuple(VectorBlock(*block) for block in blocks), tuple(means), tuple(maps))

        image = None if described[_IMAGE] is None else read(_IMAGE)
        return cls(described["embed"], described["encoder"], read(_CONTENT), image)
