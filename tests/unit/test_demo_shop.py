import re
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chi2_contingency

from molar_retrieval.data.demo import NOTICE, DemoFacts, plan_shop, write_demo_shop
from molar_retrieval.data.demo.catalogue import items_table
from molar_retrieval.data.demo.vocabulary import COLOURS, PATTERNS
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.fingerprint import of_file

PATTERN_WORDS = re.compile(
    r"\b(plain|unpatterned|strip|pinstrip|dot|polka|spot|speckl|check|gingham|plaid|tartan|pattern|print|motif)", re.I
)
COLOUR_WORDS = re.compile(
    r"\b(red|orange|yellow|green|blue|purple|pink|gr[ea]y|colou?r|scarlet|crimson|mustard|navy|rose|violet|teal)", re.I
)
STORY_WORDS = re.compile(r"fair|recycl|lavender|astronom|galax|repair|mend", re.I)


@pytest.fixture(scope="module")
def facts(tmp_path_factory) -> DemoFacts:
    started = time.process_time()
    facts = write_demo_shop(tmp_path_factory.mktemp("demo") / "shop")
    # 4 s where this was written; the promise is 8 s, and shared test machines get some slack.
    assert time.process_time() - started < 16
    return facts


@pytest.fixture(scope="module")
def shop():
    return plan_shop()


@pytest.fixture(scope="module")
def items(facts) -> pa.Table:
    return pq.read_table(facts.folder / "items.parquet")


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def words(row: dict) -> str:
    """All that any text encoder could read about an item, and all other columns too."""
    return " ".join(str(value) for name, value in row.items() if name not in ("image", "item_id"))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path):
    small = {"items": 40, "users": 25}
    first, again, other = (
        contents(write_demo_shop(tmp_path / name, seed=seed, **small).folder)
        for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert {"items.parquet", "interactions.parquet", "users.parquet", "catalog.toml", "README.txt"} < set(first)
    assert first["items.parquet"] != other["items.parquet"]
    assert first["interactions.parquet"] != other["interactions.parquet"]
    shared = [name for name in first if name.startswith("images/") and name in other]
    assert shared
    assert all(first[name] != other[name] for name in shared)


def test_the_shop_says_that_it_is_made_up(facts):
    assert "made up" in NOTICE
    assert (facts.folder / "README.txt").read_text("utf-8").startswith(NOTICE)


def test_an_earlier_demo_shop_is_replaced_but_nothing_else(tmp_path):
    folder = tmp_path / "shop"
    write_demo_shop(folder, items=60, users=20)
    write_demo_shop(folder, items=40, users=20)
    assert len(list((folder / "images").iterdir())) == 38
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "items.csv").write_text("item_id\n1\n")
    with pytest.raises(DataError, match="not the demo shop"):
        write_demo_shop(mine, items=40, users=20)
    assert [path.name for path in mine.iterdir()] == ["items.csv"]


def test_a_write_that_was_cut_short_can_be_repeated(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("molar_retrieval.data.demo.catalogue.draw", fail)
        with pytest.raises(KeyboardInterrupt):
            write_demo_shop(tmp_path / "shop", items=40, users=20)
    assert write_demo_shop(tmp_path / "shop", items=40, users=20).items == 40


@pytest.mark.parametrize(("items", "users"), [(39, 20), (40, 19), (0, 0)])
def test_a_shop_that_is_too_small_is_refused(items, users):
    with pytest.raises(SettingsError, match="too small"):
        plan_shop(items=items, users=users)


def test_counts_and_columns_are_as_promised(facts, items):
    assert (facts.items, facts.users) == (400, 800)
    assert sum(item.cold for item in plan_shop().items) == 32
    log = pq.read_table(facts.folder / "interactions.parquet")
    users = pq.read_table(facts.folder / "users.parquet")
    assert len(log) == facts.interactions > 5000
    assert items["description"].null_count == items["image"].null_count == 20
    assert not set(log["item_id"].to_pylist()) - set(items["item_id"].to_pylist())
    assert len(set(log["item_id"].to_pylist())) <= 400 - 32
    registered, active = set(users["user_id"].to_pylist()), set(log["user_id"].to_pylist())
    assert len(registered - active) == 16
    assert facts.example_user in active
    assert facts.new_user in registered - active
    assert pa.types.is_timestamp(log.schema.field("timestamp").type)
    assert log["timestamp"].to_pylist() == sorted(log["timestamp"].to_pylist())


def test_every_photo_is_a_small_readable_jpeg(facts, items):
    named = [path for path in items["image"].to_pylist() if path]
    assert sorted(named) == sorted(f"images/{path.name}" for path in (facts.folder / "images").iterdir())
    for path in named:
        assert (facts.folder / path).stat().st_size < 30_000
    with Image.open(facts.folder / named[0]) as photo:
        assert (photo.format, photo.mode, photo.size) == ("JPEG", "RGB", (224, 224))
        photo.load()


def test_people_behave_as_people_do(shop):
    lengths = [len(user.purchases) for user in shop.users]
    assert lengths.count(0) == 16
    assert 20 <= lengths.count(1) <= 40
    assert 8 < np.mean(lengths) < 20
    sold = Counter(purchase.item for user in shop.users for purchase in user.purchases)
    ordered = sorted(sold.values(), reverse=True)
    assert sum(ordered[:40]) > 0.25 * sum(ordered)  # a tenth of the items makes more than a quarter of the sales
    assert not any(shop.items[item].cold for item in sold)
    repeats = sum(len(user.purchases) - len({p.item for p in user.purchases}) for user in shop.users)
    assert 0 < repeats < 0.03 * sum(lengths)
    for user in shop.users:
        times = [purchase.timestamp for purchase in user.purchases]
        assert all(a < b for a, b in pairwise(times))


def test_tastes_show_in_what_people_buy(shop):
    both = [user for user in shop.users if user.pattern and user.story and len(user.purchases) > 4]
    assert len(both) > 300
    rates = [np.mean(shop.matches(user)[[p.item for p in user.purchases]]) for user in both]
    assert np.mean(rates) > 5 * np.mean([shop.matches(user).mean() for user in both])
    follows = [
        after.item in shop.items[before.item].companions
        for user in shop.users
        for before, after in pairwise(user.purchases)
        if after.timestamp - before.timestamp < 3600
    ]
    assert np.mean(follows) > 0.3  # by chance about 4 in 400


def test_no_text_or_attribute_mentions_the_pattern(items):
    leaks = [(row["item_id"], words(row)) for row in items.to_pylist() if PATTERN_WORDS.search(words(row))]
    assert leaks == []


def test_the_colour_of_things_for_the_home_is_in_the_photo_only(items):
    for row in items.to_pylist():
        if row["department"] == "Home":
            assert not COLOUR_WORDS.search(words(row)), row
        else:
            assert row["colour"] in COLOURS
            assert not COLOUR_WORDS.search(f"{row['title']} {row['description']}"), row


def test_the_story_is_told_in_the_description_only(items):
    for row in items.to_pylist():
        rest = {name: value for name, value in row.items() if name != "description"}
        assert not STORY_WORDS.search(words(rest)), row


@pytest.mark.parametrize("column", ["category", "brand", "material", "colour", "in_stock", "released", "price"])
@pytest.mark.parametrize("hidden", ["pattern", "story"])
def test_no_column_gives_a_hidden_feature_away(shop, items, column, hidden):
    values = items[column].to_pylist()
    if column == "price":
        values = np.digitize(values, np.quantile(values, (0.25, 0.5, 0.75))).tolist()
    table = Counter((str(value), getattr(item, hidden)) for value, item in zip(values, shop.items, strict=True))
    rows, columns = (sorted({key[i] for key in table}) for i in (0, 1))
    counts = np.array([[table[row, column_] for column_ in columns] for row in rows])
    assert chi2_contingency(counts).pvalue > 1e-3


def test_the_truth_is_not_in_the_folder(facts, items):
    assert not {"pattern", "story", "popularity", "cold", "companions"} & set(items.column_names)
    assert set(pq.read_schema(facts.folder / "users.parquet").names) == {"user_id", "segment"}
    everything = {path.name for path in facts.folder.iterdir()}
    tables = {"items.parquet", "interactions.parquet", "users.parquet"}
    assert everything == tables | {"images", "catalog.toml", "README.txt"}


def test_texts_are_varied(items):
    descriptions = pc.drop_null(items["description"])
    assert pc.count_distinct(descriptions).as_py() > 0.97 * len(descriptions)
    assert pc.count_distinct(items["title"]).as_py() > 0.95 * len(items)
    openings = Counter(" ".join(text.split()[:4]) for text in descriptions.to_pylist())
    assert openings.most_common(1)[0][1] < 0.1 * len(descriptions)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**40), items=st.integers(40, 130), users=st.integers(20, 60))
def test_any_seed_and_size_makes_a_sound_shop(seed, items, users):
    shop = plan_shop(seed, items=items, users=users)
    assert shop == plan_shop(seed, items=items, users=users)
    assert len({item.item_id for item in shop.items}) == items
    assert len({user.user_id for user in shop.users}) == users
    assert not any(shop.items[p.item].cold for user in shop.users for p in user.purchases)
    assert any(not user.purchases for user in shop.users)
    assert all(item.has_photo or item.has_description for item in shop.items)
    patterns = Counter(item.pattern for item in shop.items)
    assert max(patterns.values()) - min(patterns[pattern] for pattern in PATTERNS) <= 5
    for row in items_table(shop).to_pylist():
        assert not PATTERN_WORDS.search(words(row)), row
        assert not re.search(r"\ba [aeiou]|[{}]|  ", f"{row['title']} {row['description']}", re.I), row
