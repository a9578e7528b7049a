"""catalog.toml, well-known names, and the default attributes."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.column_names import is_variant, well_known, words
from molar_retrieval.data.schema import read_spec
from molar_retrieval.errors import DataError, SettingsError

N = 300


def _folder(tmp_path, toml=None, **columns):
    columns = {"item_id": [str(i) for i in range(N)], "title": [f"thing {i}" for i in range(N)], **columns}
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    if toml is not None:
        (tmp_path / "catalog.toml").write_text(toml)
    return tmp_path


def _cycle(*values):
    return [values[i % len(values)] for i in range(N)]


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("brand", _cycle("Ölmann", "Acme", None), None),
        ("colours", _cycle(["red", "blue"], [], None), None),
        ("sub_category", _cycle("tops", "shoes"), None),
        ("year", _cycle(1999, 2001), "numbers"),
        ("n_sold", _cycle(1, 2), "numbers"),
        ("in_stock", _cycle(True, False), "yes or no"),
        ("prices", _cycle([1.5], [2.5]), "type list"),
        ("popularity", _cycle("hot", "cold"), "made from the log"),
        ("times_sold", _cycle("hundreds", "thousands"), "made from the log"),
        ("released", _cycle("2020-01-01", "2021-05-06T10:00:00"), "numbers or dates"),
        ("launched", _cycle("3 Feb 2020", "14-March-2021"), "numbers or dates"),
        ("weight_text", _cycle("1,5", "2,5"), "numbers or dates"),
        ("imdb_id", _cycle("a", "b"), "id or a code"),
        ("tmdbId", _cycle("a", "b"), "id or a code"),
        ("colour_code", _cycle("blk", "wht"), "id or a code"),
        ("image_url", _cycle("a", "b"), "link or a file"),
        ("added_at", _cycle("spring", "summer"), "time"),
        ("description_source", _cycle("tmdb", "imdb"), "where another column comes from"),
        ("original_title", _cycle("a", "b"), "another version of 'title'"),
        ("alt_titles", _cycle(["a"], ["b"]), "another version of 'title'"),
        ("abstract", _cycle("long text " * 20, "more " * 40), "long text"),
        ("serial", [f"X{i}" for i in range(N)], "100% of its values are distinct"),
        ("nothing", _cycle("", None), "empty"),
    ],
)
def test_which_columns_are_attributes_by_default(tmp_path, name, values, reason):
    spec = read_spec(_folder(tmp_path, **{name: values}))
    if reason is None:
        assert spec.items.attributes == (name,)
        assert spec.ignored_columns == {}
    else:
        assert spec.items.attributes == ()
        assert reason in spec.ignored_columns[name]
    assert spec.items.payload == (name,)


def test_dates_by_type_never_enter(tmp_path):
    day = pa.array([18_000] * N, pa.int32()).cast(pa.date32())
    assert "dates" in read_spec(_folder(tmp_path, premiere=day)).ignored_columns["premiere"]


def test_a_second_version_of_an_attribute_is_told_by_name_and_values(tmp_path):
    genres = _cycle(["Drama"], ["Comedy", "Crime"])
    spec = read_spec(_folder(tmp_path, genres=genres, tmdb_genres=_cycle(["Drama", "War"], ["Crime"])))
    assert spec.items.attributes == ("genres",)
    assert spec.ignored_columns["tmdb_genres"] == "it repeats 'genres'"
    spec = read_spec(_folder(tmp_path, genres=genres, music_genres=_cycle(["Jazz"], ["Rock"])))
    assert spec.items.attributes == ("genres", "music_genres")


def test_few_distinct_values_are_no_evidence_of_an_id(tmp_path):
    columns = {"item_id": ["1", "2"], "title": ["a", "b"], "maker": ["x", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    assert read_spec(tmp_path).items.attributes == ("maker",)


def test_columns_that_cannot_be_stored_are_left_out_with_a_reason(tmp_path):
    spec = read_spec(_folder(tmp_path, nested=_cycle({"a": 1})))
    assert spec.items.payload == ()
    assert "struct" in spec.ignored_columns["nested"]


def test_dictionaries_and_lists_in_strings(tmp_path):
    brand = pa.array(_cycle("Acme", "Ajax")).dictionary_encode()
    spec = read_spec(_folder(tmp_path, '[items]\nlists = ["tags"]', brand=brand, tags=_cycle("a|b", "c")))
    assert spec.items.attributes == ("brand", "tags")
    assert spec.items.lists == ("tags",)


def test_the_mapping_wins_over_well_known_names(tmp_path):
    toml = """
        [items]
        item_id = "sku"
        title = "name"
        description = "title"
        image = "pic"
        attributes = ["year"]
        exclude = ["item_id"]
        [text]
        template = "{title} ({year})"
        language = "en"
    """
    spec = read_spec(_folder(tmp_path, toml, sku=_cycle("s"), name=_cycle("n"), pic=_cycle("p"), year=_cycle(1999)))
    items = spec.items
    assert (items.item_id, items.title, items.description, items.image) == ("sku", "name", "title", "pic")
    assert items.attributes == items.payload == ("year",)
    assert spec.text.template == "{title} ({year})"


def test_well_known_names(tmp_path):
    row = {"SKU": "1", "Name": "n", "Overview": "o", "photo": "p"}
    (tmp_path / "items.jsonl").write_text(json.dumps(row))
    items = read_spec(tmp_path).items
    assert (items.item_id, items.title, items.description, items.image) == ("SKU", "Name", "Overview", "photo")


@pytest.mark.parametrize(
    ("toml", "error", "message", "hint"),
    [
        ("[items\n", DataError, "not valid TOML", "correct the line"),
        ('[items]\ntitel = "x"', SettingsError, "unknown key 'items.titel'", "'title'"),
        ('[item]\ntitle = "x"', SettingsError, "unknown key 'item'", "'items'"),
        ("[items]\ntitle = 3", SettingsError, "items.title = 3", ""),
        ('[items]\ntitle = "brnd"', DataError, "'brnd'", "'brand'"),
        ('[items]\nattributes = ["brnd"]', DataError, "items.attributes", "'brand'"),
        ('[items]\nattributes = ["title"]', DataError, "is the title already", "take it off"),
        ('[items]\nexclude = ["x"]', DataError, "items.exclude", "its columns are"),
        ('[text]\ntemplate = "{brnd}"', DataError, "{brnd}", "{brand}"),
        ('[text]\ntemplate = "{title"', DataError, "text.template", "{title}"),
        ('[text]\ntemplate = "words"', DataError, "has no field", "{title}"),
        ('[interactions]\ntime_unit = "hours"', SettingsError, "time_unit", ""),
    ],
)
def test_mistakes_in_catalog_toml(tmp_path, toml, error, message, hint):
    with pytest.raises(error) as caught:
        read_spec(_folder(tmp_path, toml, brand=_cycle("Acme")))
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"title": ["a"]}, "no item_id column"), ({"item_id": [{"a": 1}]}, "the item_id column 'item_id' holds struct")],
)
def test_a_file_without_usable_ids_is_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "items.parquet")
    with pytest.raises(DataError, match=message):
        read_spec(tmp_path)


@pytest.mark.parametrize("photo", [b"\x89PNG", {"bytes": b"", "path": "x"}])
def test_photos_inside_the_table_are_refused_or_excluded(tmp_path, photo):
    with pytest.raises(DataError, match="the image column 'photo' holds") as caught:
        read_spec(_folder(tmp_path, photo=[photo] * N))
    (tmp_path / "catalog.toml").write_text(f"[items]\n{caught.value.hint.split('[items] ')[1]}")
    assert read_spec(tmp_path).items.image is None


def test_no_items_file(tmp_path):
    with pytest.raises(DataError, match="no items file") as caught:
        read_spec(tmp_path)
    assert "items.parquet" in caught.value.hint


def test_the_spec_is_frozen_and_has_a_fingerprint(tmp_path):
    spec = read_spec(_folder(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        spec.items.title = "x"
    assert spec.fingerprint() == read_spec(tmp_path).fingerprint()


def test_names():
    assert words("tmdbId") == words("tmdb_id") == words("TMDB-id") == ["tmdb", "id"]
    assert well_known(("a", "b"), ["B", "A "]) == "A "
    assert well_known(("a",), ["b"]) is None
    assert is_variant("alt_titles", "title")
    assert is_variant("title_en", "title")
    assert not is_variant("title", "title")
    assert not is_variant("subtitle", "title")
    assert not is_variant("glass", "glas")
