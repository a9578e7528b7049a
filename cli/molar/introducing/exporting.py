"""Assignments and exposures as tables: for SQL, for spreadsheets, and as GrowthBook reads them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.errors import DataError, RequestError, suggestion
from molar_retrieval.experiments.definition import TREATMENT, Experiment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.frames import TableWriter
from molar_retrieval.privacy.pseudonyms import of_key
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import lock_beside, sync_folder

ExportFormat = Literal["csv", "parquet", "growthbook"]
_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Exported:
    """What was written of an experiment.

    Attributes:
        folder: Where.
        rows: How many rows each file has, by its name.
    """

    folder: str
    rows: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def export(workspace: Workspace, name: str, folder: Path, form: str) -> Exported:
    """Write who was assigned to which arm, and who met a difference, into a folder; what is there is replaced.

    Raises:
        RequestError: If there is no such experiment or format.
        DataError: If the folder is a file.
    """
    if form not in _TABLES:
        raise RequestError(f"there is no format {form!r}", suggestion(form, _TABLES, f"give {', '.join(_TABLES)}"))
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file", "name a folder, into which the tables are written")
    with ExperimentStore(workspace) as store:
        experiment = store.find(name).experiment
        units = store.units(name).sort_by([("first", "ascending"), ("unit", "ascending")])
    folder.mkdir(parents=True, exist_ok=True)
    ending = ".parquet" if form == "parquet" else ".csv"
    written = {}
    for title, make in _TABLES[form].items():
        table = make(experiment, units)
        _write(folder / f"{title}{ending}", table, ending)
        written[f"{title}{ending}"] = len(table)
    return Exported(str(folder), written)


def assignments(experiment: Experiment, units: pa.Table) -> pa.Table:
    """A row for each unit: whose it is, its arm, since when, and when it first met a difference."""
    return pa.table(
        {
            "experiment": pa.array([experiment.name] * len(units), pa.string()),
            **_whose(experiment, units["unit"]),
            "arm": units["arm"],
            "assigned_at": units["first"].cast(_TIME),
            "exposed_at": units["triggered"].cast(_TIME),
            "saw_both_arms": units["both"],
            "source": units["source"],
        }
    )


def exposures(experiment: Experiment, units: pa.Table) -> pa.Table:
    """A row for each unit that met a difference and saw one arm alone: those whom the analysis counts."""
    met = assignments(experiment, _counted(units))
    return met.select(["experiment", *_whose(experiment, met["arm"]), "arm", "exposed_at"])


def growthbook(experiment: Experiment, units: pa.Table) -> pa.Table:
    """The exposures under the names that GrowthBook asks of an experiment assignment query; variation 0 is control.

    ``user_id`` is the unit: a user's id, or the key of a session or of a block of time.
    """
    met = _counted(units)
    variation = pc.if_else(pc.equal(met["arm"], TREATMENT), "1", "0")
    return pa.table(
        {
            "user_id": met["unit"],
            "timestamp": met["triggered"].cast(_TIME),
            "experiment_id": pa.array([experiment.name] * len(met), pa.string()),
            "variation_id": variation,
        }
    )


_TABLES: dict[str, dict[str, Callable[[Experiment, pa.Table], pa.Table]]] = {
    "csv": {"assignments": assignments, "exposures": exposures},
    "parquet": {"assignments": assignments, "exposures": exposures},
    "growthbook": {"exposures": growthbook},
}


def _counted(units: pa.Table) -> pa.Table:
    return units.filter(pc.and_(pc.is_valid(units["triggered"]), pc.invert(units["both"])))


def _whose(experiment: Experiment, units: pa.ChunkedArray) -> dict[str, pa.Array]:
    """The columns that say whose a row is: a person's ids, or a block of time."""
    if experiment.unit == "time":
        return {"block": units}
    known = [of_key(unit) for unit in units.to_pylist()]
    return {
        "user_id": pa.array([value if kind == "user_id" else None for kind, value in known], pa.string()),
        "anonymous_id": pa.array([value if kind == "session_id" else None for kind, value in known], pa.string()),
    }


def _write(path: Path, table: pa.Table, ending: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with lock_beside(path):
        try:
            with TableWriter(partial, table.schema, ending) as writer:
                writer.write(table)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)
