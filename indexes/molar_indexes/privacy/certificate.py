"""Certificates of what was done for people who are forgotten or object: ``WORKSPACE/privacy/certificates``.

A certificate names nobody: it has the salted hashes of the list. Each holds the digest of all else that it says and
that of the former one, so that one that was changed, or taken out, is seen by :func:`faults_of`. Nobody has signed
them: who can write the folder can write all of them anew.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from molar_retrieval import __version__
from molar_retrieval.errors import DataError, RequestError
from molar_retrieval.privacy.id_scan import FileMatches
from molar_retrieval.privacy.suppression import Kind, SuppressedPerson
from molar_retrieval.workspace import fingerprint
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.files import OWNER, write_atomically
from molar_retrieval.workspace.resources import library_versions

FOLDER, FORMAT = Path("privacy") / "certificates", 1
Beyond = Literal["source", "backups", "recipients", "elsewhere", "weights", "shown", "held", "collection", "other"]
"""What is out of reach, or still there: rows of the shop's own files, backups, who was sent lists, reports that were
written elsewhere, encoders that learnt from histories, generations that an experiment shows or somebody reads,
collections of a server, other files that hold something of the people."""


@dataclass(frozen=True)
class ScanSum:
    """What a scan found: files and collections, those that hold something of the person, those that are not proven."""

    files: int
    found: int
    not_proven: int
    hits: int

    @classmethod
    def of(cls, findings: Sequence[FileMatches]) -> "ScanSum":
        """The sum of some files."""
        states = [one.state for one in findings]
        hits = sum(match.times for one in findings for match in one.findings)
        return cls(len(findings), states.count("found"), states.count("not proven"), hits)


@dataclass(frozen=True)
class CertifiedPerson:
    """Somebody for whom it was done.

    Attributes:
        kind: What they asked for.
        at: When, in ISO 8601.
        hashes: As the list of people who are left out has them.
        before: What a scan found of them in the workspace and on the server before; None: it was not made, as nobody
            said again who they are.
        after: The same after.
    """

    kind: Kind
    at: str
    hashes: Sequence[str]
    before: ScanSum | None = None
    after: ScanSum | None = None

    @classmethod
    def of(
        cls, entry: SuppressedPerson, before: ScanSum | None = None, after: ScanSum | None = None
    ) -> "CertifiedPerson":
        """By an entry of the list."""
        at = datetime.fromtimestamp(entry.at / 1e6, UTC).isoformat(timespec="seconds")
        return cls(entry.kind, at, [*entry.users, *entry.sessions], before, after)


@dataclass(frozen=True)
class ScannedFile:
    """A file as it was after: its name, what it was read as, what of the people it holds, its digest (BLAKE2b, 128)."""

    file: str
    decoder: str
    state: str
    digest: str


@dataclass(frozen=True)
class BeyondReach:
    """Something that is out of reach, or still there: its name and a number, where it has some."""

    what: Beyond
    name: str = ""
    count: int | None = None


@dataclass(frozen=True)
class Certificate:
    """What was done.

    Attributes:
        number: From 1.
        made: When, in ISO 8601.
        former: Digest of the one before; None: it is the first.
        people: For whom.
        removed: Copies that went, by kind.
        generations: Generations that went.
        collections: Collections of a server that went.
        artefacts: Fingerprints before and after, by kind; equal where the people had no part in it.
        beyond: What is out of reach, or still there.
        files: Every file of the workspace after, where it was scanned.
        versions: Of molar and its libraries.
        format: Of the file.
        digest: Of all else.
    """

    number: int
    made: str
    former: str | None
    people: Sequence[CertifiedPerson]
    removed: Mapping[str, int]
    generations: Sequence[str]
    collections: Sequence[str]
    artefacts: Mapping[str, Sequence[str | None]]
    beyond: Sequence[BeyondReach]
    files: Sequence[ScannedFile] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT
    digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        return asdict(self)

    @classmethod
    def of_json(cls, told: Mapping[str, Any]) -> "Certificate":
        """From what :meth:`to_dict` made of it; a ValueError, TypeError or KeyError if it is none."""
        if told["format"] != FORMAT:
            raise ValueError(f"it has format {told['format']}, this version of molar reads {FORMAT}")
        people = [
            CertifiedPerson(**{**one, **{when: one[when] and ScanSum(**one[when]) for when in ("before", "after")}})
            for one in told["people"]
        ]
        files = [ScannedFile(**one) for one in told["files"]]
        return cls(**{**told, "people": people, "files": files, "beyond": [BeyondReach(**b) for b in told["beyond"]]})


def issue(workspace: Workspace, people: Sequence[CertifiedPerson], **told: Any) -> Certificate:
    """Write the next certificate and return it; ``told`` are the attributes of :class:`Certificate` from ``removed``.

    Raises:
        DataError: If another process writes one, or the former one is damaged.
    """
    with workspace.lock(str(FOLDER.parent)):
        folder = workspace.root / FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        known = paths(workspace)
        former = _read(known[-1]) if known else None
        versions = {"molar": __version__, **library_versions("numpy", "pyarrow", "torch")}
        made = datetime.now(UTC).isoformat(timespec="seconds")
        number = 1 if former is None else former.number + 1
        digest = None if former is None else former.digest
        fresh = Certificate(number, made, digest, people, **told, versions=versions)
        whole = Certificate(**{**vars(fresh), "digest": _digest(fresh.to_dict())})
        text = json.dumps(whole.to_dict(), ensure_ascii=False, indent=1)
        write_atomically(folder / f"{number:06d}.json", text + "\n", OWNER)
        return whole


def certificates(workspace: Workspace) -> list[Certificate]:
    """All of them, oldest first; a DataError says that one is damaged."""
    return [_read(path) for path in paths(workspace)]


def certificate(workspace: Workspace, number: int) -> Certificate:
    """One by its number; a RequestError says which there are."""
    for path in paths(workspace):
        if path.stem == f"{number:06d}":
            return _read(path)
    known = [int(path.stem) for path in paths(workspace)]
    there = f"there are 1 to {known[-1]}" if known else "none was issued yet"
    raise RequestError(f"there is no certificate {number}", there)


def faults_of(workspace: Workspace) -> list[str]:
    """What is wrong with the chain of certificates, as sentences: changed, damaged, missing ones."""
    wrong: list[str] = []
    former: str | None = None
    for number, path in enumerate(paths(workspace), 1):
        try:
            one = _read(path)
        except DataError as error:
            wrong.append(error.message)
            former = None
            continue
        if one.number != number or path.stem != f"{number:06d}":
            wrong.append(f"before {path.name} one is missing")
            break
        if _digest(one.to_dict()) != one.digest:
            wrong.append(f"{path.name} was changed")
        elif one.former != former and not wrong:
            wrong.append(f"{path.name} does not follow the one before")
        former = one.digest
    return wrong


def paths(workspace: Workspace) -> list[Path]:
    """Their files, oldest first."""
    return sorted((workspace.root / FOLDER).glob("[0-9]*.json"))


def _digest(told: Mapping[str, Any]) -> str:
    return fingerprint.of_json({name: value for name, value in told.items() if name != "digest"})


def _read(path: Path) -> Certificate:
    try:
        return Certificate.of_json(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"the certificate {path} cannot be read: {error}", "restore it from a backup") from error
