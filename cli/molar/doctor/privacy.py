"""What was promised to people: what they are called, the ledger of releases with noise, and who is to be left out."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from molar.doctor.health import Entry, Fault, broken, entry
from molar_indexes.privacy.certificate import faults_of, paths
from molar_retrieval.errors import MolarError
from molar_retrieval.privacy.ledger import PrivacyLedger
from molar_retrieval.privacy.pseudonymisation import has_people
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.privacy.suppression import AT_ONCE, SuppressionList
from molar_retrieval.reports.wording import plural
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.discovery import file_beside
from molar_retrieval.workspace.settings import FILE_NAME, MolarSettings, PrivacySettings


def privacy(root: Path, file: Path | None = None) -> Iterator[Entry]:
    """What people are called, the ledger, and who is left out; nothing is told where there is nothing of the kind."""
    settings = _settings(root, file)
    yield from _names(root, settings.ids)
    yield from _ledger(root, settings)
    yield from _suppressed(root)
    yield from _certificates(root)


def _certificates(root: Path) -> Iterator[Entry]:
    found = paths(Workspace(root))
    if found:
        wrong = faults_of(Workspace(root))
        what = f"the chain of certificates is broken: {'; '.join(wrong)}"
        fault = broken(what, "restore them from a backup") if wrong else None
        yield entry("certificates", f"{len(found):,} of people left out", fault, data={"certificates": len(found)})


def _settings(root: Path, file: Path | None) -> PrivacySettings:
    with suppress(MolarError):  # said by the section on places
        return MolarSettings.load(root.parent, name=file_beside(root, FILE_NAME).name, file=file).privacy
    return PrivacySettings()


def _names(root: Path, wanted: str) -> Iterator[Entry]:
    try:
        keys = len(Pseudonymiser.of(root).keys)
    except MolarError as error:
        yield entry("ids", "pseudonyms whose keys are missing", broken(error.message, error.hint))
        return
    if keys:
        said = "" if wanted == "pseudonymous" else "; settings say plain, but the record of the workspace holds"
        told = f"pseudonyms by {plural(keys, 'key', 'keys')}{said}"
        yield entry("ids", told, data={"keys": keys, "settings": wanted})
    elif wanted == "pseudonymous" and has_people(Workspace(root)):
        what = "the settings say privacy.ids = 'pseudonymous', and people are named by the shop's ids"
        yield entry("ids", "as the shop has them", Fault(what, "run `molar privacy rotate`"), data={"keys": 0})


def _ledger(root: Path, settings: PrivacySettings) -> Iterator[Entry]:
    ledger = PrivacyLedger(root)
    try:
        if not ledger.entries() and not ledger.missing():
            return
        standing = ledger.standing(settings)
    except MolarError as error:
        yield entry("ledger", "damaged", broken(error.message, error.hint))
        return
    spent = f"ε = {standing.spent:.2f} of {standing.yearly:g} in 365 days"
    until = f"; another release may take ε = {standing.left:.2f}"
    remedy = (
        f"wait: from {(standing.free_from or '')[:10]} on nothing counts any more; `molar privacy ledger` tells more"
    )
    lost = f"the ledger lacks what was released: {'; '.join(standing.missing)}"
    back = "bring it back from a backup; `molar privacy ledger --reset-budget` begins a new budget without it"
    yield entry(
        "ledger",
        f"{spent}, releases: {len(standing.entries)}{until}",
        bool(standing.missing) and broken(lost, back),
        standing.nearly_spent and Fault(f"the year's budget of privacy is nearly spent: {spent}", remedy),
        data={"spent": standing.spent, "yearly": standing.yearly, "left": standing.left},
    )


def _suppressed(root: Path) -> Iterator[Entry]:
    try:
        suppressed = SuppressionList.of(root)
    except MolarError as error:
        yield entry("suppressed", "damaged", broken(error.message, error.hint))
        return
    if not suppressed:
        return
    holding = [one for one in suppressed.people if one.withdrawn is None]
    forgotten = sum(one.kind == "forgotten" for one in holding)
    open_ = [one for one in holding if set(one.pending) & set(AT_ONCE)]
    later = [one for one in holding if one.pending and one not in open_]
    fault = None
    if open_:
        words = f"of {len(open_):,} people something that names them is not removed yet"
        fault = Fault(words, "run `molar privacy forget` or `object` for them again")
    elif later:
        fault = Fault(f"models or older generations still know of {len(later):,} people", "run `molar align`")
    yield entry(
        "suppressed",
        f"{forgotten:,} forgotten, {len(holding) - forgotten:,} object",
        fault,
        data={"forgotten": forgotten, "objected": len(holding) - forgotten, "pending": len(open_) + len(later)},
    )
