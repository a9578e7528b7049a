"""Per-case scores as Parquet: what intervals, tests, slices and the gate are computed from.

One row per case and target, or per case where all its targets are scored as a set::

    RUN/scores/SPLIT/MODEL/seed-0.parquet
        case             int64        number of the case within the split
        user             string       whose case it is
        target           string       the item that would have been right; null: the row scores a set
        ndcg@10, …       float        one column per metric; higher is better
        slice:history …  dictionary   one column per dimension; null: in no slice of it

The file's metadata hold the split's name and fingerprint, the model and the seed.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from molar_eval.slices import Labels
from molar_retrieval.errors import DataError, MissingArtefactError
from molar_retrieval.workspace.files import for_owner

FOLDER = "scores"
_METADATA = b"molar.scores"
_SLICE = "slice:"
_KEYS = ("case", "user", "target")


@dataclass(frozen=True, eq=False)
class CaseScores:
    """What one model with one seed scored on the cases of one split, in n rows.

    Files with the same ``fingerprint``, the split's, score the same cases. ``case`` has a number for each row, ``user``
    and ``target`` ids as Arrow strings; ``values`` have shape (n, metrics), ``metrics`` names such as ``ndcg@10``.
    """

    split: str
    fingerprint: str
    model: str
    seed: int
    case: npt.NDArray[np.int64]
    user: pa.Array
    target: pa.Array
    metrics: tuple[str, ...]
    values: npt.NDArray[np.float32]
    slices: Sequence[Labels] = ()

    def users(self) -> npt.NDArray[np.int64]:
        """The users as numbers, in order of first appearance, shape (n,)."""
        return np.asarray(self.user.dictionary_encode().indices, np.int64)


def scores_path(run: Path, split: str, model: str, seed: int) -> Path:
    """Where the scores of a model lie in the folder of a run."""
    return run / FOLDER / split / quote(model, safe=" ()+,=") / f"seed-{seed}.parquet"


def write_scores(path: Path, scores: CaseScores) -> None:
    """Write the file so that a reader sees all of it or nothing; folders are made.

    Raises :class:`DataError` if a score is not a finite number, which no mean or test could be computed from.
    """
    finite = np.isfinite(scores.values).all(axis=0)
    if not finite.all():
        name = scores.metrics[int(np.argmin(finite))]
        raise DataError(f"{name} of {scores.model!r} is not a number for some case", "score every case, 0 for a miss")
    columns: dict[str, Any] = {
        "case": pa.array(scores.case, pa.int64()),
        "user": scores.user.cast(pa.string()),
        "target": scores.target.cast(pa.string()),
    }
    for number, name in enumerate(scores.metrics):
        columns[name] = pa.array(scores.values[:, number], pa.float32())
    for labels in scores.slices:
        columns[_SLICE + labels.dimension] = labels.array()
    about = {
        "split": scores.split,
        "fingerprint": scores.fingerprint,
        "model": scores.model,
        "seed": scores.seed,
        # Parquet does not promise to keep the order of a dictionary, nor its unused values.
        "slices": {labels.dimension: labels.names for labels in scores.slices},
    }
    table = pa.table(columns).replace_schema_metadata({_METADATA: json.dumps(about, ensure_ascii=False)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, temporary, compression="zstd")
    for_owner(temporary)
    temporary.replace(path)


def read_scores(path: Path) -> CaseScores:
    """Read what :func:`write_scores` wrote.

    Raises :class:`MissingArtefactError` if there is none, :class:`DataError` if it is something else.
    """
    if not path.exists():
        raise MissingArtefactError(f"there are no scores {path}", "run `molar evaluate` first")
    try:
        table = pq.read_table(path, use_threads=False).combine_chunks()
        about = json.loads(table.schema.metadata[_METADATA])
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise DataError(f"{path} holds no scores: {error}", "delete it and run `molar evaluate` again") from error
    metrics = tuple(n for n in table.column_names if n not in _KEYS and not n.startswith(_SLICE))
    values = np.empty((len(table), len(metrics)), np.float32)
    for number, name in enumerate(metrics):
        values[:, number] = table[name].to_numpy()
    return CaseScores(
        split=about["split"],
        fingerprint=about["fingerprint"],
        model=about["model"],
        seed=about["seed"],
        case=table["case"].to_numpy(),
        user=_one(table["user"]),
        target=_one(table["target"]),
        metrics=metrics,
        values=values,
        slices=tuple(
            Labels.of_strings(dimension, names, _one(table[_SLICE + dimension]).dictionary_decode())
            for dimension, names in about["slices"].items()
        ),
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
