"""Who is in which arm: by a hash, so that every process says the same, and nobody changes when a stage widens.

An experiment has a slice of its layer. Within it the treated are those whose draw is lowest, and the control arm those
whose draw is highest: a canary of 5 % is the lowest and the highest twentieth, an A/B stage the lower and upper half.
"""

from datetime import UTC, datetime
from hashlib import sha256

from molar_retrieval.experiments.definition import AB, CANARY, CONTROL, EVERYBODY, TREATMENT, Experiment, Stage

_HOLDOUT = "holdout"
HOUR = 3_600_000_000  # microseconds
WEEK_HOURS = 168


def bucket(salt: str, unit: str) -> float:
    """The draw of a unit in [0, 1): the first 53 bits of SHA-256 of ``salt:unit``, in UTF-8."""
    digest = sha256(f"{salt}:{unit}".encode("utf-8", "surrogatepass")).digest()
    return float((int.from_bytes(digest[:8]) >> 11) / (1 << 53))


def held_out(unit: str, share: float) -> bool:
    """Whether somebody is among the share of people who take part in no experiment."""
    return share > 0 and bucket(_HOLDOUT, unit) < share


def takes_part(experiment: Experiment, unit: str) -> bool:
    """Whether somebody is in the slice of an experiment in its layer."""
    first, last = experiment.slice
    return (first, last) == (0.0, 1.0) or first <= bucket(f"layer {experiment.layer}", unit) < last


def arm_of(experiment: Experiment, stage: Stage, unit: str) -> str | None:
    """The arm of somebody who takes part, in a stage; None: neither, as most people in a canary."""
    treated = experiment.treated_in(stage)
    if stage not in (CANARY, AB, EVERYBODY):
        return None
    draw = bucket(experiment.salt, unit)
    if draw < treated:
        return TREATMENT
    rest = treated if stage == CANARY else 1 - treated
    return CONTROL if draw >= 1 - rest else None


def block_of(experiment: Experiment, at: int) -> str:
    """The block of a switchback that a moment (microseconds since 1970) is in, as a unit: its begin in UTC."""
    length = experiment.block_hours * HOUR
    begin = datetime.fromtimestamp(at // length * length // 1_000_000, UTC)
    return begin.isoformat(timespec="minutes")


def arm_of_block(experiment: Experiment, at: int) -> str:
    """The arm of everybody at a moment of a switchback: drawn for a block of one week, the other one a week later.

    So each time of the week has both arms equally often in every two weeks.
    """
    block = at // (experiment.block_hours * HOUR)
    in_week = WEEK_HOURS // experiment.block_hours
    week, place = divmod(block, in_week)
    pair, second = divmod(week, 2)
    treated = bucket(experiment.salt, f"{pair}:{place}") < 0.5
    return TREATMENT if treated != bool(second) else CONTROL
