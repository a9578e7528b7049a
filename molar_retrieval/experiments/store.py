"""What is on record of experiments: ``WORKSPACE/experiments/experiments.sqlite``.

Stages and looks are only added. A stage is on the disk when :meth:`ExperimentStore.move` returns, a look when
:meth:`ExperimentStore.look` does; a look that is written is never made again, so the error that was spent is the same
after a kill. The journal is a plain one, with which several processes may write whatever the version of SQLite.
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from molar_retrieval.errors import DataError, MissingArtefactError, RequestError, StaleArtefactError, suggestion
from molar_retrieval.experiments.definition import ARMS, STAGES, STOPPED, Experiment, Stage
from molar_retrieval.experiments.records import Assignment, Look, Running, ServedRow, ShadowRow, StageRow
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import OWNER, disk_error

if TYPE_CHECKING:
    import pyarrow as pa

KIND, FILE, FORMAT = "experiments", "experiments.sqlite", 1
SHADOWS = 50_000
"""Comparisons of an experiment that are kept; the oldest go."""
_WAIT = 10.0  # seconds that one process waits for another one
_MOST = 500  # values of one question
_TABLES = """
CREATE TABLE IF NOT EXISTS experiments (name TEXT PRIMARY KEY, definition TEXT NOT NULL, begun INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS stages (number INTEGER PRIMARY KEY AUTOINCREMENT, experiment TEXT NOT NULL,
    stage TEXT NOT NULL, begun INTEGER NOT NULL, why TEXT NOT NULL, by TEXT NOT NULL, automatic INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS units (experiment TEXT, unit TEXT, arm TEXT NOT NULL, first INTEGER NOT NULL,
    triggered INTEGER, both INTEGER NOT NULL DEFAULT 0, source TEXT NOT NULL,
    PRIMARY KEY (experiment, unit)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lists (experiment TEXT, request_id TEXT, unit TEXT NOT NULL, at INTEGER NOT NULL,
    teams TEXT NOT NULL, PRIMARY KEY (experiment, request_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS served (experiment TEXT, arm TEXT, minute INTEGER, answers INTEGER, errors INTEGER,
    empty INTEGER, late INTEGER, milliseconds TEXT NOT NULL, process TEXT,
    PRIMARY KEY (experiment, arm, minute, process)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shadows (number INTEGER PRIMARY KEY, experiment TEXT NOT NULL, at INTEGER NOT NULL,
    overlap REAL, control_ms REAL, treatment_ms REAL, control_error INTEGER, treatment_error INTEGER,
    control_empty INTEGER, treatment_empty INTEGER, control_price REAL, treatment_price REAL);
CREATE TABLE IF NOT EXISTS looks (experiment TEXT, number INTEGER, at INTEGER NOT NULL, stage TEXT NOT NULL,
    metric TEXT NOT NULL, information REAL NOT NULL, spent REAL NOT NULL, statistic REAL, bound REAL,
    decision TEXT NOT NULL, facts TEXT NOT NULL, PRIMARY KEY (experiment, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS shadows_of ON shadows (experiment, number)
"""


class ExperimentStore:
    """The record of a workspace's experiments, open until :meth:`close`; threads share it, and processes the file.

    Args:
        workspace: The workspace.
        make: Whether to make the file where there is none; else everything is as if nothing had ever begun.
    """

    def __init__(self, workspace: Workspace, *, make: bool = False) -> None:
        self.path = workspace.root / KIND / FILE
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        if make:
            self.path.parent.mkdir(exist_ok=True)
            with self._asked():
                pass

    def __enter__(self) -> "ExperimentStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def version(self) -> int:
        """A number that grows with every stage that is written; 0 before the first one. It costs microseconds."""
        found = self._rows("SELECT max(number) FROM stages")
        return int(found[0][0] or 0) if found else 0

    def start(self, experiment: Experiment, stage: Stage, at: int, by: str = "", why: str = "begun") -> None:
        """Put an experiment on record and begin its first stage; a RequestError where the name is taken."""
        with self._writing() as connection:
            row = experiment.name, json.dumps(experiment.to_dict(), ensure_ascii=False), at
            if not connection.execute("INSERT OR IGNORE INTO experiments VALUES (?, ?, ?)", row).rowcount:
                words = f"there was an experiment {experiment.name} already"
                raise RequestError(words, "give another name, so that both can be told apart")
            self._add_stage(connection, experiment.name, stage, at, why, by, automatic=False)

    def move(self, name: str, stage: Stage, at: int, why: str, by: str = "", *, automatic: bool = False) -> bool:
        """Begin another stage; False where somebody was faster, or the experiment is over.

        Raises:
            RequestError: If there is no such experiment.
            DataError: If the clock stands before the begin of the present stage.
        """
        with self._writing() as connection:
            present = self.find(name).stage
            if present.stage in (STOPPED, stage):
                return False
            if at < present.begun:
                words = f"it is earlier than the begin of the stage that experiment {name} is in"
                raise DataError(words, "set the clock of this machine")
            self._add_stage(connection, name, stage, at, why, by, automatic=automatic)
        return True

    def all(self) -> list[Running]:
        """All experiments that ever began, the last one first, each in its last stage."""
        rows = self._rows(
            "SELECT definition, number, stage, stages.begun, why, by, automatic FROM stages JOIN experiments"
            " ON name = experiment WHERE number IN (SELECT max(number) FROM stages GROUP BY experiment)"
            " ORDER BY experiments.begun DESC, name"
        )
        return [Running(Experiment.from_dict(json.loads(row[0])), _stage(row[1:])) for row in rows]

    def running(self) -> list[Running]:
        """Those that are not over."""
        return [one for one in self.all() if one.stage.stage != STOPPED]

    def generations(self) -> set[str]:
        """Names of the generations that arms of running experiments show, which must not go."""
        arms = [one.experiment.arm_in(name, one.stage.stage) for one in self.running() for name in ARMS]
        return {arm.generation for arm in arms if arm.generation is not None}

    def find(self, name: str) -> Running:
        """An experiment by its name; a RequestError names the one that is meant."""
        known = {one.experiment.name: one for one in self.all()}
        if name not in known:
            remedy = suggestion(name, known, "`molar experiment start` begins one")
            raise RequestError(f"there is no experiment {name}", remedy)
        return known[name]

    def stages(self, name: str) -> list[StageRow]:
        """All stages that it was in, the first one first."""
        columns = "number, stage, begun, why, by, automatic"
        return [
            _stage(row)
            for row in self._rows(f"SELECT {columns} FROM stages WHERE experiment = ? ORDER BY number", name)
        ]

    def assign(self, assignments: Iterable[Assignment]) -> None:
        """Put assignments on record; of a unit that has one already, that stays."""
        rows = [(one.experiment, one.unit, one.arm, one.first, one.source) for one in assignments]
        self._write_many(
            "INSERT OR IGNORE INTO units (experiment, unit, arm, first, source) VALUES (?, ?, ?, ?, ?)", rows
        )

    def assigned(self, name: str, units: Sequence[str]) -> dict[str, str]:
        """The arms that are on record of some units, by unit."""
        found: dict[str, str] = {}
        for start in range(0, len(units), _MOST):
            some = units[start : start + _MOST]
            marks = ", ".join("?" * len(some))
            question = f"SELECT unit, arm FROM units WHERE experiment = ? AND unit IN ({marks})"
            found |= dict(self._rows(question, name, *some))
        return found

    def trigger(self, name: str, units: Iterable[tuple[str, int]]) -> None:
        """Of units on record, that they were shown what the other arm would not have; the first time counts."""
        self._write_many(
            "UPDATE units SET triggered = ? WHERE experiment = ? AND unit = ? AND triggered IS NULL",
            [(at, name, unit) for unit, at in units],
        )

    def met_other(self, name: str, units: Iterable[str]) -> None:
        """Of units that are on record, that they were shown what the other arm has, and count for neither."""
        self._write_many(
            "UPDATE units SET both = 1 WHERE experiment = ? AND unit = ?", [(name, unit) for unit in units]
        )

    def units(self, name: str) -> "pa.Table":
        """All units on record: unit, arm, first, triggered (None: never), both, source."""
        import pyarrow as pa

        columns = {"unit": pa.string(), "arm": pa.string(), "first": pa.int64(), "triggered": pa.int64()}
        found = self._table("units", {**columns, "both": pa.int64(), "source": pa.string()}, name)
        return found.set_column(4, "both", found["both"].cast(pa.bool_()))

    def counts(self, name: str) -> list[tuple[str, bool, bool, int]]:
        """How many units have an arm, whether they met a difference, and whether they saw both arms."""
        rows = self._rows(
            "SELECT arm, triggered IS NOT NULL, both, count(*) FROM units WHERE experiment = ? GROUP BY 1, 2, 3", name
        )
        return [(arm, bool(met), bool(both), number) for arm, met, both, number in rows]

    def record_lists(self, name: str, rows: Iterable[tuple[str, str, int, Mapping[str, Any]]]) -> None:
        """Interleaved lists: request_id, unit, at (microseconds), and by item whose place it was."""
        self._write_many(
            "INSERT OR IGNORE INTO lists VALUES (?, ?, ?, ?, ?)",
            [(name, request, unit, at, json.dumps(teams)) for request, unit, at, teams in rows],
        )

    def lists(self, name: str) -> "pa.Table":
        """All interleaved lists: request_id, unit, at, teams (JSON)."""
        import pyarrow as pa

        columns = {"request_id": pa.string(), "unit": pa.string(), "at": pa.int64(), "teams": pa.string()}
        return self._table("lists", columns, name)

    def record_served(self, name: str, process: str, rows: Iterable[ServedRow]) -> None:
        """What a process answered in some minutes so far; what it said of a minute before is replaced."""
        self._write_many(
            "INSERT OR REPLACE INTO served VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(name, *row[:-1], json.dumps(row[-1]), process) for row in (astuple(one) for one in rows)],
        )

    def served(self, name: str, since: int, until: int) -> list[ServedRow]:
        """What all processes answered between two moments, the minutes of both included, in order."""
        minute = 60_000_000
        rows = self._rows(
            "SELECT arm, minute, answers, errors, empty, late, milliseconds FROM served"
            " WHERE experiment = ? AND minute BETWEEN ? AND ? ORDER BY minute, arm",
            *(name, since // minute, until // minute),
        )
        return [ServedRow(*(*row[:6], tuple(json.loads(row[6])))) for row in rows]

    def record_shadows(self, name: str, rows: Iterable[ShadowRow]) -> None:
        """Requests that both arms ranked; of more than :data:`SHADOWS`, the last ones are kept."""
        with self._writing() as connection:
            values = [(None, name, *astuple(row)) for row in rows]
            connection.executemany(f"INSERT INTO shadows VALUES ({', '.join('?' * 12)})", values)
            connection.execute(
                "DELETE FROM shadows WHERE experiment = ?1 AND number <= (SELECT number FROM shadows"
                " WHERE experiment = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                [name, SHADOWS],
            )

    def shadows(self, name: str, since: int = 0) -> list[ShadowRow]:
        """Those that are kept, from a moment on."""
        columns = ", ".join(ShadowRow.__dataclass_fields__)
        rows = self._rows(
            f"SELECT {columns} FROM shadows WHERE experiment = ? AND at >= ? ORDER BY number", name, since
        )
        return [ShadowRow(*(*row[:4], *map(bool, row[4:8]), *row[8:])) for row in rows]

    def look(self, name: str, look: Look) -> Look:
        """Put a look on record; the look of this number that is there already stays. What is on record is returned."""
        row = (look.number, look.at, look.stage, look.metric, look.information, look.spent, look.statistic, look.bound)
        facts = json.dumps(dict(look.facts), ensure_ascii=False)
        with self._writing() as connection:
            marks = ", ".join("?" * 11)
            connection.execute(f"INSERT OR IGNORE INTO looks VALUES ({marks})", [name, *row, look.decision, facts])
        return next(one for one in self.looks(name) if one.number == look.number)

    def looks(self, name: str) -> list[Look]:
        """All looks, the first one first."""
        columns = ", ".join(Look.__dataclass_fields__)
        rows = self._rows(f"SELECT {columns} FROM looks WHERE experiment = ? ORDER BY number", name)
        return [Look(*(*row[:-1], json.loads(row[-1]))) for row in rows]

    def remove(self, gone: Callable[[str, int], bool]) -> int:
        """Remove what is on record of units that are gone, by unit and moment, with all its bytes; how many rows."""
        if not self.path.exists():
            return 0
        count = 0
        with self._writing() as connection:
            connection.execute("PRAGMA secure_delete = ON")
            for table, moment, key in (("units", "first", "unit"), ("lists", "at", "request_id")):
                rows = connection.execute(f"SELECT experiment, {key}, unit, {moment} FROM {table}").fetchall()
                chosen = [(name, own) for name, own, unit, at in rows if gone(unit, at)]
                connection.executemany(f"DELETE FROM {table} WHERE experiment = ? AND {key} = ?", chosen)
                count += len(chosen)
        return count

    def _table(self, table: str, columns: "Mapping[str, pa.DataType]", name: str) -> "pa.Table":
        import pyarrow as pa

        rows = self._rows(f"SELECT {', '.join(columns)} FROM {table} WHERE experiment = ?", name)
        kinds = [pa.array([row[n] for row in rows], kind) for n, kind in enumerate(columns.values())]
        return pa.table(dict(zip(columns, kinds, strict=True)))

    def _rows(self, question: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._connection is None and not self.path.exists():
                return []
            with self._asked() as connection:
                return connection.execute(question, values).fetchall()

    def _write_many(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            with self._writing() as connection:
                connection.executemany(statement, rows)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk at its end."""
        if self._connection is None and not self.path.exists():
            raise MissingArtefactError("no experiment has begun here", "`molar experiment start` begins one")
        with self._lock, self._asked() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextmanager
    def _asked(self) -> Iterator[sqlite3.Connection]:
        """The connection, opened at first use; what goes wrong with it names the file and the remedy."""
        try:
            if self._connection is None:
                self._connection = self._opened()
            yield self._connection
        except sqlite3.Error as error:
            if "locked" in str(error):
                words = f"another process has been writing {self.path} for {_WAIT:.0f} s"
                raise DataError(words, "wait until it is done, then run again") from error
            raise disk_error(error) or DataError(
                f"{self.path}: {error}", "bring the file back from a backup"
            ) from error

    def _opened(self) -> sqlite3.Connection:
        self.path.touch(OWNER)
        connection = sqlite3.connect(self.path, timeout=_WAIT, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        known = connection.execute("PRAGMA user_version").fetchone()[0]
        if known > FORMAT:
            connection.close()
            words = f"{self.path} has format {known}, this version of molar reads {FORMAT}"
            raise StaleArtefactError(words, "use the version of molar that wrote it")
        if known < FORMAT:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("COMMIT")
        return connection

    def _add_stage(
        self, connection: sqlite3.Connection, name: str, stage: Stage, at: int, why: str, by: str, *, automatic: bool
    ) -> None:
        assert stage in STAGES
        row = name, stage, at, why, by, automatic
        connection.execute(
            "INSERT INTO stages (experiment, stage, begun, why, by, automatic) VALUES (?, ?, ?, ?, ?, ?)", row
        )


def _stage(row: Sequence[Any]) -> StageRow:
    return StageRow(*(*row[:5], bool(row[5])))
