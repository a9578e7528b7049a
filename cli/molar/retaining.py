"""Retention: copies that are older than a shop keeps them are removed, as commands end and on demand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from molar.bill import billed
from molar_retrieval.reports.wording import plural, size

if TYPE_CHECKING:
    from molar_retrieval.privacy.retention import KeptCopy
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.activity_log import WorkOutcome
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import MolarSettings


@contextmanager
def at_work(
    workspace: "Workspace", what: str, settings: "MolarSettings", progress: "Progress"
) -> "Iterator[WorkOutcome]":
    """Write down what is done within, see :func:`molar.bill.billed`; then :func:`prune`.

    Where that was to align, requests of people that waited for it are finished.
    """
    from molar.purging import Purge, settle

    purge = Purge(workspace, settings, progress)
    with billed(workspace, what, settings.costs, progress) as told:
        yield told
    if what == "align":
        settle(purge)
    prune(workspace, settings, progress)


def overdue(workspace: "Workspace", settings: "MolarSettings") -> "list[KeptCopy]":
    """Copies of what people did that are older than ``[privacy] copy_retention_days``; none where that is not set."""
    from molar_retrieval.privacy.retention import older_than, retained_copies

    days = settings.privacy.copy_retention_days
    return [] if days is None else older_than(retained_copies(workspace), days)


def prune(workspace: "Workspace", settings: "MolarSettings", progress: "Progress") -> "list[KeptCopy]":
    """Remove what is :func:`overdue`, and say so; which went."""
    from molar_retrieval.privacy.retention import remove

    gone = remove(workspace, overdue(workspace, settings))
    if gone:
        days, taken = settings.privacy.copy_retention_days, size(sum(one.bytes for one in gone))
        kinds = ", ".join(
            f"{sum(one.what == what for one in gone)} {what}" for what in dict.fromkeys(o.what for o in gone)
        )
        progress.note(f"{plural(len(gone), 'copy', 'copies')} of more than {days} days removed ({kinds}; {taken})")
    return gone
