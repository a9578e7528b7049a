"""What an experiment is: two arms, for whom, by which figure it is judged, and the stages it goes through."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from molar_retrieval.errors import SettingsError, shown, suggestion
from molar_retrieval.ranking.query import Query, options_of

CONTROL, TREATMENT, INTERLEAVED = "control", "treatment", "interleaved"
ARMS = (CONTROL, TREATMENT)
Stage = Literal["shadow", "interleaving", "canary", "ab", "everybody", "stopped"]
SHADOW: Final = "shadow"
INTERLEAVING: Final = "interleaving"
CANARY: Final = "canary"
AB: Final = "ab"
EVERYBODY: Final = "everybody"
STOPPED: Final = "stopped"
STAGES: tuple[Stage, ...] = (SHADOW, INTERLEAVING, CANARY, AB, EVERYBODY, STOPPED)
"""In the order in which an experiment goes through them; it may leave some out, and be stopped from each."""
Primary = Literal["conversion", "revenue", "clicks"]
PRIMARIES = ("conversion", "revenue", "clicks")
SHOWS = ("lists", "popular", "nothing")
OPTIONS = tuple(one.name for one in options_of(Query).values() if one.extra.get("arm"))
"""Options of a query that an arm may set."""
HARM: Mapping[str, float] = {
    **dict.fromkeys(("clicks", "conversion", "revenue"), 0.1),
    **dict.fromkeys(("errors", "empty"), 0.005),
    "milliseconds": 0.5,
    "returns": 0.5,
}
"""By how much each guardrail may be worse without harm: shares of what the control arm has; of errors and empty lists,
shares of the answers."""
_NAME = 64  # characters
_WEEK_HOURS = 168
BETWEEN: Mapping[str, tuple[float, float]] = {
    "canary": (0.001, 0.5),
    "treated": (0.01, 0.99),
    "weeks": (1, 104),
    "alpha": (1e-4, 0.5),
    "power": (0.5, 0.999),
    "lift": (1e-3, 10),
    "block_hours": (1, 168),
    "margin": (0, 1),
}
"""Bounds of the numbers of an experiment, by field."""
HARM_BETWEEN = 1e-4, 10.0
"""Bounds of what a guardrail may be worse by, as a share."""


def _among(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingsError(f"{name} is {shown(value)}", suggestion(value, known, f"give {', '.join(known)}"))


@dataclass(frozen=True)
class Arm:
    """What the people of an arm are shown.

    Attributes:
        shows: ``lists`` of their own, the ``popular`` one, or ``nothing``.
        generation: The name of the one that answers; None: whatever is live.
        rules: A file of rules, by its path in the workspace; None: those of the shop.
        options: Options of their questions, see :data:`OPTIONS`; they win over what a page asks for.
    """

    shows: Literal["lists", "popular", "nothing"] = "lists"
    generation: str | None = None
    rules: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def rules_in(self, workspace: Path) -> Path | None:
        """Its file of rules, for a workspace's folder; None: those of the shop."""
        return None if self.rules is None else workspace / self.rules

    def __post_init__(self) -> None:
        _among("shows", self.shows, SHOWS)
        for name in self.options:
            if name not in OPTIONS:
                words = f"an arm has no option {shown(name)}"
                raise SettingsError(words, suggestion(name, OPTIONS, f"options are {', '.join(OPTIONS)}"))
        if self.shows != "lists" and (self.generation or self.rules or self.options):
            words = f"an arm that shows {self.shows} has no generation, rules or options"
            raise SettingsError(words, "leave them out, or let it show lists")


@dataclass(frozen=True)
class Segment:
    """Whom an experiment is for; empty, everybody everywhere.

    Attributes:
        people: A condition on what the table of users says of people, as ``region = 'Kansai'``.
        items: A condition on items: somebody whose history has such an item when they are first seen.
        placements: Where on the site; empty: everywhere.
    """

    people: str | None = None
    items: str | None = None
    placements: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """One experiment, as it was begun; what becomes of it is in the store.

    Attributes:
        name: Its name.
        control: What people have without it.
        treatment: What is tried.
        segment: For whom.
        primary: The figure that decides, per visitor.
        unit: What is assigned: each ``person``, or blocks of ``time`` for everybody (a switchback).
        assigned: ``here``, by hashes; or ``elsewhere``: a service of the shop decides, and tells.
        layer: Experiments of one layer have different people; those of others are drawn independently.
        slice: From where to where in its layer, within [0, 1).
        salt: What its draws depend on beside the person.
        canary: The share of its people who are treated in that stage.
        treated: The share of its people who are treated in the A/B stage.
        weeks: How long that lasts at most; it is looked at once a week.
        alpha: The chance of a false alarm of the primary figure, both sides together, over all looks.
        power: The chance to see the effect that it was planned for.
        lift: That effect: 0.1 is +10 %.
        harm: By how much guardrails may be worse, see :data:`HARM`; what is not named is as there.
        block_hours: How long a block of time is.
        margin: The share of revenue that stays; None: as ``[costs] margin`` says.
    """

    name: str
    control: Arm = Arm()
    treatment: Arm = Arm()
    segment: Segment = Segment()
    primary: Primary = "conversion"
    unit: Literal["person", "time"] = "person"
    assigned: Literal["here", "elsewhere"] = "here"
    layer: str = "lists"
    slice: tuple[float, float] = (0.0, 1.0)
    salt: str = ""
    canary: float = 0.05
    treated: float = 0.5
    weeks: int = 4
    alpha: float = 0.05
    power: float = 0.8
    lift: float = 0.1
    harm: Mapping[str, float] = field(default_factory=dict)
    block_hours: int = 24
    margin: float | None = None

    def __post_init__(self) -> None:
        name = self.name
        if not name or len(name) > _NAME or not name.isprintable() or ":" in name or name != name.strip():
            raise SettingsError(
                f"the name of an experiment is {shown(name)}", f"give one of 1 to {_NAME} characters without a colon"
            )
        _among("primary", self.primary, PRIMARIES)
        _among("unit", self.unit, ("person", "time"))
        _among("assigned", self.assigned, ("here", "elsewhere"))
        for key, (least, most) in BETWEEN.items():
            value = getattr(self, key)
            if value is not None and not (isinstance(value, int | float) and least <= value <= most):
                raise SettingsError(f"{key} is {shown(value)}", f"give a number from {least:g} to {most:g}")
        first, last = self.slice
        if not 0 <= first < last <= 1:
            raise SettingsError(f"the slice is {first:g} to {last:g}", "give a part of 0 to 1, as 0 0.5")
        for guardrail, much in self.harm.items():
            _among("the guardrail", guardrail, tuple(HARM))
            least, most = HARM_BETWEEN
            if not least <= much <= most:
                words = f"give a share from {least:g} to {most:g}, as 0.1"
                raise SettingsError(f"the harm of {guardrail} is {shown(much)}", words)
        smaller = min(self.treated, 1 - self.treated)
        if self.canary > smaller or (self.canary == smaller != 0.5):
            words = f"a canary of {self.canary:g} has people of both arms of an A/B stage that treats {self.treated:g}"
            raise SettingsError(words, f"give a canary below {smaller:g}, so that nobody changes arms between the two")
        if _WEEK_HOURS % self.block_hours:
            words = f"a week has no whole number of blocks of {self.block_hours} hours"
            raise SettingsError(words, "give block_hours as 24, 12, 8, 6, 4, 3, 2 or 1")
        if self.unit == "time" and self.assigned == "elsewhere":
            raise SettingsError("blocks of time are not assigned elsewhere", "leave one of both out")

    @property
    def harms(self) -> dict[str, float]:
        """By how much each guardrail may be worse."""
        return {**HARM, **self.harm}

    def arm(self, name: str) -> Arm:
        """An arm by its name."""
        return self.control if name == CONTROL else self.treatment

    def arm_in(self, name: str, stage: Stage) -> Arm:
        """An arm as people have it in a stage: once the treatment is everybody's, it is what is live."""
        arm = self.arm(name)
        return replace(arm, generation=None) if name == TREATMENT and stage == EVERYBODY else arm

    def treated_in(self, stage: Stage) -> float:
        """The share of its people who are treated in a stage; of as many others is the control arm, in ``ab`` all."""
        return {CANARY: self.canary, AB: self.treated, EVERYBODY: 1.0}.get(stage, 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """From what :meth:`to_dict` gave; a SettingsError names what is wrong."""
        known = {one.name for one in fields(cls)}
        if unknown := [name for name in values if name not in known]:
            raise SettingsError(
                f"an experiment has no field {shown(unknown[0])}",
                suggestion(unknown[0], known, "leave it out, or use the version of molar that wrote it"),
            )
        made = dict(values)
        for name in ARMS:
            made[name] = Arm(**made.get(name, {}))
        segment = dict(made.get("segment", {}))
        made["segment"] = Segment(**segment | {"placements": tuple(segment.get("placements", ()))})
        made["slice"] = tuple(made.get("slice", (0.0, 1.0)))
        return cls(**made)
