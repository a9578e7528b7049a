"""What a shop keeps of people, and what it can say of that on paper."""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from molar.base import ShopBase, front_door
from molar.retaining import overdue, prune
from molar.rotating import Rotating
from molar.sharing import Sharing
from molar_retrieval import limits
from molar_retrieval.errors import DataError, MissingArtefactError, MolarError, RequestError, SettingsError
from molar_retrieval.privacy.pseudonyms import Pseudonymiser
from molar_retrieval.workspace.activity_log import recorded
from molar_retrieval.workspace.files import OWNER, write_atomically

if TYPE_CHECKING:
    from molar_indexes.privacy.certificate import Certificate
    from molar_indexes.privacy.forgetting import Forgotten
    from molar_indexes.privacy.report.page import PrivacyReport
    from molar_indexes.privacy.stored import KnownPerson, StoredOnPerson
    from molar_retrieval.privacy.id_scan import FileMatches, ScanReport
    from molar_retrieval.privacy.ledger import PrivacyBudget
    from molar_retrieval.privacy.retention import KeptCopy
    from molar_retrieval.privacy.suppression import Kind

_LOOKED_FOR = 20
"""Most people of one request that are looked for before and after."""
_PATIENT = 60.0
"""Seconds that a server may take to look through a collection without an index."""


@front_door
@dataclass(frozen=True)
class Privacy(Rotating, Sharing):
    """Where a person lies, and what is stored on them."""

    shop: ShopBase

    def scan(self, user_id: str, *, also: Sequence[str | Path] = ()) -> "ScanReport":
        """Look for a person in every file of the workspace and of the catalogue's folder, and on the server.

        Looked for are ids: the shop's, its pseudonym, sessions that are known to be theirs, and point ids. Histories
        and vectors without an id are not looked for. Nothing is written.

        Args:
            user_id: Who.
            also: More files and folders: pages, lists and exports that lie elsewhere.

        Raises:
            RequestError: If the id is empty, or a file of ``also`` is not there.
            MissingArtefactError: If nothing was made yet.
            BackendError: If the settings name a server that cannot be asked.
        """
        from molar_indexes.privacy.stored import id_patterns
        from molar_retrieval.privacy.id_scan import ScanReport, scan

        _refuse_empty(user_id)
        more = [Path(one) for one in also]
        for one in more:
            if not one.exists():
                raise RequestError(f"there is no {one}", "name files and folders that exist")
        workspace = self.shop.opened()
        patterns, known = id_patterns(workspace, user_id)
        notes = [*known.notes, *known.unread]
        folders = [workspace.root, *self._catalogue(notes), *more]
        with self.shop.progress() as progress:
            files = scan(folders, patterns, progress)
        looked_for = dict(Counter(name.what for name in patterns.names))
        notes.append("histories and vectors are not looked for, only ids")
        notes.append("backups, snapshots of disks, logs of web servers and systems outside molar are not looked into")
        return ScanReport(files, looked_for, notes, self._server(known))

    def export(
        self, user_id: str, *, out: str | Path | None = None, page: str | Path | None = None
    ) -> "StoredOnPerson":
        """Everything that is stored on a person, in words that they can read, and what this cannot know of.

        Files that are written can be read by their owner alone.

        Args:
            user_id: Who.
            out: Where it goes as JSON; None: nowhere.
            page: Where it goes as an HTML page; None: nowhere.

        Raises:
            RequestError: If the id is empty.
            DataError: If a file of the catalogue cannot be read.
            MissingArtefactError: If nothing was made yet.
        """
        from molar_indexes.privacy.stored import stored_on

        _refuse_empty(user_id)
        folder = next(iter(self._catalogue([])), None)
        index = self.shop.settings.index
        server = index.url if index.users == "server" else None
        found = stored_on(self.shop.opened(), folder, user_id, server)
        if out is not None:
            text = json.dumps(found.to_dict(), ensure_ascii=False, indent=1)
            write_atomically(Path(out), text + "\n", OWNER)
        if page is not None:
            from molar_retrieval.reports.html import render_page

            write_atomically(Path(page), render_page("molar", "stored.html.jinja", stored=found), OWNER)
        return found

    def report(self, out: str | Path = "privacy", *, language: Literal["en", "de", "ja"] = "en") -> "PrivacyReport":
        """Write what is done with people's data: a page for print, its facts with their sources, and blanks.

        Record of processing, facts for an impact assessment, model card, main parameters of the ranking, costs. What
        people have filled in, in ``filled.toml`` of the folder, is read and never overwritten. It is no legal advice.

        Args:
            out: A folder, which is made.
            language: Of the page.

        Raises:
            MissingArtefactError: If nothing was made yet.
            RequestError: If there is no such language.
            DataError: If the folder cannot be made.
            SettingsError: If ``filled.toml`` is not as it should be.
        """
        from molar_indexes.privacy.report.page import write_report

        return write_report(self.shop.opened(), self.shop.settings, self.shop.folder(), Path(out), language)

    def pseudonyms(self, ids: str | Collection[str], *, sessions: bool = False) -> dict[str, str]:
        """What the workspace calls people, by their ids, so that tables of the shop's own can be joined with its.

        Args:
            ids: One or several, as the shop calls them; of a pseudonym it is the same.
            sessions: Whether they are of sessions, not of users.

        Raises:
            RequestError: If an id is empty, none is given, or the workspace names people as the shop does.
            MissingArtefactError: If there is no workspace.
            DataError: If the keys cannot be read.
        """
        several, names = _several(ids), Pseudonymiser.of(self.shop.opened().root)
        if not names.keys:
            hint = "each id stands for itself; [privacy] ids = 'pseudonymous' in molar.toml would change that"
            raise RequestError(f"{self.shop.workspace} has no pseudonyms", hint)
        named = names.session if sessions else names.user
        return {one: named(one) for one in several}

    def ledger(self, *, reset_budget: bool = False) -> "PrivacyBudget":
        """Every release of noised statistics on the shop's people, and what is left of the year's budget.

        Args:
            reset_budget: Begin a new budget where the ledger lacks releases that something in the workspace names, as
                its file was removed or cut short. What was released before counts no more, so that a year may tell more
                of people than ``[privacy] yearly_epsilon`` promises. Nothing is changed where none is missing.

        Raises:
            MissingArtefactError: If nothing was made yet.
            StaleArtefactError: If the ledger is damaged.
            DataError: If statistics are being released meanwhile.
        """
        from molar_retrieval.privacy.ledger import PrivacyLedger

        workspace = self.shop.opened()
        ledger = PrivacyLedger(workspace.root)
        if reset_budget:
            with workspace.lock("statistics"), recorded(workspace, "privacy ledger") as work:
                work.outcome = f"budget reset, releases that were missing: {len(ledger.reset())}"
        return ledger.standing(self.shop.settings.privacy)

    def prune(self, *, dry_run: bool = False) -> "list[KeptCopy]":
        """Remove copies that are older than ``[privacy] copy_retention_days``, and factors of people that nobody reads.

        :meth:`molar.Shop.align`, :meth:`molar.Shop.update` and :meth:`molar.Shop.evaluate` do so as they end. What is
        being read or written stays for the next time.

        Args:
            dry_run: Only say what would go.

        Returns:
            What went.

        Raises:
            MissingArtefactError: If nothing was made yet.
            SettingsError: If no time is set after which copies go.
        """
        from molar_retrieval.models.als import drop_users

        settings, workspace = self.shop.settings, self.shop.opened()
        if settings.privacy.copy_retention_days is None:
            raise SettingsError("no time is set after which copies go", "set copy_retention_days in [privacy]")
        if dry_run:
            return overdue(workspace, settings)
        if workspace["alignment"].current is not None:
            drop_users(workspace)
        with self.shop.progress() as progress:
            return prune(workspace, settings, progress)

    def forget(
        self,
        user_ids: str | Collection[str] = (),
        *,
        session_ids: str | Collection[str] = (),
        reason: str = "",
        later: bool = False,
    ) -> "Forgotten":
        """Forget people: everything of theirs up to now, wherever it comes from; what comes later counts again.

        They are put on the list of those who are left out, and nobody is served by their past from then on, also by
        servers that run. Then all that names them goes: lines of the event log, rows of the generations that are kept,
        records of experiments, answers that a server keeps, points in its collections of users. Then everything is made
        anew without them, as the live alignment was made, copies and former generations go, and a certificate says what
        was found before and after. It may be killed anywhere, and run again.

        Args:
            user_ids: One or several, by the shop's own ids. An id that nobody has is on the list as well: it may come
                with a file or a backup.
            session_ids: Anonymous visitors, one or several, by the ids of their sessions (``anonymous_id``). The
                sessions of a user who is forgotten are forgotten without being named here.
            reason: In a sentence, without a name; it stays on the list.
            later: Leave what takes long, from making anew on, to the next :meth:`molar.Shop.align`: one for many.

        Raises:
            RequestError: If an id is empty, that of a user is a pseudonym, or none is given.
            MissingArtefactError: If there is no workspace.
            DataError: If the list cannot be written, or a file of the catalogue cannot be read.
        """
        return self._heed("forgotten", user_ids, reason, later, session_ids)

    def object(self, user_ids: str | Collection[str], *, reason: str = "", later: bool = False) -> "Forgotten":
        """Heed objections: as :meth:`forget`, but of all that ever comes, until :meth:`withdraw`.

        Who is asked for gets what most people took, with a note. Events of theirs are taken and not kept.

        Args:
            user_ids: See :meth:`forget`.
            reason: See :meth:`forget`.
            later: See :meth:`forget`.

        Raises:
            RequestError: If an id is empty or a pseudonym, or none is given.
            MissingArtefactError: If there is no workspace.
            DataError: If the list cannot be written, or a file of the catalogue cannot be read.
        """
        return self._heed("objected", user_ids, reason, later)

    def withdraw(self, user_ids: str | Collection[str]) -> int:
        """End objections; how many. What was removed stays so; the shop's files are read with these people again.

        Args:
            user_ids: See :meth:`forget`.

        Raises:
            RequestError: If somebody has not objected.
            MissingArtefactError: If there is no workspace.
            DataError: If the list cannot be written.
        """
        from molar_indexes.privacy.forgetting import end_objection

        with recorded(self.shop.opened(), "privacy object") as work:
            ended = end_objection(self.shop.opened(), _several(user_ids))
            work.outcome = f"{ended:,} objections withdrawn"
            return ended

    def certificates(self) -> "list[Certificate]":
        """What was done for people who are forgotten or object, oldest first.

        Raises:
            MissingArtefactError: If there is no workspace.
            DataError: If one is damaged, was changed, or is missing.
        """
        from molar_indexes.privacy.certificate import certificates, faults_of

        workspace = self.shop.opened()
        if wrong := faults_of(workspace):
            raise DataError("the chain of certificates is broken: " + "; ".join(wrong), "restore them from a backup")
        return certificates(workspace)

    def certificate(
        self, number: int, *, page: str | Path | None = None, language: Literal["en", "de", "ja"] = "en"
    ) -> "Certificate":
        """One of the certificates.

        Args:
            number: Which one, from 1.
            page: Where it goes as an HTML page; None: nowhere.
            language: Of the page.

        Raises:
            MissingArtefactError: If there is no workspace.
            RequestError: If there is no such certificate, or no such language.
            DataError: If it is damaged.
        """
        from molar_indexes.privacy.certificate import certificate
        from molar_indexes.privacy.report.page import certificate_page

        found = certificate(self.shop.opened(), number)
        if page is not None:
            write_atomically(Path(page), certificate_page(found, language), OWNER)
        return found

    def _heed(
        self,
        kind: "Kind",
        user_ids: str | Collection[str],
        reason: str,
        later: bool,
        session_ids: str | Collection[str] = (),
    ) -> "Forgotten":
        from molar.purging import Purge
        from molar_indexes.privacy.forgetting import heed
        from molar_indexes.server.config import ServerConfig

        sessions = _several(session_ids) if session_ids else []
        ids, workspace = [] if sessions and not user_ids else _several(user_ids), self.shop.opened()
        folder = next(iter(self._catalogue([])), None)
        server = ServerConfig.of(self.shop.settings.index)
        server = None if server is None or server.users != "server" else server
        what = "privacy forget" if kind == "forgotten" else "privacy object"
        with self.shop.progress() as progress, recorded(workspace, what) as work:
            purge = Purge(workspace, self.shop.settings, progress)
            if not later and len(ids) + len(sessions) > _LOOKED_FOR:
                raise RequestError(
                    f"{len(ids) + len(sessions):,} people at once: each would be looked for twice in every file",
                    f"leave them to the next alignment (--later), or name {_LOOKED_FOR} at a time",
                )
            if not later:
                purge.look(ids, sessions)
            done = heed(workspace, folder, kind, ids, session_ids=sessions, reason=reason, server=server)
            work.outcome = f"{done.people:,} {kind}"
            if later or done.failed:
                return done
            try:
                return purge.finished(done)
            except MolarError as error:  # what names them is gone; the rest waits for the next alignment
                return replace(done, failed={"rebuilt": f"{error.message}; {error.hint}"})

    def _catalogue(self, notes: list[str]) -> list[Path]:
        try:
            folder = self.shop.folder()
        except MissingArtefactError:
            folder = None
        if folder is not None and folder.is_dir():
            return [folder]
        notes.append("the catalogue's folder is not known, or not there: it was not looked into")
        return []

    def _server(self, known: "KnownPerson") -> "list[FileMatches]":
        from molar_indexes.server.config import ServerConfig

        server = ServerConfig.of(self.shop.settings.index)
        if server is None:
            return []
        from molar_indexes.privacy.server import scan_server
        from molar_indexes.server.client import connected

        with connected(server.patient(_PATIENT)) as connection:
            return scan_server(connection, known)


def _several(user_ids: str | Collection[str]) -> list[str]:
    ids = [user_ids] if isinstance(user_ids, str) else list(user_ids)
    if not ids:
        raise RequestError("nobody is named", "name a person, or several")
    for one in ids:
        limits.text("an id", one, limits.ID)
        _refuse_empty(one)
    return list(dict.fromkeys(ids))


def _refuse_empty(user_id: str) -> None:
    if not user_id:
        raise RequestError("the id is empty", "name a person, or - to read the id from standard input")
