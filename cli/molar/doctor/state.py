"""The workspace: artefacts, fresh or stale, and generations, whole or damaged."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from molar.doctor.findings import Entry, Section, State
from molar.doctor.places import folder_size, in_words
from molar_retrieval import inventory
from molar_retrieval.errors import MissingArtefactError, MolarError
from molar_retrieval.workspace import MAKERS, Manifest, Workspace

_SHORT = 12
_SHOWN = 3
GENERATIONS = "generations"


def artefacts(workspace: Workspace, deep: bool) -> Section:
    """The live version of each kind: what it was made from, and whether that is what there is now.

    Args:
        workspace: Which.
        deep: Read every byte, and compare photos, too, not the files' names, sizes and times only.
    """
    entries = [_catalogue_folder(workspace)]
    for kind in MAKERS:
        if kind != GENERATIONS:
            entries.append(_artefact(workspace, kind, deep))
        entries += _unfinished(workspace, kind)
    return Section("artefacts", "Artefacts", tuple(entries))


def generations(workspace: Workspace, deep: bool) -> Section:
    """All generations; the live one is tried.

    Args:
        workspace: Which.
        deep: Read every byte, vector and user of all of them.
    """
    from molar_indexes.generations import list_generations

    entries = []
    for line in list_generations(workspace):
        name = f"{line.name}{' (live)' if line.live else ''}"
        value = f"{line.backend}, {line.items:,} items, {line.users:,} users, made {_minute(line.created)}"
        inputs = _inputs(workspace[GENERATIONS].root / line.name)
        problems = [line.problem] if line.problem else _damage(workspace, line.name, deep, open_it=line.live or deep)
        data = {**line.to_dict(), "inputs": inputs, "problems": problems}
        if problems:
            what = f"generation {line.name} is damaged: " + "; ".join(problems[:_SHOWN])
            state = State.BROKEN if line.live else State.WARNING
            remedy = "run `molar index rollback` for the one before, or `molar align` to publish a new one"
            entries.append(Entry(name, value, state, what, remedy if line.live else "run `molar align`", data))
        elif line.live and (stale := _stale(workspace, inputs)):
            what = f"the live generation was made from {stale}"
            entries.append(Entry(name, value, State.WARNING, what, "run `molar align`", data))
        else:
            entries.append(Entry(name, value, data=data))
    if not entries:
        entries.append(Entry("live", "none yet: `molar align` makes one", data=None))
    if workspace[GENERATIONS].current is None and (problem := _pointer(workspace)) is not None:
        remedy = "run `molar index rollback NAME`, or `molar align`"
        entries.append(Entry("live", "none", State.BROKEN, problem, remedy))
    return Section(GENERATIONS, "Generations", tuple(entries))


def _pointer(workspace: Workspace) -> str | None:
    """What is wrong where no generation is live; None where none was published yet."""
    try:
        workspace[GENERATIONS].require()
    except MissingArtefactError:
        return "no generation is live" if workspace[GENERATIONS].versions() else None
    except MolarError as error:
        return error.message
    return None


def _folder(workspace: Workspace) -> Path | None:
    """The catalogue's folder; None where the workspace does not tell."""
    try:
        return workspace.catalogue
    except MolarError:
        return None


def _catalogue_folder(workspace: Workspace) -> Entry:
    folder = _folder(workspace)
    if folder is None or not workspace.is_as_written:
        problem = "workspace.json is damaged"
        return Entry("folder", "unknown", State.BROKEN, problem, "delete the workspace and run `molar embed CATALOG`")
    if folder.is_dir():
        return Entry("folder", str(folder))
    problem = f"the catalogue {folder} is not there any more"
    return Entry("folder", str(folder), State.WARNING, problem, "put it back, or make a workspace where it is now")


def _artefact(workspace: Workspace, kind: str, deep: bool) -> Entry:
    maker = f"run `{MAKERS[kind]}`"
    try:
        folder, manifest = workspace[kind].require()
    except MissingArtefactError:
        return Entry(kind, f"none yet: `{MAKERS[kind]}` makes it", data=None)
    except MolarError as error:
        return Entry(kind, "unreadable", State.BROKEN, error.message, error.hint)
    value = f"{manifest.fingerprint[:_SHORT]}, made {_minute(manifest.created)} by molar {manifest.molar}"
    data: dict[str, Any] = {"fingerprint": manifest.fingerprint, "inputs": dict(manifest.inputs)}
    data |= {"created": manifest.created, "molar": manifest.molar, "fresh": True}
    if deep and inventory.kept(folder, manifest) and (damage := inventory.check(folder, digests=True)):
        what = f"the {kind} is damaged: " + "; ".join(damage[:_SHOWN])
        remedy = f"delete {folder} and {maker}, which makes it again"
        return Entry(kind, f"damaged: {value}", State.BROKEN, what, remedy, {**data, "problems": damage})
    if deep and not inventory.kept(folder, manifest):
        value += "; it has no digests, which the next version of it gets"
    problem = _stale(workspace, manifest.inputs)
    problem = f"the {kind} was made from {problem}" if problem else _files_changed(workspace, manifest, deep)
    if problem is None:
        return Entry(kind, f"fresh: {value}", data=data)
    return Entry(kind, f"stale: {value}", State.WARNING, problem, maker, {**data, "fresh": False})


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
    from molar_retrieval.catalog.stamps import file_stamps, tree_stamp

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


def _unfinished(workspace: Workspace, kind: str) -> Iterator[Entry]:
    for folder in workspace[kind].partials():
        size, _ = folder_size(folder, 1.0)
        value = f"{in_words(size)} in {folder.name}; `{MAKERS[kind]}` continues or clears it"
        yield Entry(f"{kind}, unfinished", value, data={"folder": folder.name, "bytes": size})


def _minute(moment: str) -> str:
    """A time of a manifest, for people."""
    return moment[:16].replace("T", " ")


def _inputs(folder: Path) -> dict[str, str]:
    try:
        return dict(Manifest.read(folder).inputs)
    except MolarError:
        return {}


def _damage(workspace: Workspace, name: str, deep: bool, *, open_it: bool) -> list[str]:
    if not open_it:
        return inventory.check(workspace[GENERATIONS].root / name)
    from molar_indexes.generations import open_generation
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
