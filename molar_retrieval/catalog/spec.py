"""What the columns of a catalogue mean: ``catalog.toml`` beside the data, or a sensible default."""

import codecs
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, field_validator

from molar_retrieval.catalog.template import DEFAULT
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.config_files import read_toml
from molar_retrieval.workspace.settings import Settings, validated

FILE_NAME = "catalog.toml"


class FileSettings(Settings):
    """What every table of a catalogue may say of its file."""

    file: str | None = Field(None, min_length=1, description="path below this folder; default: by name")
    encoding: str = Field("utf-8", description="encoding of a CSV file, as Python calls it: cp1252, cp932, utf-16")

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)
            return codecs.lookup(encoding).name
        except (LookupError, ValueError) as error:
            raise ValueError(f"{encoding[:40]!r} is no encoding of text; write utf-8, cp1252 or cp932") from error


class ItemSettings(FileSettings):
    """``[items]``: the items file and its columns; what is not named goes by its well-known name."""

    item_id: str | None = Field(None, description="the id")
    variant_id: str | None = Field(None, description="the id of a variant, where a product has a row for each")
    level: Literal["product", "variant"] = Field("product", description="what is an item, where there are variants")
    title: str | None = Field(None, description="the title")
    description: str | None = Field(None, description="the long text")
    image: str | None = Field(None, description="path of the photo, relative to the catalogue or to images")
    images: str = Field("images", description="folder of the photos, below this one")
    attributes: tuple[str, ...] | None = Field(None, description="columns that enter the text; default: by rule")
    exclude: tuple[str, ...] = Field((), description="columns that are not kept for filters and display")
    lists: tuple[str, ...] = Field((), description="text columns that hold several values in one string")
    separator: str = Field("|", min_length=1, description="what stands between these values")
    decimal: Literal[".", ","] | None = Field(None, description="decimal sign of a CSV file; default: by column")
    active: str | None = Field(None, description="whether an item may be shown at all")
    available_from: str | None = Field(None, description="from when it may be shown")
    stock: str | None = Field(None, description="how many are left; at 0 it is not shown")

    @field_validator("images")
    @classmethod
    def _below(cls, images: str) -> str:
        parts = PurePosixPath(images.replace("\\", "/")).parts
        if not parts or "\0" in images or ":" in parts[0] or {"..", "/"} & set(parts):
            raise ValueError(f"{images[:40]!r} is no folder below that of the catalogue")
        return "/".join(parts)


class InteractionSettings(FileSettings):
    """``[interactions]``: the log and its columns; what is not named goes by its well-known name."""

    user_id: str | None = Field(None, description="who")
    item_id: str | None = Field(None, description="what")
    timestamp: str | None = Field(None, description="when")
    position: str | None = Field(None, description="order among a user's interactions of one time")
    weight: str | None = Field(None, description="how much an interaction counts, a positive number")
    event: str | None = Field(None, description="the kind of event; two kinds at one time are no duplicates")
    order_id: str | None = Field(None, description="the order; its rows have blank values as the first one has them")
    status: str | None = Field(None, description="the status of the order or its line")
    exclude_status: tuple[str, ...] = Field((), description="values of status that are no purchases")
    cancelled_at: str | None = Field(None, description="when an order was cancelled; with a value it is no purchase")
    quantity: str | None = Field(None, description="pieces, in files that are appended as events")
    price: str | None = Field(None, description="price of a piece, in files that are appended as events")
    value: str | None = Field(None, description="money of the row, in files that are appended as events")
    decimal: Literal[".", ","] | None = Field(None, description="decimal sign of a CSV file; default: by its numbers")
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = Field("auto", description="unit of times that are numbers")
    time_zone: str | None = Field(None, description="zone of times that name none: Europe/Berlin; default: UTC")
    time_format: str | None = Field(None, description="strptime format of times that are not ISO 8601")


class UserSettings(FileSettings):
    """``[users]``: the users file and its columns."""

    user_id: str | None = Field(None, description="the id")


class TextSettings(Settings):
    """``[text]``: how an item is put into words."""

    template: str = Field(DEFAULT, description="lines with fields in braces; a line without any value is dropped")
    language: str | None = Field(None, description="language of the texts, as in BCP 47: en, de, pt-BR")


class CatalogueSettings(Settings):
    """All of ``catalog.toml``."""

    items: ItemSettings = ItemSettings()
    interactions: InteractionSettings = InteractionSettings()
    users: UserSettings = UserSettings()
    text: TextSettings = TextSettings()

    @classmethod
    def read(cls, folder: Path) -> "CatalogueSettings":
        """Read ``folder/catalog.toml``, or the defaults; a DataError if it is no TOML, else a SettingsError."""
        path = folder / FILE_NAME
        try:
            values: Mapping[str, Any] = read_toml(path)
        except FileNotFoundError:
            values = {}
        except SettingsError as error:
            raise DataError(error.message, f"{error.hint}, or delete the file") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}", "make it readable, or delete the file") from error
        return validated(cls, values, str(path))


class ItemColumns(Settings):
    """Columns of the items file by meaning; without ``image``, ``images/<item_id>.jpg`` and its like are looked for."""

    item_id: str
    title: str | None = None
    description: str | None = None
    image: str | None = None
    attributes: tuple[str, ...] = ()
    payload: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    separator: str = "|"


class CatalogueSpec(Settings):
    """What the columns of a catalogue mean.

    Attributes:
        ignored_columns: Payload columns that are no attributes, and why.
        ambiguous_columns: Columns of numbers that can be read in two ways, and why; they are kept as words.
        availability: The columns that say from when an item may be shown, by role.
        variants: The column with the ids of an item's variants.
    """

    items: ItemColumns
    images: str = "images"
    text: TextSettings = TextSettings()
    interactions: InteractionSettings = InteractionSettings()  # resolved when the log is read
    users: UserSettings = UserSettings()
    ignored_columns: dict[str, str] = Field(default_factory=dict)
    ambiguous_columns: dict[str, str] = Field(default_factory=dict)
    availability: dict[str, str] = Field(default_factory=dict)
    variants: str | None = None
