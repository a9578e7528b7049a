"""From what somebody types or shows to vectors in the items' spaces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from molar_retrieval.alignment.conditioning import Conditioner
from molar_retrieval.encoders.base import VectorBlock

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class QueryMaps:
    """What a generation keeps to answer texts and photos.

    Attributes:
        embed: Settings of the encoder that made the items' vectors, as data.
        encoder: What it said about itself.
        content: From its vectors to those of the name ``content``.
        look: From its vectors to those of the name ``look``; None where it sees no photos.
    """

    embed: Mapping[str, Any]
    encoder: Mapping[str, Any]
    content: Conditioner
    look: Conditioner | None

    def described(self) -> dict[str, Any]:
        """All that is no array, JSON-able."""
        return {"embed": dict(self.embed), "encoder": dict(self.encoder), "content": _blocks(self.content)} | {
            "look": None if self.look is None else _blocks(self.look)
        }

    def to_tensors(self) -> dict[str, Array]:
        """The arrays by name."""
        return _arrays("content", self.content) | ({} if self.look is None else _arrays("look", self.look))

    @classmethod
    def of(cls, described: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of the two."""
        looks = described["look"]
        return cls(
            described["embed"],
            described["encoder"],
            _conditioner("content", described["content"], tensors),
            None if looks is None else _conditioner("look", looks, tensors),
        )


def _blocks(maps: Conditioner) -> list[list[Any]]:
    return [[block.name, block.start, block.stop] for block in maps.blocks]


def _arrays(name: str, maps: Conditioner) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for number, (mean, matrix) in enumerate(zip(maps.means, maps.maps, strict=True)):
        arrays |= {f"{name}.mean.{number}": np.asarray(mean), f"{name}.map.{number}": np.asarray(matrix)}
    return arrays


def _conditioner(name: str, blocks: list[list[Any]], tensors: Mapping[str, Array]) -> Conditioner:
    count = range(len(blocks))
    return Conditioner(
        tuple(VectorBlock(*block) for block in blocks),
        tuple(tensors[f"{name}.mean.{n}"] for n in count),
        tuple(tensors[f"{name}.map.{n}"] for n in count),
    )
