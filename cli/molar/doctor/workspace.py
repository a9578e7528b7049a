"""The workspace: artefacts, fresh or stale, generations, whole or damaged, and the server's audit log."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from molar.doctor.health import Entry, Fault, broken, entry
from molar.doctor.places import folder_size
from molar_indexes.generations import list_generations, open_generation, rolled_back
from molar_retrieval.data.event_log_reader import opened
from molar_retrieval.data.event_store import REMEDY
from molar_retrieval.data.prepare import file_stamps, tree_stamp
from molar_retrieval.errors import MissingArtefactError, MolarError
from molar_retrieval.reports.wording import size
from molar_retrieval.workspace import artefacts as inventory
from molar_retrieval.workspace.activity_log import chain_faults, chain_head, work_done
from molar_retrieval.workspace.artefacts import MAKERS, OTHERS, Manifest, Workspace
from molar_retrieval.workspace.discovery import WorkspaceRecord, is_unrecorded, is_workspace, no_workspace

_SHORT = 12
_SHOWN = 3
GENERATIONS = "generations"
_AUDIT = "serving/audit.jsonl"


def artefacts(root: Path, deep: bool) -> Iterator[Entry]:
    """The live version of each kind: what it was made from, and whether that is what there is now.

    Nothing is told where there is no workspace. ``deep`` reads every byte, and compares photos, too, not the files'
    names, sizes and times only.
    """
    if is_unrecorded(root):
        wrong = no_workspace(root)
        yield entry("folder", "unknown", broken(wrong.message, wrong.hint))
    if not is_workspace(root):
        return
    workspace = Workspace(root)
    yield _catalogue_folder(workspace)
    yield from _event_log(workspace)
    yield from _former(workspace)
    if deep:
        yield from _events(workspace)
    others = {kind: maker for kind, maker in OTHERS.items() if workspace[kind].current is not None}
    for kind, maker in (MAKERS | others).items():
        if kind != GENERATIONS:
            yield _artefact(workspace, kind, deep)
        for folder in workspace[kind].partials():
            total, _ = folder_size(folder, 1.0)
            value = f"{size(total)} in {folder.name}; `{maker}` continues or clears it"
            yield entry(f"{kind}, unfinished", value, data={"folder": folder.name, "bytes": total})


def generations(root: Path, deep: bool) -> Iterator[Entry]:
    """All generations; the live one is tried. ``deep`` reads every byte, vector and user of all of them."""
    if not is_workspace(root):
        return
    workspace = Workspace(root)
    lines, back_from = list_generations(workspace), rolled_back(workspace)
    for line in lines:
        inputs = _inputs(workspace[GENERATIONS].root / line.name)
        problems = [line.problem] if line.problem else _damage(workspace, line.name, deep, open_it=line.live or deep)
        what = f"generation {line.name} is damaged: {'; '.join(problems[:_SHOWN])}"
        back = "run `molar index rollback` for the one before, or `molar align` to publish a new one"
        damage = broken(what, back) if line.live else Fault(what, "run `molar align`")
        stale = _stale(workspace, inputs) if line.live and not problems and back_from is None else None
        value = f"{line.backend}, {line.items:,} items, {line.users:,} users, made {_minute(line.created)}"
        if line.live and back_from is not None:
            value += f"; rolled back on purpose on {_minute(back_from.at)} from {back_from.former}"
            value += "; the next `molar update` or `molar align` undoes this"
        yield entry(
            f"{line.name}{' (live)' if line.live else ''}",
            value,
            bool(problems) and damage,
            stale is not None and Fault(f"the live generation was made from {stale}", "run `molar align`"),
            data={**line.to_dict(), "inputs": inputs, "problems": problems},
        )
    if not lines:
        yield entry("live", "none yet: `molar align` makes one")
    if workspace[GENERATIONS].current is None and (problem := _pointer(workspace)) is not None:
        yield entry("live", "none", broken(problem, "run `molar index rollback NAME`, or `molar align`"))


def work(root: Path) -> Iterator[Entry]:
    """What a signal ended and nobody has run again: which step it was at, and what to do."""
    seen: set[str] = set()
    for one in work_done(Workspace(root)):
        if one.what not in seen and one.state == "killed":
            problem = f"the last `molar {one.what}`, of {_minute(one.begun)}: {one.outcome}"
            yield entry(one.what, "killed", Fault(problem, one.remedy), data={"begun": one.begun})
        seen.add(one.what)


def audit(root: Path, deep: bool) -> Iterator[Entry]:
    """The audit log of `molar serve`; ``deep`` checks the chain of its lines."""
    path = root / _AUDIT
    head, faults = chain_head(path), chain_faults(path) if deep else []
    if head is None and not faults:
        return
    told = "its head is missing" if head is None else f"{head.last.seq:,} lines, the last one {head.last.digest}"
    more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
    what = f"the chain of the audit log is broken: {'; '.join(faults[:_SHOWN])}{more}"
    back = f"restore {path.parent} from a backup; to begin a new chain, move {path.stem}.*json* to another folder"
    data = None if head is None else {"lines": head.last.seq, "digest": head.last.digest, "faults": faults}
    yield entry("audit log", told, bool(faults) and broken(what, back), data=data)


def _pointer(workspace: Workspace) -> str | None:
    """What is wrong where no generation is live; None where none was published yet."""
    try:
        workspace[GENERATIONS].require()
    except MissingArtefactError:
        return "no generation is live" if workspace[GENERATIONS].versions() else None
    except MolarError as error:
        return error.message
    return None


def _event_log(workspace: Workspace) -> Iterator[Entry]:
    """How much was appended."""
    try:
        with opened(workspace) as state:
            last = None if state is None else state.last
    except MolarError as error:
        yield entry("events", "unreadable", broken(error.message, error.hint))
        return
    if last is not None:
        yield entry("events", f"{last:,} lines so far")


def _folder(workspace: Workspace) -> Path | None:
    try:
        return workspace.catalogue
    except MolarError:
        return None


def _catalogue_folder(workspace: Workspace) -> Entry:
    folder = _folder(workspace)
    if folder is None or not workspace.is_as_written:
        remedy = "delete the workspace and run `molar embed CATALOG`"
        return entry("folder", "unknown", broken("workspace.json is damaged", remedy))
    problem = f"the catalogue {folder} is not there any more"
    gone = Fault(problem, "put it back, or run `molar workspace move --catalog DIR` where it is now")
    written = WorkspaceRecord.read(workspace.root).catalogue
    other = Fault(
        f"workspace.json says that the catalogue was at {written}, it is found at {folder}",
        f"run `molar workspace move --catalog {folder}` if it was moved there",
    )
    return entry("folder", str(folder), not folder.is_dir() and gone, written != folder and other)


def _former(workspace: Workspace) -> Iterator[Entry]:
    """What encoders made that the workspace had before."""
    from molar_retrieval.embedding.vector_cache import previous_vectors

    for one in previous_vectors(workspace):
        back = f"`--model {one.encoder}` takes them again, `molar index prune` removes them"
        value = f"{size(one.bytes)} by {one.encoder}: {back}"
        data = {"encoder": one.encoder, "folder": one.folder.name, "bytes": one.bytes}
        yield entry("content, former", value, data=data)


def _events(workspace: Workspace) -> Iterator[Entry]:
    """The event log, by its checksums."""
    try:
        with opened(workspace) as state:
            if state is None:
                return
            found, last = state.damage(), state.last
    except MolarError as error:
        yield entry("event log", "unreadable", broken(error.message, error.hint))
        return
    what = f"the event log is damaged: {'; '.join(map(str, found[:_SHOWN]))}"
    more = f", and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    damage = broken(what + more, REMEDY) if found else None
    data = {"last": last, "damage": [asdict(one) for one in found]}
    yield entry("event log", f"{last:,} rows were appended", damage, data=data)


def _artefact(workspace: Workspace, kind: str, deep: bool) -> Entry:
    maker = f"run `{(MAKERS | OTHERS)[kind]}`"
    try:
        folder, manifest = workspace[kind].require()
    except MissingArtefactError:
        return entry(kind, f"none yet: `{MAKERS[kind]}` makes it")
    except MolarError as error:
        return entry(kind, "unreadable", broken(error.message, error.hint))
    value = f"{manifest.fingerprint[:_SHORT]}, made {_minute(manifest.created)} by molar {manifest.molar}"
    data: dict[str, Any] = {"fingerprint": manifest.fingerprint, "inputs": dict(manifest.inputs)}
    data |= {"created": manifest.created, "molar": manifest.molar, "fresh": True}
    if deep and (damage := inventory.check_inventory(folder, digests=True)):
        what = f"the {kind} is damaged: " + "; ".join(damage[:_SHOWN])
        remedy = f"delete {folder} and {maker}, which makes it again"
        return entry(kind, f"damaged: {value}", broken(what, remedy), data={**data, "problems": damage})
    problem = _stale(workspace, manifest.inputs)
    if kind == "als" and problem and _is_derived(workspace):
        return entry(kind, f"of the last training: {value}", data=data)
    problem = f"the {kind} was made from {problem}" if problem else _files_changed(workspace, manifest, deep)
    fault = None if problem is None else Fault(problem, maker)
    return entry(kind, f"{'stale' if fault else 'fresh'}: {value}", fault, data={**data, "fresh": fault is None})


def _is_derived(workspace: Workspace) -> bool:
    """Whether the alignment has been brought to the present by updates, which need no factors."""
    with suppress(MolarError):
        alignment = workspace["alignment"].manifest
        return alignment is not None and "derived" in alignment.facts
    return False


def _stale(workspace: Workspace, inputs: Mapping[str, str]) -> str | None:
    """Which inputs are not what the workspace has now, in words."""
    old = []
    for kind, made_from in inputs.items():
        try:
            live = workspace[kind].manifest
        except MolarError:
            continue  # said where that kind is looked at
        if live is not None and live.fingerprint != made_from:
            old.append(f"the {kind} {made_from[:_SHORT]}, now it is {live.fingerprint[:_SHORT]}")
    return " and ".join(old) or None


def _files_changed(workspace: Workspace, manifest: Manifest, deep: bool) -> str | None:
    """Whether the files that an artefact was read from have changed since."""
    sources = manifest.facts.get("sources") or {}
    folder, known = _folder(workspace), sources.get("files") or {}
    if folder is None or not folder.is_dir() or not known:
        return None
    now = file_stamps(folder, known)
    changed = sorted(name for name in known if now[name] != known[name])
    if changed:
        return f"{' and '.join(changed)} changed since the {manifest.kind} was read"
    photos = sources.get("photos")
    if deep and photos and tree_stamp(folder, photos["roots"]) != photos:
        return f"photos changed since the {manifest.kind} was read"
    return None


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _inputs(folder: Path) -> dict[str, str]:
    try:
        return dict(Manifest.read(folder).inputs)
    except MolarError:
        return {}


def _damage(workspace: Workspace, name: str, deep: bool, *, open_it: bool) -> list[str]:
    if not open_it:
        return inventory.check_inventory(workspace[GENERATIONS].root / name)
    from molar_indexes.verify import bytes_changed, verify

    try:
        if deep and (damage := bytes_changed(workspace, name)):
            return damage
        with open_generation(workspace, name) as generation:
            return verify(generation, deep=deep, read=True)
    except MolarError as error:
        return [error.message]
    except Exception as error:  # the engine on damaged files
        return [f"it cannot be read: {type(error).__name__}: {error}"]
