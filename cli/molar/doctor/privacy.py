"""What was promised to people: the ledger of releases with noise."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from molar.doctor.health import Entry, Fault, broken, entry
from molar_retrieval.binding import file_beside
from molar_retrieval.config import FILE_NAME, MolarSettings
from molar_retrieval.errors import MolarError
from molar_retrieval.privacy_settings import PrivacySettings
from molar_retrieval.statistics.ledger import PrivacyLedger


def privacy(root: Path) -> Iterator[Entry]:
    """Look at the ledger; nothing is told where nothing was released."""
    settings = PrivacySettings()
    with suppress(MolarError):  # said by the section on places
        settings = MolarSettings.load(root.parent, name=file_beside(root, FILE_NAME).name).privacy
    ledger = PrivacyLedger(root)
    try:
        if not ledger.entries():
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
    yield entry(
        "ledger",
        f"{spent}, releases: {len(standing.entries)}{until}",
        standing.nearly_spent and Fault(f"the year's budget of privacy is nearly spent: {spent}", remedy),
        data={"spent": standing.spent, "yearly": standing.yearly, "left": standing.left},
    )
