"""A workspace in another place, or of a catalogue in another place."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from molar_retrieval import binding
from molar_retrieval.durable import sync_folder, sync_tree
from molar_retrieval.errors import DataError
from molar_retrieval.manifest import MAKERS, OTHERS
from molar_retrieval.workspace import Workspace, checked


def move_workspace(workspace: Workspace, target: Path) -> Workspace:
    """Bring a workspace to another folder, which must be new; killed at any moment, it is whole in one of the two.

    A DataError says that something is there, or that another process writes.
    """
    root, target = workspace.root.resolve(), checked(target.absolute())
    if target.exists() or target.is_symlink():
        raise DataError(f"{target} is there already", "name a new folder")
    if root in target.parents:
        raise DataError(f"{target} is in the workspace itself", "name a folder outside of it")
    catalogue = workspace.catalogue
    with ExitStack() as held:
        for kind in (*MAKERS, *OTHERS):
            held.enter_context(workspace.lock(kind))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            root.rename(target)
        except OSError:  # another disk
            partial = target.with_name(f"{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(root, partial, symlinks=True)
            sync_tree(partial)
            partial.rename(target)
            shutil.rmtree(root)
        sync_folder(target.parent)
        binding.Binding.of(target, catalogue).write(target)
    return Workspace(target)


def move_catalogue(workspace: Workspace, catalogue: Path) -> Path:
    """Say that a workspace's catalogue, which the caller has found there, lies elsewhere now."""
    folder = catalogue.resolve()
    binding.Binding.of(workspace.root, folder).write(workspace.root)
    return folder
