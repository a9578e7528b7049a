"""From a recommender to a folder for devices: gathered, the user encoder proved, written."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from molar_indexes.answerer import Answerer
from molar_indexes.device.contents import gather
from molar_indexes.device.encoder import onnx_model
from molar_indexes.device.write import DeviceExport, check_place, write
from molar_indexes.recommender import Recommender
from molar_retrieval.data.catalogue import photos_of
from molar_retrieval.errors import BackendError
from molar_retrieval.models.towers.inference import LightEnsemble, NumpyTower, time_gaps
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.rng import generator
from molar_retrieval.workspace.tensors import Array

_SIZE = (320, 320)
"""Pixels of a photo's copy at most."""
_TRIED = (1, 2, 7, 1_000)
"""Lengths of made-up histories by which the model is compared with the encoder; a tower reads the last ones."""
_LONG = 10**9  # seconds over which these are spread
_NEAR = 1e-4
"""How far numbers of the two may be apart: as NumPy's encoder may be from the network that was trained."""


def export_device(
    recommender: Recommender,
    out: Path,
    *,
    fields: Sequence[str] = (),
    photos: bool = False,
    rerank: bool = True,
    progress: Progress = SILENT,
) -> DeviceExport:
    """See :meth:`molar.Shop.export_device`."""
    check_place(out)
    now = recommender.now or datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)
    with recommender.answering() as answerer:
        contents = gather(answerer, fields, rerank, now)
        encoder = _proved(contents.towers, contents.tensors)
        copies = _photos(answerer, contents.ids, progress) if photos else {}
        return write(out, contents, encoder, copies, answerer.generation.name, now)


def _photos(answerer: Answerer, ids: Sequence[str], progress: Progress) -> dict[int, bytes]:
    """Small copies of the photos that can be read, by row."""
    from molar_retrieval.reports.html import small_copy

    copies, photo_of = {}, photos_of(answerer.workspace)
    progress.start("photos", len(ids))
    for row, item_id in enumerate(ids):
        path = photo_of(item_id) if item_id else None
        copy = None if path is None else small_copy(path.parent, path.name, _SIZE)
        if copy is not None:
            copies[row] = copy
        progress.advance()
    progress.finish()
    return copies


def _proved(towers: Mapping[str, NumpyTower | LightEnsemble], tensors: Mapping[str, Array]) -> bytes | None:
    """The towers as a model that a runtime was seen to compute as NumPy does; None where there are none."""
    if not towers:
        return None
    try:
        import onnxruntime

        model = onnx_model(towers)
    except ImportError as error:
        raise BackendError(
            f"the user encoder cannot be exported: {error}", "install it: `pip install 'molar-retrieval[device]'`"
        ) from error
    _compare(onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]), towers, tensors)
    return model


def _compare(session: Any, towers: Mapping[str, NumpyTower | LightEnsemble], tensors: Mapping[str, Array]) -> None:
    random = generator(0, "device")
    for length in _TRIED:
        given: dict[str, Array] = {}
        wanted: dict[str, Array] = {}
        for name, tower in towers.items():
            count, table = min(length, tower.history), tensors[f"tower.{name}"]
            vectors = table[random.integers(0, len(table), count)]
            seconds = np.sort(random.integers(0, _LONG, count))
            gaps = time_gaps(seconds, tower.buckets).astype(np.int32)
            given |= {f"{name}.vectors": vectors, f"{name}.gaps": gaps}
            wanted[f"{name}.user"] = tower(vectors, seconds)
        for (name, user), found in zip(wanted.items(), session.run(list(wanted), given), strict=True):
            apart = float(np.abs(found[0] - user).max())
            if not apart <= _NEAR:
                raise BackendError(
                    f"the exported user encoder differs by {apart:.2g} in {name} after {length} items",
                    "install another version of onnxruntime, and report this",
                )
