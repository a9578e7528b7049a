"""What follows a request to be forgotten: copies go, artefacts are made anew without them, and it is certified."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from molar_retrieval.privacy.suppression import AT_ONCE, LATER, SuppressedPerson, SuppressionList, mark_done
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import PRIVATE
from molar_retrieval.workspace.files import OWNER, write_atomically

if TYPE_CHECKING:
    from molar_indexes.privacy.certificate import BeyondReach, Certificate, CertifiedPerson, ScannedFile
    from molar_indexes.privacy.forgetting import Forgotten
    from molar_indexes.privacy.stored import KnownPerson
    from molar_retrieval.privacy.id_scan import FileMatches, IdPatterns
    from molar_retrieval.progress import Progress
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import MolarSettings

_PATIENT = 60.0
"""Seconds that a server may take to look through a collection without an index."""


@dataclass
class LookedFor:
    """Somebody who is looked for before anything of theirs goes, and after, by all that is known of them before.

    Attributes:
        patterns: The ids by which they are recognised.
        known: What that was made of.
        before: What was found.
    """

    patterns: "IdPatterns"
    known: "KnownPerson"
    before: "list[FileMatches]"


@dataclass
class Purge:
    """One request, from the first look to the certificate.

    Attributes:
        workspace: Where.
        settings: By which artefacts are made anew.
        progress: Told of it.
        people: Who is looked for: users, then sessions.
        fingerprints: Of what was live before.
        removed: Copies that went, by kind.
    """

    workspace: "Workspace"
    settings: "MolarSettings"
    progress: "Progress"
    people: list[LookedFor] = field(default_factory=list)
    fingerprints: "Mapping[str, str]" = field(default_factory=dict)
    removed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        from molar_indexes.privacy.purging import fingerprints

        self.fingerprints = fingerprints(self.workspace)

    def look(self, user_ids: Sequence[str], session_ids: Sequence[str] = ()) -> None:
        """Look for people, before anything of theirs goes."""
        from molar_indexes.privacy.stored import id_patterns

        for id_, session in [*((one, False) for one in user_ids), *((one, True) for one in session_ids)]:
            patterns, known = id_patterns(self.workspace, id_, session=session)
            self.people.append(LookedFor(patterns, known, self._scanned(patterns, known)))

    def finished(self, done: "Forgotten") -> "Forgotten":
        """Everything made anew without the people of a request whose names are gone already, and certified."""
        self._remove_copies()
        self.rebuild()
        certificate = self.finish(done.entries, done.source_rows)
        left = SuppressionList.of(self.workspace.root)
        ours = {(one.users, one.sessions) for one in done.entries}
        still = [one for one in left.people if (one.users, one.sessions) in ours]
        pending = dict.fromkeys(step for one in still for step in one.pending)
        return replace(done, certificate=certificate, pending=list(pending))

    def rebuild(self) -> None:
        """Make everything that is made of people's interactions anew, and live, as the live alignment was made."""
        from molar.aligning import align, prepare_log
        from molar_retrieval.workspace.settings import with_preset

        settings, alignment = self.settings, self.workspace["alignment"].manifest
        if alignment is None:
            if self.workspace["interactions"].current is not None:
                prepare_log(self.workspace, settings, self.progress)
            return
        preset, private = alignment.settings["align"].get("preset"), alignment.facts.get(PRIVATE)
        if preset is not None and preset != settings.align.preset:
            settings = with_preset(settings, preset)
        own = {"epsilon": None} if private is None else {name: private[name] for name in ("epsilon", "delta")}
        settings = settings.model_copy(update={"privacy": settings.privacy.model_copy(update=own)})
        live = settings.index.model_copy(update={"activate": True})
        align(self.workspace, settings.model_copy(update={"index": live}), self.progress)

    def finish(self, entries: Sequence[SuppressedPerson], source: Mapping[str, int]) -> "Certificate":
        """Remove what knew them, once nothing that is live does; tick it off on the list, and certify it.

        Args:
            entries: Of the list, in the order of the people who were looked for, if any were.
            source: Rows that the shop's own files still have, by file.
        """
        from molar_indexes.privacy import purging
        from molar_indexes.privacy.certificate import BeyondReach, issue
        from molar_indexes.privacy.report.page import certificate_page
        from molar_indexes.server.config import ServerConfig

        self._remove_copies()
        generations, still = purging.remove_former(self.workspace)
        self.removed["statistics"], held = purging.remove_released(self.workspace)
        still += held
        collections: list[str] = []
        if (server := ServerConfig.of(self.settings.index)) is not None:
            collections, left = purging.remove_collections(self.workspace, server.patient(_PATIENT))
            still += left
        people, files, others = self._looked_again(entries)
        beyond = [BeyondReach("source", name, count) for name, count in source.items()]
        beyond += [*still, *others, *purging.learnt(self.workspace)]
        beyond += [BeyondReach("elsewhere", str(path)) for path in purging.elsewhere(self.workspace)]
        after = purging.fingerprints(self.workspace)
        kinds = dict.fromkeys((*self.fingerprints, *after))
        certificate = issue(
            self.workspace,
            people,
            removed=dict(self.removed),
            generations=generations,
            collections=collections,
            artefacts={kind: (self.fingerprints.get(kind), after.get(kind)) for kind in kinds},
            beyond=[*beyond, BeyondReach("backups"), BeyondReach("recipients")],
            files=files,
        )
        page = path_of(self.workspace, certificate).with_suffix(".html")
        write_atomically(page, certificate_page(certificate, "en"), OWNER)
        mark_done(self.workspace.root, entries, *(LATER if not still else LATER[:1]))
        return certificate

    def _remove_copies(self) -> None:
        from molar_indexes.privacy.purging import remove_copies

        self.removed.update(remove_copies(self.workspace))

    def _looked_again(
        self, entries: Sequence[SuppressedPerson]
    ) -> "tuple[list[CertifiedPerson], list[ScannedFile], list[BeyondReach]]":
        from molar_indexes.privacy.certificate import BeyondReach, CertifiedPerson, ScannedFile, ScanSum

        if not self.people:
            return [CertifiedPerson.of(one) for one in entries], [], []
        found: dict[str, FileMatches] = {}
        people = []
        for entry, one in zip(entries, self.people, strict=True):
            after = self._scanned(one.patterns, one.known)
            people.append(CertifiedPerson.of(entry, ScanSum.of(one.before), ScanSum.of(after)))
            for file in after:
                worst = found.setdefault(file.file, file)
                found[file.file] = max(worst, file, key=lambda of: ("clean", "not proven", "found").index(of.state))
        root = self.workspace.root
        files = []
        for name, file in found.items():
            path = root.parent / name
            digest = fingerprint.of_file(path) if path.is_file() else ""
            files.append(ScannedFile(name, file.decoder, file.state, digest))
        others = [BeyondReach("other", one.file) for one in files if one.state == "found"]
        return people, files, others

    def _scanned(self, patterns: "IdPatterns", known: "KnownPerson") -> "list[FileMatches]":
        """What the workspace and the server have; the shop's own files are told by their rows."""
        from molar_indexes.privacy.server import scan_server
        from molar_indexes.server.client import connected
        from molar_indexes.server.config import ServerConfig
        from molar_retrieval.privacy.id_scan import scan

        found = scan([self.workspace.root], patterns, self.progress)
        if (server := ServerConfig.of(self.settings.index)) is not None:
            with connected(server.patient(_PATIENT)) as connection:
                found += scan_server(connection, known)
        return found


def settle(purge: Purge) -> "Certificate | None":
    """Finish what is pending, once everything was made anew; None: nobody waits for it, or more is to be done before.

    Nobody says again who they are, so they are not looked for.
    """
    from molar_indexes.privacy import purging

    workspace = purge.workspace
    suppressed = SuppressionList.of(workspace.root)
    waiting = [
        one for one in suppressed.people if set(one.pending) & set(LATER) and not set(one.pending) & set(AT_ONCE)
    ]
    log = workspace["interactions"].manifest
    if not waiting or log is None or not purge.settings.index.activate:
        return None
    if not any("rebuilt" in one.pending for one in waiting) and purging.shown(workspace):
        return None  # an experiment shows a former generation still, and all else was certified
    if (log.facts.get("sources") or {}).get("suppressed") != suppressed.digest:  # somebody came while it was made
        return None
    certificate = purge.finish(waiting, {})
    words = f"certificate {certificate.number}: {len(waiting):,} people left out of all that is live"
    purge.progress.note(words)
    return certificate


def path_of(workspace: "Workspace", certificate: "Certificate") -> Path:
    """Where a certificate lies."""
    from molar_indexes.privacy.certificate import FOLDER

    return workspace.root / FOLDER / f"{certificate.number:06d}.json"
