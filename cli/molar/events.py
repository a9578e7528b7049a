"""The event log of a shop: appended to, looked at, sealed, written out."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from molar.base import ShopBase, front_door
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.frames import Frame, unescaped
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace.activity_log import recorded

if TYPE_CHECKING:
    from molar_retrieval.data.event_log import AppendResult, CompactResult, EventLog
    from molar_retrieval.data.event_log_reader import Person
    from molar_retrieval.frames import Frame
    from molar_retrieval.workspace.artefacts import Workspace

_ROWS = 10_000
_EXPORTED = {"seq", "received"}  # columns that only an export has


@front_door
@dataclass(frozen=True)
class Events:
    """What people and the catalogue did, appended and never changed; the lines of the log are one for each item."""

    shop: ShopBase

    def append(self, source: str | Path | BinaryIO | Iterable[Mapping[str, Any]]) -> "AppendResult":
        """Append events; when it returns, those accepted survive a kill and a loss of power.

        An event that is there already, by its id, is counted as repeated; one that cannot be taken is named with its
        row, its field and the remedy, and keeps no other one out. With ``[events] late_days`` in the settings, what
        somebody did longer ago is not taken.

        A file in the format of the catalogue's interactions, as ``catalog.toml`` describes it, is read as order lines:
        each row is a purchase, unless a column says otherwise, and rows that were appended before are repeated ones.

        Args:
            source: A JSONL, CSV or Parquet file; an open file or pipe of JSON lines; dictionaries; or a pandas, polars
                or pyarrow table.

        Raises:
            DataError: If the source cannot be read at all, has neither the columns of events nor those of the
                interactions, or the log cannot be written.
            MissingArtefactError: If there is no workspace and no catalogue to make one for.
        """
        from molar_retrieval.data.event_log import AppendResult, EventLog

        report = AppendResult()
        if isinstance(source, str | Path):
            _check_file(Path(source))
        place = nullcontext(self.shop.ready()) if self.shop.catalogue is None else self.shop.bound()
        with place as workspace:
            rows = _rows(source, report, workspace, self.shop.catalogue)
            with closing(EventLog(workspace)) as log:
                return log.append(rows, report, late_days=self.shop.settings.events.late_days)

    def tail(self, n: int = 10) -> "Frame":
        """The last ``n`` lines that arrived, at most 10,000, the newest last.

        Raises:
            MissingArtefactError: If nothing was appended yet.
        """
        with self._log() as log:
            return Frame(log.tail(n))

    def table(self, *, user_id: str | None = None, session_id: str | None = None, since: int = 0) -> "Frame":
        """Lines by user, then time, then arrival; users first, then sessions, then changes of items.

        Args:
            user_id: Only those of this user.
            session_id: Only those of this session.
            since: Only those that arrived after the one with this ``seq``.
        """
        with self._log() as log:
            return Frame(log.table(since, _person(log.workspace, user_id, session_id)))

    def compact(self, keep_days: int | None = None, *, force: bool = False) -> "CompactResult":
        """Seal the days before today (UTC) as Parquet, one file each; may be killed anywhere.

        Lines with a time out of bounds (before 1990, after 9999), which older versions accepted, are removed, counted
        and named among the refused events.

        Args:
            keep_days: Days before today that are kept; older ones are removed. None: as the settings say,
                ``[events] keep_days``; where they say nothing, all are kept.
            force: Take damaged rows out of the log, and list them in ``events/refused.jsonl``.

        Raises:
            DataError: If another process compacts this log, or rows are damaged or missing.
        """
        kept = self.shop.settings.events.keep_days if keep_days is None else keep_days
        with self._log() as log, recorded(log.workspace, "events compact") as work:
            done = log.compact(kept, force=force)
            work.outcome = f"{done.sealed_lines:,} lines sealed, {done.removed_lines:,} removed"
            return done

    def export(
        self, path: str | Path, *, user_id: str | None = None, session_id: str | None = None, since: int = 0
    ) -> int:
        """Write the lines of :meth:`table` as .parquet, .csv or .jsonl; how many there are.

        They are in the order of time, then arrival, and one day of them is in memory at a time.

        Args:
            path: The file; what is written can be appended again.
            user_id: See :meth:`table`.
            session_id: See :meth:`table`.
            since: See :meth:`table`.
        """
        with self._log() as log:
            return log.export(Path(path), since, _person(log.workspace, user_id, session_id))

    @contextmanager
    def _log(self) -> "Iterator[EventLog]":
        from molar_retrieval.data.event_log import EventLog

        with closing(EventLog.existing(self.shop.opened())) as log:
            yield log


def _person(workspace: "Workspace", user_id: str | None, session_id: str | None) -> "Person | None":
    if user_id is not None and session_id is not None:
        raise RequestError("both user_id and session_id are given", "name one of them")
    names = Pseudonymiser.of(workspace.root)
    if user_id is not None:
        return "user_id", names.user(user_id)
    return None if session_id is None else ("session_id", names.session(session_id))


def _of_export(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Rows of a CSV file; of one that :meth:`Events.export` wrote, with its texts as they were."""
    for number, row in rows:
        if row.keys() >= _EXPORTED:
            yield number, {name: unescaped(one) if isinstance(one, str) else one for name, one in row.items()}
        else:
            yield number, row


def _check_file(path: Path) -> None:
    from molar_retrieval.data.schema import NAMED_FORMATS

    if path.suffix.lower() not in NAMED_FORMATS:
        raise DataError(f"{path} is no table of events", f"name a file ending in {', '.join(NAMED_FORMATS)}, or -")
    if not path.is_file():
        raise DataError(f"there is no file {path}", "name one, or - for what comes through a pipe")


def _rows(
    source: Any, report: "AppendResult", workspace: "Workspace", catalogue: Path | None
) -> Iterable[tuple[int, Mapping[str, Any]]]:
    from molar_retrieval.data.event_log import Refused
    from molar_retrieval.data.order_files import order_lines
    from molar_retrieval.data.readers import objects
    from molar_retrieval.data.schema import open_source

    refused = Refused(report)
    if isinstance(source, str | Path):
        path = Path(source)
        lines = order_lines(path, lambda: catalogue or workspace.catalogue, Pseudonymiser.of(workspace.root))
        if lines is not None:
            return lines.events(report, refused)
        rows = open_source(path).records(_ROWS, refused)
        return _of_export(rows) if path.suffix.lower() == ".csv" else rows
    if hasattr(source, "read"):
        return objects(source, "standard input", refused)
    if hasattr(source, "__arrow_c_stream__"):
        from molar.tables import as_table

        source = as_table(source, "events").to_pylist()
    if isinstance(source, Mapping) or not isinstance(source, Iterable):
        raise DataError(f"a {type(source).__name__} is no source of events", "bring a list of dictionaries, or a file")
    return enumerate(source, 1)
