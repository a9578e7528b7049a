"""Who is compared: people of both arms, each once, from the moment on from which the arms may differ for them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from molar_retrieval.experiments.assignment import bucket
from molar_retrieval.experiments.definition import AB, CANARY, CONTROL, EVERYBODY, TREATMENT, Experiment, Stage
from molar_retrieval.ids import IdMap
from molar_retrieval.privacy.pseudonyms import StoredName, session_key, user_key

HOLDOUT = "holdout"
"""The source of an assignment of somebody who takes part in no experiment, and keeps the control arm to the end."""
NEVER = np.iinfo(np.int64).max
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Population:
    """People who have one arm, n of them, and how many had both.

    Attributes:
        keys: Their keys, in the order of the arrays.
        treated: Who has the treatment, shape (n,).
        first: When each was first seen, in microseconds since 1970, shape (n,).
        since: From when on the arms may differ for them, :data:`NEVER` of whom they never did, shape (n,).
        both: How many people had both arms; they are in none of the arrays.
    """

    keys: IdMap
    treated: Mask
    first: Ints
    since: Ints
    both: int

    def __len__(self) -> int:
        return len(self.treated)

    @property
    def met(self) -> Mask:
        """For whom the arms may have differed."""
        found: Mask = self.since != NEVER
        return found

    def where(self, keep: Mask) -> "Population":
        """Only some of them."""
        keys = IdMap(self.keys.array.filter(pa.array(keep)))
        return replace(self, keys=keys, treated=self.treated[keep], first=self.first[keep], since=self.since[keep])

    def counts(self, among: Mask | None = None) -> dict[str, int]:
        """How many there are of each arm."""
        chosen = self.treated if among is None else self.treated[among]
        treated = int(np.count_nonzero(chosen))
        return {CONTROL: len(chosen) - treated, TREATMENT: treated}


def population(units: pa.Table, identified: Mapping[StoredName, StoredName]) -> Population:
    """People of the units on record; sessions that turned out to be users are these users.

    Somebody with several units has the arm in which they met a difference. Who met one in both arms, or is marked as
    having done so, is counted as ``both``; where no unit met any, the first one counts.

    Args:
        units: ``unit``, ``arm``, ``first``, ``triggered``, ``both`` and ``source``, as the store has them.
        identified: Which user a session is, by session id.
    """
    keys = _people(units["unit"].to_pylist(), identified)
    encoded = pa.array(keys, pa.large_string()).dictionary_encode()
    who = np.asarray(encoded.indices).astype(np.int64)
    n = len(encoded.dictionary)
    treated = np.asarray(pc.equal(units["arm"], TREATMENT), bool)
    first = np.asarray(units["first"], np.int64)
    since = np.asarray(pc.fill_null(units["triggered"], NEVER), np.int64)
    met = since != NEVER
    marked = np.zeros(n, bool)
    marked[who[np.asarray(units["both"], bool)]] = True
    for_control, for_treatment = (np.bincount(who[met & of], minlength=n) > 0 for of in (~treated, treated))
    earliest = np.full(n, NEVER)
    np.minimum.at(earliest, who, first)
    moment = np.full(n, NEVER)
    np.minimum.at(moment, who, since)
    order = np.lexsort((first, who))  # of nobody who met a difference, the first unit counts
    begins = np.flatnonzero(np.diff(who[order], prepend=-1))
    arm = np.where(for_control | for_treatment, for_treatment, treated[order[begins]])
    both = marked | (for_control & for_treatment)
    whole = Population(IdMap(encoded.dictionary), arm, earliest, moment, int(both.sum()))
    return whole.where(~both)


def in_stage(
    found: Population, units: pa.Table, experiment: Experiment, stage: Stage, begun: int, *, canaried: bool
) -> Population:
    """Those whom a stage compares, none of them before it began.

    Where the arms of an A/B stage have unequal shares, whoever could have been in the canary is left out, as of these
    the shares were equal. When the treatment has reached everybody, those held out are the control arm, unless arms
    are assigned elsewhere, and whoever comes is compared, whether or not they met a difference.

    Args:
        found: Everybody on record.
        units: As for :func:`population`.
        experiment: Of which.
        stage: Which.
        begun: When it began.
        canaried: Whether there was a canary before.
    """
    if stage == EVERYBODY and experiment.assigned == "elsewhere":
        return replace(found, since=np.full(len(found), begun))
    if stage == EVERYBODY:
        held = pc.unique(units["unit"].filter(pc.equal(units["source"], HOLDOUT)))
        control = np.zeros(len(found), bool)
        rows = found.keys.rows(held)
        control[rows[rows >= 0]] = True
        return replace(found, treated=~control, since=np.full(len(found), begun))
    kept = replace(found, since=np.where(found.met, np.maximum(found.since, begun), NEVER))
    if not leaves_out_canary(experiment, stage, canaried=canaried):
        return kept
    draws = np.array([bucket(experiment.salt, key) for key in found.keys.array.to_pylist()])
    return kept.where((draws >= experiment.canary) & (draws < 1 - experiment.canary))


def leaves_out_canary(experiment: Experiment, stage: Stage, *, canaried: bool) -> bool:
    """Whether those who could have been in the canary are left out of a stage."""
    unequal = experiment.treated != 1 / 2 and experiment.treated > experiment.canary
    return stage == AB and canaried and unequal and experiment.assigned == "here"


def shares(experiment: Experiment, stage: Stage, *, canaried: bool) -> tuple[float, float] | None:
    """What shares of the people compared are meant to be in control and treatment; None: it is not known."""
    if stage == CANARY and experiment.assigned == "here":
        return 0.5, 0.5
    if stage != AB:
        return None
    out = experiment.canary if leaves_out_canary(experiment, stage, canaried=canaried) else 0.0
    return 1 - experiment.treated - out, experiment.treated - out


def told_elsewhere(lines: Iterable[pa.Table], name: str) -> pa.Table:
    """Units of an experiment that is assigned elsewhere: events name ``NAME:control`` or ``NAME:treatment`` as ``arm``.

    Args:
        lines: Tables with ``person``, ``timestamp`` in microseconds, and ``arm``.
        name: Of the experiment.
    """
    arms = {f"{name}:{arm}": arm for arm in (CONTROL, TREATMENT)}
    schema = pa.schema([("unit", pa.string()), ("arm", pa.string()), ("first", pa.int64())])
    parts = [schema.empty_table()]
    for table in lines:
        own = table.filter(pc.is_in(table["arm"], pa.array(list(arms))))
        grouped = own.group_by(["person", "arm"]).aggregate([("timestamp", "min")])
        parts.append(grouped.rename_columns(schema.names).cast(schema))
    grouped = pa.concat_tables(parts).group_by(["unit", "arm"]).aggregate([("first", "min")])
    found = grouped.rename_columns(schema.names)
    names = pa.array([arms[one] for one in found["arm"].to_pylist()], pa.string())
    return pa.table(
        {
            "unit": found["unit"],
            "arm": names,
            "first": found["first"],
            "triggered": found["first"],
            "both": pa.array(np.zeros(len(found), bool)),
            "source": pa.array(["elsewhere"] * len(found), pa.string()),
        }
    )


def _people(units: list[str], identified: Mapping[StoredName, StoredName]) -> list[str]:
    """The key of the person that each unit is."""
    if not identified:
        return units
    users = {session_key(session): user_key(user) for session, user in identified.items()}
    return [users.get(unit, unit) for unit in units]
