"""Who is in which arm where another service of the shop decides that, from a file.

A row is read as an event is, with its names, aliases and times: ``user_id`` or ``session_id``, ``arm``, ``timestamp``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from molar_retrieval.data.event_log import AppendResult, Refused
from molar_retrieval.data.event_parsing import FIELDS, FieldError, field_of, parse_event
from molar_retrieval.data.schema import FORMATS, open_source
from molar_retrieval.errors import DataError, RequestError, suggestion
from molar_retrieval.experiments.definition import ARMS
from molar_retrieval.experiments.records import Assignment
from molar_retrieval.experiments.store import ExperimentStore
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.privacy.suppression import SuppressionList
from molar_retrieval.workspace.artefacts import Workspace

_AT_ONCE = 10_000


@dataclass
class Assigned(AppendResult):
    """What became of the assignments of a file.

    Attributes:
        accepted: People who had no arm.
        repeated: People who had this one.
        refused: Rows that were not taken; those of people who have the other arm are among them.
        refusals: The first 1,000 of these, by row.
        left_out: People who are forgotten or object, of whom nothing is put on record.
    """

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "seq"}


def assign(workspace: Workspace, name: str, path: Path, now: int) -> Assigned:
    """Put the assignments of a file on record; the arm that somebody has on record stays.

    Raises:
        RequestError: If there is no such experiment, or molar assigns its people itself.
        DataError: If the file cannot be read at all.
    """
    if path.suffix not in FORMATS or not path.is_file():
        raise DataError(f"{path} is no table of assignments", f"name a file ending in {', '.join(FORMATS)}")
    report, names = Assigned(), Pseudonymiser.of(workspace.root)
    with ExperimentStore(workspace) as store:
        if store.find(name).experiment.assigned != "elsewhere":
            raise RequestError(
                f"the people of {name} are assigned here", "begin one with --assigned elsewhere to bring assignments"
            )
        rows = _read(path, name, now, report, names)
        suppressed = SuppressionList.of(workspace.root)
        while some := list(islice(rows, _AT_ONCE)):
            kept = [row for row in some if row.assignment.first > suppressed.keyed(row.assignment.unit)]
            report.left_out += len(some) - len(kept)
            _put(store, name, kept, report)
    return report


@dataclass(frozen=True)
class _Row:
    number: int
    assignment: Assignment


def _read(path: Path, name: str, now: int, report: Assigned, names: Pseudonymiser) -> Iterator[_Row]:
    for number, row in open_source(path).records(_AT_ONCE, Refused(report)):
        try:
            yield _Row(number, _assignment(name, row, now, names))
        except FieldError as error:
            report.refuse(number, error.field, f"{path.name}: {error.message}", error.hint)


def _assignment(name: str, row: Mapping[str, Any], now: int, names: Pseudonymiser) -> Assignment:
    named = {known: value for key, value in row.items() if value is not None and (known := field_of(key)) is not None}
    told = {key: value for key, value in named.items() if key in ("user_id", "session_id", "arm", "timestamp")}
    (line,) = parse_event({"event": "search", "event_id": "assignment", **told}, now)
    found = dict(zip(FIELDS, line, strict=True))
    arm = str(found["arm"] or "").removeprefix(f"{name}:")
    if arm not in ARMS:
        raise FieldError("arm", f"the arm {arm!r} is none", suggestion(arm, ARMS, f"give {' or '.join(ARMS)}"))
    return Assignment(name, names.key(found["user_id"], found["session_id"]), arm, found["timestamp"], "elsewhere")


def _put(store: ExperimentStore, name: str, rows: Sequence[_Row], report: Assigned) -> None:
    """Assign those who have no arm; of somebody who comes twice, the first row counts."""
    known = store.assigned(name, [row.assignment.unit for row in rows])
    new: dict[str, Assignment] = {}
    for row in rows:
        one = row.assignment
        arm = known.get(one.unit) or (new[one.unit].arm if one.unit in new else None)
        if arm is None:
            new[one.unit] = one
            report.accepted += 1
        elif arm == one.arm:
            report.repeated += 1
        else:
            report.refuse(row.number, "arm", f"the person has the arm {arm} on record", "keep arms as they were first")
    store.assign(list(new.values()))
