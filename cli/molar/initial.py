"""From somebody's own tables to a shop: what they mean is proposed, shown and written down."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from molar.base import Display, plain_errors
from molar.shop import Shop
from molar_retrieval.errors import MolarError
from molar_retrieval.workspace.discovery import workspace_for

if TYPE_CHECKING:
    from molar_retrieval.data.inference.infer import InferredSchema
    from molar_retrieval.data.inference.preview import Preview
    from molar_retrieval.data.schema import Stem


@dataclass(frozen=True)
class Initial:
    """Tables that have become a shop.

    Attributes:
        shop: With a catalogue; nothing is made of it yet.
        proposal: What the tables mean, and what of them is not understood.
        preview: Their first rows as molar reads them.
        text: ``catalog.toml``.
        written: Where it lies; None after a dry run.
        encoder_note: What to do where the encoder does not know the language of the texts.
    """

    shop: Shop
    proposal: "InferredSchema"
    preview: "Preview"
    text: str
    written: Path | None
    encoder_note: str | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        found = self.proposal
        return {
            "catalogue": str(found.folder),
            "written": None if self.written is None else str(self.written),
            "settings": {section: dict(values) for section, values in found.sections.items()},
            "tables": [
                {
                    "kind": table.stem,
                    "file": str(table.path),
                    "form": table.form,
                    "rows": table.rows,
                    "all_rows": table.whole,
                    "columns": {role: {"column": one.name, "because": one.why} for role, one in table.columns.items()},
                    "not_used": list(table.unused) if table.stem != "items" else [],
                }
                for table in found.tables
            ],
            "language": found.language,
            "variants": None if found.variants is None else asdict(found.variants),
            "in_vectors": list(self.preview.attributes),
            "kept": self.preview.kept,
            "items": self.preview.items,
            "interactions": self.preview.interactions,
            "not_understood": [*found.findings, *self.doubts()],
            "encoder": self.encoder_note,
        }

    def doubts(self) -> list[str]:
        """Numbers that can be read in two ways, in words."""
        from molar_retrieval.data.values import sign_tells

        found = self.preview.doubtful.items()
        remedies = [(name, why, "--decimal tells" if sign_tells(why) else "write it in one way") for name, why in found]
        return [f"{name!r} is kept as words, not as numbers: {why}; {remedy}" for name, why, remedy in remedies]


@plain_errors
def init(
    *files: str | Path,
    items: str | Path | None = None,
    interactions: str | Path | None = None,
    users: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    decimal: Literal[".", ","] | None = None,
    time_format: str | None = None,
    time_zone: str | None = None,
    language: str | None = None,
    level: Literal["product", "variant"] | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    workspace: str | Path | None = None,
    display: Display | None = None,
) -> Initial:
    """Find out what tables mean, and write it into ``catalog.toml``; no table is renamed, moved or changed.

    Args:
        *files: The items, the purchases and, where there are some, the users, in any order, as CSV, JSONL or Parquet;
            or the folder with them.
        items: The table of the items, where they do not tell.
        interactions: The table of the purchases, views …, where they do not tell.
        users: The table of the users, where they do not tell.
        columns: What a column is called, by ``item_id``, ``title``, ``interactions.item_id`` …; empty: there is none.
        decimal: The decimal sign of the items' numbers.
        time_format: The ``strptime`` format of the purchases' times.
        time_zone: The zone of times that name none: ``Europe/Berlin``.
        language: Of the texts, as in BCP 47.
        level: What is recommended where products have variants; None: products.
        overwrite: Replace a ``catalog.toml`` that says something else.
        dry_run: Write nothing.
        workspace: Where all that molar makes goes; None: as :func:`molar.open`.
        display: Makes the progress display of a long step; None: the one that suits a terminal or a notebook.

    Raises:
        DataError: If a table cannot be read, or lacks what it needs.
        SettingsError: If something has to be said, does not fit the tables, or ``catalog.toml`` says something else.
    """
    from molar_retrieval.data.inference.columns import Overrides
    from molar_retrieval.data.inference.infer import config_text, infer, write_config
    from molar_retrieval.data.inference.preview import preview

    said = Overrides(columns or {}, decimal, time_format, time_zone, language, level)
    given = {"items": items, "interactions": interactions, "users": users}
    named: dict[Stem, Path] = {stem: Path(path) for stem, path in given.items() if path is not None}  # type: ignore[misc]
    found = infer([Path(path) for path in files], named, said)
    first = preview(found)
    written = None if dry_run else write_config(found, overwrite=overwrite)
    place = workspace_for(found.folder, found.folder.resolve().parent) if workspace is None else Path(workspace)
    shop = Shop(found.folder, place, display=display)
    return Initial(shop, found, first, config_text(found), written, _encoder_note(shop, found.language))


def _encoder_note(shop: Shop, language: str | None) -> str | None:
    from molar_retrieval.encoders.base import language_note
    from molar_retrieval.encoders.registry import describe

    try:
        return language_note(describe(shop._encoding().embed), language, shop.folder())
    except MolarError:  # an encoder that is not there is for `molar embed` to say
        return None
