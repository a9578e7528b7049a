"""From the whole catalogue to a part of it, whose vectors are there already."""

from molar_retrieval.catalog import prepare_catalogue
from molar_retrieval.config import EmbedSettings
from molar_retrieval.embedding.run import embed
from molar_retrieval.progress import SILENT, Progress
from molar_retrieval.workspace import Workspace


def prepare_part(workspace: Workspace, where: str, settings: EmbedSettings, progress: Progress = SILENT) -> None:
    """Make the items that fulfil a condition the workspace's catalogue, with their vectors; known ones are reused.

    Args:
        workspace: With a catalogue.
        where: See :mod:`molar_retrieval.filter_language`.
        settings: Of the encoder.
        progress: Told of the work.

    Raises:
        DataError: If no item fulfils it.
        RequestError: If it is not understood.
    """
    prepare_catalogue(workspace.catalogue, workspace, progress, where=where)
    embed(workspace, settings, progress=progress)
