"""Embeds a short and then a long catalogue, and prints by how many MiB the second made the process grow.

Arguments: the workspace of each.
"""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from embedding_fakes import FakeEncoder, info, run

from molar_retrieval.encoders.base import EncoderInput
from molar_retrieval.workspace.artefacts import Workspace


class Trivial(FakeEncoder):
    def encode(self, items: Sequence[EncoderInput]) -> np.ndarray:
        vectors = np.zeros((len(items), self.dim), np.float32)
        vectors[:, 0] = 1
        return vectors


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    encoder = Trivial(info(modalities=("text",)), dim=64)
    run(Workspace.open(Path(sys.argv[1])), encoder, batch_size=256)
    before = peak()
    report = run(Workspace.open(Path(sys.argv[2])), encoder, batch_size=256)
    sys.stdout.write(f"{report.encoded} {peak() - before:.1f}\n")
