"""A trained alignment as data: what publishing and new sessions need."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file

from molar_retrieval.alignment.conditioning import Conditioner
from molar_retrieval.alignment.device import pick_device, pick_precision
from molar_retrieval.alignment.encode import encode_users, item_sides
from molar_retrieval.alignment.network import PostAlignment, tower_shapes
from molar_retrieval.config import AlignSettings
from molar_retrieval.encoders.base import Block
from molar_retrieval.ids import IdMap
from molar_retrieval.interactions import InteractionLog
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import Manifest

Matrix = npt.NDArray[np.float32]
_FILE = "model.safetensors"
_NETWORK = "network."


@dataclass(frozen=True)
class AlignedModel:
    """The network with all that surrounds it.

    A user vector is ``[weight · collaborative, weight · content]``, an item vector ``[collaborative, content]``; their
    dot product is the score, and the two ranges of dimensions are its parts.

    Attributes:
        network: Trained, in evaluation mode.
        conditioner: The map from the encoder's vectors to the network's features.
        warm: Whether an item has training interactions, shape (n_items,).
        weights: Weights of the collaborative and the content tower in the sum.
        precision: In which the network computes.
    """

    network: PostAlignment
    conditioner: Conditioner
    warm: npt.NDArray[np.bool_]
    weights: tuple[float, float]
    precision: str

    @property
    def parts(self) -> tuple[Block, ...]:
        """The ranges of the aligned vector whose products are the parts of a score."""
        left, right = self.network.collaborative.shape.dim, self.network.content.shape.dim
        return Block("collaborative", 0, left), Block("content", left, left + right)

    @property
    def features(self) -> Matrix:
        """Conditioned content vectors of all items, shape (n_items, f), rows of length 1 or 0."""
        return self.network.features.cpu().numpy()

    def items(self) -> Matrix:
        """Aligned vectors of all items, shape (n_items, d)."""
        return np.concatenate(item_sides(self.network, self.warm), axis=1)

    def users(self, log: InteractionLog, rows: npt.NDArray[np.int64], progress: Progress = SILENT) -> Matrix:
        """Aligned vectors of the users at ``rows`` after all of their history in ``log``, shape (len(rows), d)."""
        left, right = encode_users(self.network, log, rows, precision=self.precision, progress=progress)
        return np.concatenate([np.float32(w) * u for w, u in zip(self.weights, (left, right), strict=True)], axis=1)

    def save(self, folder: Path) -> None:
        """Write the model as one safetensors file; settings and weight live in the manifest."""
        tensors = {_NETWORK + n: t.detach().cpu().numpy() for n, t in self.network.state_dict().items()}
        tensors |= {"features": self.features, "warm": self.warm}
        for number, (mean, matrix) in enumerate(zip(self.conditioner.means, self.conditioner.maps, strict=True)):
            tensors |= {f"mean.{number}": mean, f"map.{number}": matrix}
        save_file({n: np.ascontiguousarray(t) for n, t in tensors.items()}, folder / _FILE)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a model from an ``alignment`` artefact."""
        manifest, tensors = Manifest.read(folder), load_file(folder / _FILE)
        settings = AlignSettings(**manifest.settings["align"])
        device = pick_device("cpu")
        features = torch.from_numpy(tensors["features"])
        factors = tensors[_NETWORK + "project_factors.weight"].shape[1]
        network = PostAlignment(*tower_shapes(settings), len(tensors["warm"]), features, factors)
        state = {n.removeprefix(_NETWORK): torch.from_numpy(t) for n, t in tensors.items() if n.startswith(_NETWORK)}
        network.load_state_dict(state)
        blocks = tuple(Block(*b) for b in manifest.facts["content_blocks"])
        conditioner = Conditioner(
            blocks,
            tuple(tensors[f"mean.{n}"] for n in range(len(blocks))),
            tuple(tensors[f"map.{n}"] for n in range(len(blocks))),
        )
        precision = pick_precision(settings.precision, device)
        collaborative, content = manifest.facts["weights"]
        return cls(network.eval(), conditioner, tensors["warm"], (collaborative, content), precision)


def session_log(rows: Sequence[int], n_items: int) -> InteractionLog:
    """A log with one anonymous user who took ``rows`` in that order, all within one moment."""
    items = np.asarray(rows, np.int32)
    return InteractionLog(
        users=IdMap(["session"]),
        items=IdMap([str(row) for row in range(n_items)]),
        offsets=np.array([0, len(items)], np.int64),
        item=items,
        timestamp=np.zeros(len(items), np.int64),
        weight=None,
    )
