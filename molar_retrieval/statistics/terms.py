"""In which terms statistics tell what items look like: a map from an encoder's vectors to features, which is public."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from molar_retrieval import fingerprint
from molar_retrieval.alignment.conditioning import Conditioner
from molar_retrieval.arrays import Array, Matrix
from molar_retrieval.encoders.base import VectorBlock

_AXES = "axes"
_BLOCKS, _ENCODER = "content_blocks", "encoder"


@dataclass(frozen=True, eq=False)
class ContentTerms:
    """How content is told: by which encoder, conditioned how, along which axes.

    ``encoder`` has its name and fingerprint; ``axes``, (f, d), lead from conditioned vectors to features.
    """

    encoder: dict[str, Any]
    conditioner: Conditioner
    axes: Matrix

    @cached_property
    def digest(self) -> str:
        """Statistics can be added up where it is the same."""
        said = fingerprint.of_json([self.encoder["fingerprint"], self.facts()[_BLOCKS]])
        return fingerprint.of_bytes([said.encode(), *(array.tobytes() for array in self.tensors().values())])

    def facts(self) -> dict[str, Any]:
        """What is no array, as JSON."""
        blocks = [[block.name, block.start, block.stop] for block in self.conditioner.blocks]
        return {_BLOCKS: blocks, _ENCODER: self.encoder}

    def tensors(self) -> dict[str, Array]:
        """Means, maps and axes, by name."""
        arrays = {f"mean.{number}": mean for number, mean in enumerate(self.conditioner.means)}
        arrays |= {f"map.{number}": matrix for number, matrix in enumerate(self.conditioner.maps)}
        return {name: np.ascontiguousarray(array) for name, array in (arrays | {_AXES: self.axes}).items()}

    @classmethod
    def of(cls, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> Self:
        """The inverse of :meth:`facts` and :meth:`tensors`."""
        blocks = tuple(VectorBlock(*block) for block in facts[_BLOCKS])
        means, maps = (tuple(tensors[f"{what}.{n}"] for n in range(len(blocks))) for what in ("mean", "map"))
        return cls(dict(facts[_ENCODER]), Conditioner(blocks, means, maps), tensors[_AXES])
