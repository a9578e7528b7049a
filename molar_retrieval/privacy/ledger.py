"""The privacy ledger: every release of noised statistics of a workspace, and the budget of a year.

``WORKSPACE/privacy_ledger.jsonl`` has a line for each release, on the disk before anything of the release is. Any 365
days may take (ε, δ) together, see :mod:`molar_retrieval.privacy.mechanism`.

Statistics, alignments and index versions name the entry of their release. Where the ledger lacks one of these, as its
file or its last lines were removed, the next release is refused until somebody resets the budget, which is recorded.
"""

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from molar_retrieval.errors import DataError, SettingsError, StaleArtefactError
from molar_retrieval.privacy.mechanism import epsilon_left, epsilon_of
from molar_retrieval.workspace.artefacts import PRIVATE, Manifest
from molar_retrieval.workspace.files import MANIFEST, OWNER, write_atomically
from molar_retrieval.workspace.settings import PrivacySettings

FILE = "privacy_ledger.jsonl"
YEAR = timedelta(days=365)
_NAMING = ("statistics/*", "alignment/*", "generations/*/encoder")
"""Folders whose manifests name the entry of a release."""
_SLIGHT = 1e-6
"""By how much ε of a sum may exceed the budget, as numbers are rounded."""


class LedgerEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="line", tag="release"):
    """One release.

    Attributes:
        name: Of this entry, at random; what was released bears it.
        at: When, in ISO 8601, in UTC.
        epsilon: Of this release alone.
        delta: Of this release alone.
        noise_multiplier: Standard deviation of the noise over the most that one person changes.
        log: Digest of the log that it is of.
        purpose: What it was for: the command.
    """

    name: str
    at: str
    epsilon: float
    delta: float
    noise_multiplier: float
    log: str
    purpose: str

    @property
    def moment(self) -> datetime:
        """When it was."""
        return datetime.fromisoformat(self.at)


class BudgetReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="line", tag="reset"):
    """Somebody began a new budget although releases are missing from the ledger.

    Attributes:
        at: When, in ISO 8601, in UTC.
        missing: Names of the entries that were missing then; they count no more.
    """

    at: str
    missing: tuple[str, ...]


@dataclass(frozen=True)
class PrivacyBudget:
    """What was released, and what is left of the budget.

    Attributes:
        entries: All releases, the oldest first.
        spent: The ε of those of the last 365 days together.
        ever: The ε of all of them together.
        yearly: What 365 days may take.
        delta: The δ at which all of these are told.
        left: The largest ε of one more release now.
        free_from: From when no present entry counts any more, in ISO 8601; None: none does now.
        missing: Releases that something in the workspace names and the ledger lacks, as sentences: what is spent and
            left is not known then, and another release is refused.
    """

    entries: tuple[LedgerEntry, ...]
    spent: float
    ever: float
    yearly: float
    delta: float
    left: float
    free_from: str | None
    missing: tuple[str, ...] = ()

    @property
    def nearly_spent(self) -> bool:
        """Whether nine tenths of the budget are gone."""
        return self.spent >= 0.9 * self.yearly

    def to_dict(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self) | {"entries": [msgspec.structs.asdict(entry) for entry in self.entries]}


class PrivacyLedger:
    """The ledger of the workspace at ``root``; who writes it holds the workspace's lock on ``statistics``."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / FILE

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All releases, the oldest first; a StaleArtefactError says that the file is damaged: nothing is guessed."""
        return tuple(line for line in self._lines() if isinstance(line, LedgerEntry))

    def missing(self) -> dict[str, str]:
        """Releases that something in the workspace names and the ledger lacks, by name, as sentences.

        Those of before a reset of the budget are not among them.
        """
        known, found = set[str](), dict[str, str]()
        for line in self._lines():
            known.update([line.name] if isinstance(line, LedgerEntry) else line.missing)
        for path in (path for pattern in _NAMING for path in sorted(self.root.glob(f"{pattern}/{MANIFEST}"))):
            with suppress(StaleArtefactError, OSError):
                facts = Manifest.read(path.parent).facts
                name, folder = (facts.get(PRIVATE) or facts).get("ledger"), path.parent.relative_to(self.root)
                if isinstance(name, str) and name not in known:
                    found.setdefault(name, f"release {name}, which {folder.as_posix()} is made of")
        return found

    def reset(self, now: datetime | None = None) -> tuple[str, ...]:
        """Begin a new budget although releases are missing: they count no more. Returns their names.

        Nothing is changed where none is missing.
        """
        missing = tuple(self.missing())
        if missing:
            self._append(BudgetReset(_iso(now or datetime.now(UTC)), missing))
        return missing

    def _append(self, one: "LedgerEntry | BudgetReset") -> None:
        lines = (msgspec.json.encode(line).decode() + "\n" for line in (*self._lines(), one))
        write_atomically(self.path, "".join(lines), OWNER)

    def _lines(self) -> "list[LedgerEntry | BudgetReset]":
        try:
            text = self.path.read_bytes() if self.path.exists() else b""
            found = [msgspec.json.decode(line, type=LedgerEntry | BudgetReset) for line in text.splitlines()]
            for one in found:
                if isinstance(one, LedgerEntry) and (one.noise_multiplier <= 0 or one.moment.tzinfo is None):
                    raise ValueError("a number or a moment cannot be")
        except (msgspec.MsgspecError, ValueError) as error:
            raise StaleArtefactError(
                f"the ledger of privacy {self.path} is damaged: {error}",
                "bring it back from a backup: without it nobody knows what was released so far",
            ) from error
        return found

    def standing(self, settings: PrivacySettings, now: datetime | None = None) -> PrivacyBudget:
        """What was released, and what the settings leave of the budget."""
        entries, yearly, delta = self.entries(), settings.yearly_epsilon, settings.delta
        counted = _counted(entries, now)
        multipliers = [entry.noise_multiplier for entry in counted]
        return PrivacyBudget(
            entries,
            spent=epsilon_of(multipliers, delta),
            ever=epsilon_of([entry.noise_multiplier for entry in entries], delta),
            yearly=yearly,
            delta=delta,
            left=epsilon_left(multipliers, yearly, delta),
            free_from=_iso(counted[-1].moment + YEAR) if counted else None,
            missing=tuple(self.missing().values()),
        )

    def check(self, settings: PrivacySettings, now: datetime | None = None) -> None:
        """Refuse one more release at the settings' ε that the budget does not bear, by a DataError.

        Refused is any release where the ledger lacks one that something in the workspace names.
        """
        budget, epsilon = self.standing(settings, now), settings.epsilon or 0.0
        if budget.missing:
            raise DataError(
                f"the ledger of privacy {self.path} lacks what was released: {'; '.join(budget.missing)}",
                "bring the file back from a backup; without one, `molar privacy ledger --reset-budget` begins a new"
                " budget: what was released before counts no more, so that a year may tell more of people than"
                " [privacy] yearly_epsilon promises",
            )
        if epsilon > budget.yearly:
            raise SettingsError(
                f"ε = {epsilon:g} for one release is more than [privacy] yearly_epsilon = {budget.yearly:g}",
                "ask for less, or raise yearly_epsilon, which promises people less",
            )
        if epsilon <= budget.left * (1 + _SLIGHT):
            return
        counted = _counted(budget.entries, now)
        later = (_counted(counted, entry.moment + YEAR) for entry in counted)
        left = [epsilon_left([one.noise_multiplier for one in some], budget.yearly, budget.delta) for some in later]
        last = next(entry for entry, some in zip(counted, left, strict=True) if epsilon <= some * (1 + _SLIGHT))
        raise DataError(
            f"the year's budget of privacy does not bear a release at ε = {epsilon:g}: the last 365 days took"
            f" ε = {budget.spent:.2f} (releases: {len(counted)}) of [privacy] yearly_epsilon = {budget.yearly:g}",
            f"the next one at ε = {epsilon:g} can be from {last.moment + YEAR:%Y-%m-%d %H:%M} UTC, at"
            f" ε ≤ {int(budget.left * 100) / 100:g} at once; `molar update` goes on without a release",
        )

    def spend(
        self, settings: PrivacySettings, multiplier: float, log: str, purpose: str, now: datetime | None = None
    ) -> LedgerEntry:
        """Enter a release with this noise multiplier, which is on the disk when this returns.

        Refused as by :meth:`check`; a ValueError where the noise is too little for the settings' ε and δ.
        """
        self.check(settings, now)
        epsilon = settings.epsilon or 0.0
        if epsilon_of([multiplier], settings.delta) > epsilon * (1 + _SLIGHT):
            raise ValueError(f"a noise multiplier of {multiplier} is too little for ε = {epsilon}")
        at = _iso(now or datetime.now(UTC))
        entry = LedgerEntry(secrets.token_hex(8), at, epsilon, settings.delta, multiplier, log, purpose)
        self._append(entry)
        return entry


def _counted(entries: Sequence[LedgerEntry], now: datetime | None) -> list[LedgerEntry]:
    """Those of the 365 days before now, and of later ones, where a clock was wrong; the oldest first."""
    since = (now or datetime.now(UTC)) - YEAR
    return sorted((entry for entry in entries if entry.moment > since), key=lambda entry: entry.moment)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
