"""From ``catalog.toml`` and the columns that are there to a :class:`CatalogueSpec`."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from molar_retrieval.availability import ROLES
from molar_retrieval.catalog import names
from molar_retrieval.catalog.attributes import SAMPLE, choose_attributes
from molar_retrieval.catalog.available import columns_of
from molar_retrieval.catalog.sources import columns_by_role, find_table, require_column
from molar_retrieval.catalog.spec import CatalogueSettings, CatalogueSpec, ItemColumns, ItemSettings
from molar_retrieval.catalog.table_source import TableSource
from molar_retrieval.catalog.template import ATTRIBUTES, Template
from molar_retrieval.catalog.values import is_bytes, is_word, payload_type, split_lists
from molar_retrieval.catalog.variants import FilledReader, VariantReader
from molar_retrieval.columns import DESCRIPTION, IMAGE, ITEM_ID, TITLE
from molar_retrieval.errors import DataError, nearest

_ROLES = {ITEM_ID: names.ITEM_ID, TITLE: names.TITLE, DESCRIPTION: names.DESCRIPTION, IMAGE: names.IMAGE}


def read_spec(folder: Path) -> CatalogueSpec:
    """What the columns of the catalogue in ``folder`` mean: ``catalog.toml``, or the default where it is silent."""
    settings = CatalogueSettings.read(folder)
    return resolve(settings, items_source(folder, settings))


def items_source(folder: Path, settings: CatalogueSettings | None = None) -> TableSource:
    """The items file of a catalogue, its numbers by the settings; a DataError if there is none, or it is unreadable."""
    settings = CatalogueSettings.read(folder) if settings is None else settings
    source = find_table(folder, "items", settings)
    if source is None:
        hint = "put items.parquet, items.csv or items.jsonl there, or let `molar init` map files of other names"
        raise DataError(f"{folder} has no items file", hint)
    return _with_variants(source, settings.items)


def _with_variants(source: TableSource, asked: ItemSettings) -> TableSource:
    """The items file as settings say that its rows are products or variants; itself where they name no variants."""
    if asked.variant_id is None:
        if asked.level == "variant":
            hint = 'name the column of the variants\' ids: [items] variant_id = "…"'
            raise DataError("catalog.toml: items.level is variant, and there is no items.variant_id", hint)
        return source
    others = [name for name in source.names if name != asked.variant_id]
    product = asked.item_id or names.well_known(names.ITEM_ID, others) or ITEM_ID
    for key, column in (("item_id", product), ("variant_id", asked.variant_id)):
        if column not in source.names:
            words = f"catalog.toml: items.{key} names the column {column!r}, which {source.path.name} does not have"
            raise DataError(words, f"its columns are {', '.join(source.names)}")
    if product == asked.variant_id:
        words = f"catalog.toml: items.item_id and items.variant_id are one column, {product!r}"
        raise DataError(words, "name the column of products as item_id, or leave variant_id out")
    named = {role: getattr(asked, role) or names.well_known([role], source.names) for role in ROLES}
    columns = {role: column for role, column in named.items() if column}
    reader = FilledReader if asked.level == "variant" else VariantReader
    return reader(source, product, asked.variant_id, lists=asked.lists, separator=asked.separator, availability=columns)


def _identified(asked: ItemSettings) -> ItemSettings:
    """The settings with the id of what is an item: of a product, or of a variant."""
    return asked.model_copy(update={"item_id": asked.variant_id}) if asked.level == "variant" else asked


def resolve(settings: CatalogueSettings, source: TableSource) -> CatalogueSpec:
    """Resolve settings against the columns of the items file; a DataError if one of them is not there."""
    asked, file, columns = _identified(settings.items), source.path.name, source.names
    roles = columns_by_role(asked, _ROLES, source, "items", [ITEM_ID], asked.exclude)
    types = dict(zip(source.schema.names, source.schema.types, strict=True))
    for role, name in roles.items():
        kind = types[name]
        if not _fills(kind, role):
            hint = f'name another column in catalog.toml, or do without: [items] exclude = ["{name}"]'
            raise DataError(f"{file}: the {role} column {name!r} holds {kind}", hint)
    kept_out = {*asked.exclude} - {source.variants}  # by which variants are found
    free = [name for name in columns if name not in roles.values() and name not in kept_out]
    usable = [name for name in free if payload_type(types[name]) is not None]
    ignored_columns = {name: f"it holds {types[name]}" for name in free if payload_type(types[name]) is None}
    for key, listed in (("exclude", asked.exclude), ("lists", asked.lists), ("attributes", asked.attributes or ())):
        for name in listed:
            require_column(name, columns, file, f"items.{key}")
    if roles[ITEM_ID] in asked.lists:
        raise DataError(f"catalog.toml: items.lists names {roles[ITEM_ID]!r}, the id", "take it off the list")
    named = {role: getattr(asked, role) for role in ROLES}
    for role, column in named.items():
        if column is not None:
            require_column(column, columns, file, f"items.{role}")
        if column in asked.lists:
            raise DataError(f"catalog.toml: items.lists names {column!r}, the {role} column", "take it off the list")
    when = columns_of(named, source, [name for name in usable if name not in asked.lists])
    if asked.attributes is None:
        product = settings.items.item_id if asked.level == "variant" else None
        ignored_columns |= dict.fromkeys(when.values(), "it says from when the item may be shown")
        ignored_columns |= {name: "it has ids" for name in (source.variants, product) if name in usable}
        reasons = _default_attributes(source, [name for name in usable if name not in ignored_columns], roles, asked)
        attributes = tuple(name for name, reason in reasons.items() if reason is None)
        ignored_columns |= {name: reason for name, reason in reasons.items() if reason is not None}
    else:
        attributes = _asked_attributes(asked.attributes, roles, source)
        ignored_columns |= {name: "catalog.toml does not name it" for name in usable if name not in attributes}
    items = ItemColumns(
        **roles, attributes=attributes, payload=tuple(usable), lists=asked.lists, separator=asked.separator
    )
    _check_template(settings.text.template, items, source)
    return CatalogueSpec(
        items=items,
        images=asked.images,
        text=settings.text,
        interactions=settings.interactions,
        users=settings.users,
        ignored_columns=ignored_columns,
        ambiguous_columns={name: reason for name, reason in source.ambiguous_columns.items() if name in usable},
        availability=when,
        variants=source.variants,
    )


def _fills(kind: pa.DataType, role: str) -> bool:
    """Whether a column of this type can be what it is named after."""
    if role == ITEM_ID:
        return is_word(kind)
    if role == IMAGE:
        return is_word(kind) and not is_bytes(kind)
    return payload_type(kind) is not None or is_bytes(kind)


def field_column(name: str, items: ItemColumns) -> str | None:
    """The column behind a template field: ``title`` and ``description`` are roles, other fields are columns."""
    return {TITLE: items.title, DESCRIPTION: items.description}.get(name, name)


def _default_attributes(
    source: TableSource, usable: Sequence[str], roles: dict[str, str], asked: ItemSettings
) -> dict[str, str | None]:
    sample = _sample(source, usable, set(asked.lists) if source.untyped else set())
    for name in set(asked.lists) & set(usable):
        position = sample.schema.get_field_index(name)
        sample = sample.set_column(position, name, split_lists(sample[name], asked.separator))
    texts = [roles[role] for role in (TITLE, DESCRIPTION) if role in roles]
    return choose_attributes(sample, usable, texts)


def _sample(source: TableSource, columns: Sequence[str], written: Collection[str]) -> pa.RecordBatch:
    batches, n = [], 0
    for rows in source.batches(columns, SAMPLE, as_written=written) if columns else ():
        batches.append(rows.batch)
        n += len(rows)
        if n >= SAMPLE:
            break
    if batches:
        return pa.concat_batches(batches).slice(0, SAMPLE)
    return pa.RecordBatch.from_arrays([pa.nulls(0, source.schema.field(c).type) for c in columns], list(columns))


def _asked_attributes(asked: Sequence[str], roles: dict[str, str], source: TableSource) -> tuple[str, ...]:
    for name in asked:
        role = next((role for role, column in roles.items() if column == name), None)
        if role is not None:
            raise DataError(f"catalog.toml: the attribute {name!r} is the {role} already", "take it off the list")
        if payload_type(kind := source.schema.field(name).type) is None:
            raise DataError(f"catalog.toml: the attribute {name!r} holds {kind}", "flatten it to strings or lists")
    return tuple(dict.fromkeys(asked))


def _check_template(template: str, items: ItemColumns, source: TableSource) -> None:
    fields = Template.parse(template, "catalog.toml: text.template").fields
    if not fields:
        raise DataError("catalog.toml: text.template has no field", "name one: {title}, {attributes}, {description}")
    usable = [field.name for field in source.schema if payload_type(field.type) is not None]
    known = [TITLE, DESCRIPTION, ATTRIBUTES, *usable]
    for name in fields:
        if name not in known:
            close = nearest(name, known, n=1)
            hint = f"did you mean {{{close[0]}}}?" if close else f"known are {', '.join(known)}"
            raise DataError(f"catalog.toml: text.template has the field {{{name}}}, which is no column", hint)
