"""Products with variants and orders with a status: found by `molar init`, and asked about by any id."""

import json

import own_tables
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shopify_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from settings_for_tests import SMALL_ALIGNMENT

import molar
from molar_eval.kpi.by_day import daily
from molar_retrieval.data.catalogue import Catalogue
from molar_retrieval.data.interactions import Interactions
from molar_retrieval.data.prepare import prepare_catalogue
from molar_retrieval.data.prepare_interactions import prepare_interactions
from molar_retrieval.errors import DataError, SettingsError
from molar_retrieval.workspace.artefacts import Workspace

TOML = '[items]\nitem_id = "handle"\nvariant_id = "sku"\nlists = ["size"]\n'
SHIRT = """handle,title,sku,size,stock,active,link,available_from
shirt,Red shirt,S1,S,3,yes,a.jpg,2024-05-01
shirt,,S2,M,-2,,b.jpg,2024-03-01
,,S3,L,4,no,,
hat,Blue hat,H1,One,0,no,,
shirt,Red shirt,S4,XL,1,yes,,
"""


def _read(folder, root=None):
    workspace = Workspace.for_catalogue(root or folder / ".molar", folder)
    prepare_catalogue(folder, workspace)
    catalogue = Catalogue(*workspace["catalogue"].require())
    columns = ["item_id", "title", "text", *catalogue.payload]
    return workspace, catalogue, [row for batch in catalogue.batches(columns, 1000) for row in batch.to_pylist()]


def _log(folder, workspace, catalogue):
    facts = prepare_interactions(folder, workspace).facts
    return facts, Interactions.open(workspace["interactions"].require()[0], catalogue.ids)


def test_rows_of_variants_become_one_product(tmp_path):
    (tmp_path / "items.csv").write_text(SHIRT)
    (tmp_path / "catalog.toml").write_text(TOML)
    _, catalogue, (shirt, hat) = _read(tmp_path)
    assert (shirt["item_id"], shirt["title"], shirt["size"], shirt["stock"]) == ("shirt", "Red shirt", [*"SML"], 7)
    assert (shirt["active"], shirt["available_from"]) == (True, "2024-03-01T00:00:00Z")
    assert (shirt["variants"], hat["variants"], hat["active"]) == (["S1", "S2", "S3"], ["H1"], False)
    assert "S1" not in shirt["text"]
    assert catalogue.rows(["S3", "hat", "H1", "S4", "nope"]).tolist() == [0, 1, 1, -1, -1]
    facts = catalogue.manifest.facts
    assert (facts["variants"], facts["rejects_by_kind"]) == (4, {"duplicate id": 1})  # a product that comes back


def test_each_variant_is_an_item_where_somebody_says_so(tmp_path):
    (tmp_path / "items.csv").write_text(SHIRT)
    (tmp_path / "catalog.toml").write_text(TOML + 'level = "variant"\n')
    _, catalogue, rows = _read(tmp_path)
    assert [(row["item_id"], row["title"], row["handle"], row["link"]) for row in rows] == [
        ("S1", "Red shirt", "shirt", "a.jpg"),
        ("S2", "Red shirt", "shirt", "b.jpg"),
        ("S3", "Red shirt", "shirt", None),
        ("H1", "Blue hat", "hat", None),
        ("S4", "Red shirt", "shirt", None),
    ]
    assert catalogue.rows(["shirt", "S2"]).tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("toml", "items", "words"),
    [
        (TOML, "handle,title,sku,size\nshirt,A,hat,S\nhat,B,H1,M\n", "'hat' is an item, and a variant of the item"),
        (TOML.replace("sku", "SKU"), SHIRT, "items.variant_id names the column 'SKU'"),
        (TOML.replace('"sku"', '"handle"'), SHIRT, "are one column"),
        ('[items]\nlevel = "variant"\n', SHIRT, "there is no items.variant_id"),
        (TOML, "handle,title,sku,size\n" + "".join(f"a,A,{i},S\n" for i in range(10_002)), "rows are of one product"),
    ],
)
def test_variants_that_cannot_be(tmp_path, toml, items, words):
    (tmp_path / "items.csv").write_text(items)
    (tmp_path / "catalog.toml").write_text(toml)
    with pytest.raises(DataError, match=words):
        _read(tmp_path)


def test_a_variant_of_two_products_is_of_the_first(tmp_path):
    (tmp_path / "items.csv").write_text("handle,title,sku,size\na,A,X,S\nb,B,X,M\n")
    (tmp_path / "catalog.toml").write_text(TOML)
    _, catalogue, _ = _read(tmp_path)
    assert catalogue.rows(["X"]).tolist() == [0]
    assert catalogue.manifest.facts["rejects_by_kind"] == {"variant of two items": 1}


_WORDS = st.text("abcé ", min_size=1, max_size=6).filter(str.strip)
_PRODUCT = st.fixed_dictionaries(
    {
        "title": _WORDS,
        "price": st.integers(1, 99),
        "size": st.lists(st.sampled_from(["S", "M", "38", "007"]), min_size=1, max_size=4, unique=True),
        "stock": st.integers(0, 9),
        "blank": st.booleans(),
    }
)


@given(st.lists(_PRODUCT, min_size=1, max_size=12), st.data(), st.sampled_from(["parquet", "csv"]))
@settings(max_examples=25, deadline=None)
def test_products_that_are_exploded_into_variants_are_the_same_again(tmp_path_factory, products, data, form):
    folder = tmp_path_factory.mktemp("shops")
    whole, exploded, log, log_of_variants = [], [], [], []
    for n, one in enumerate(products):
        names = {"id": f"p{n}", "title": one["title"], "price": one["price"]}
        whole.append({**names, "size": "|".join(one["size"]), "stock": one["stock"]})
        for place, size in enumerate(one["size"]):
            own = names if not place else {**dict.fromkeys(names), "id": None if one["blank"] else names["id"]}
            exploded.append({**own, "sku": f"{n}-{place}", "size": size, "stock": 0 if place else one["stock"]})
    for user in range(4):
        for time in range(data.draw(st.integers(0, 5))):
            n = data.draw(st.integers(0, len(products) - 1))
            sku = data.draw(st.integers(0, len(products[n]["size"]) - 1))
            log.append({"user_id": f"u{user}", "item_id": f"p{n}", "timestamp": time + 1_600_000_000})
            log_of_variants.append({**log[-1], "item_id": f"{n}-{sku}"})
    log.append({"user_id": "last", "item_id": "p0", "timestamp": 1_600_000_000})
    log_of_variants.append({**log[-1], "item_id": "0-0"})
    results = []
    for name, items, interactions in (("whole", whole, log), ("exploded", exploded, log_of_variants)):
        place = folder / name
        place.mkdir()
        for stem, rows in (("items", items), ("interactions", interactions)):
            table = pa.Table.from_pylist(rows)
            if form == "parquet":
                pq.write_table(table, place / f"{stem}.parquet")
            else:
                lines = [table.column_names, *zip(*table.to_pydict().values(), strict=True)]
                own_tables.write(place / f"{stem}.csv", lines, ",", "utf-8")
        variant = 'variant_id = "sku"\n' if name == "exploded" else ""
        (place / "catalog.toml").write_text(f'[items]\nitem_id = "id"\n{variant}lists = ["size"]\n')
        workspace, catalogue, rows = _read(place)
        facts, read = _log(place, workspace, catalogue)
        for row in rows:
            row.pop("variants", None)
        results.append((rows, catalogue.manifest.facts["ids"], facts["content"], read.users.array.to_pylist()))
    assert results[0] == results[1]


ORDERS = """order,who,status,when,what,cancelled
1,a,paid,2024-01-02,S1,
1,,,,H1,
2,b,REFUNDED ,2024-01-03,S2,
2,,,,H1,
3,b,paid,2024-01-03,S2,2024-01-04
3,,,,H1,
4,c,odd,2024-01-05,shirt,
,,paid,2024-01-05,shirt,
"""
ORDER_TOML = """[interactions]
order_id = "order"
user_id = "who"
item_id = "what"
timestamp = "when"
status = "status"
exclude_status = ["refunded"]
cancelled_at = "cancelled"
"""


def test_orders_are_filled_down_and_the_cancelled_ones_are_no_purchases(tmp_path):
    (tmp_path / "items.csv").write_text(SHIRT)
    (tmp_path / "interactions.csv").write_text(ORDERS)
    (tmp_path / "catalog.toml").write_text(TOML + ORDER_TOML)
    workspace, catalogue, _ = _read(tmp_path)
    facts, log = _log(tmp_path, workspace, catalogue)
    assert log.users.array.to_pylist() == ["a", "c"]
    assert log.item.tolist() == [0, 1, 0]
    assert facts["excluded"] == {"cancelled": 2, "REFUNDED": 2}
    assert facts["rejects_by_kind"] == {"missing user id": 1}


def test_an_order_across_the_border_of_two_batches_is_filled_down(tmp_path):
    n = 262_144  # rows of a batch
    rows = {"who": [f"u{i % 9}" for i in range(n - 1)] + ["z", None, None], "what": ["shirt"] * (n + 2)}
    rows |= {"when": [*range(10**9, 10**9 + n), None, None], "order": [str(i) for i in range(n - 1)] + ["last"] * 3}
    rows |= {"status": ["paid"] * (n - 1) + ["refunded", None, None], "cancelled": [None] * (n + 2)}
    (tmp_path / "items.csv").write_text(SHIRT)
    pq.write_table(pa.table(rows), tmp_path / "interactions.parquet")
    (tmp_path / "catalog.toml").write_text(TOML + ORDER_TOML)
    workspace, catalogue, _ = _read(tmp_path)
    facts, _ = _log(tmp_path, workspace, catalogue)
    assert (facts["excluded"], facts["rejects"], facts["users"]) == ({"refunded": 3}, 0, 9)


def test_a_log_of_cancelled_orders_alone_is_an_error(tmp_path):
    (tmp_path / "items.csv").write_text(SHIRT)
    (tmp_path / "interactions.csv").write_text("order,who,status,when,what,cancelled\n1,a,refunded,2024-01-02,S1,\n")
    (tmp_path / "catalog.toml").write_text(TOML + ORDER_TOML)
    workspace, catalogue, _ = _read(tmp_path)
    with pytest.raises(DataError, match="no row is a purchase; 1 rows excluded"):
        _log(tmp_path, workspace, catalogue)


def test_a_file_of_orders_is_appended_by_the_same_rules(tmp_path):
    (tmp_path / "items.csv").write_text(SHIRT)
    (tmp_path / "interactions.csv").write_text(ORDERS)
    (tmp_path / "catalog.toml").write_text(TOML + ORDER_TOML)
    shop = molar.open(tmp_path, workspace=tmp_path / ".molar")
    (tmp_path / "today.csv").write_text(ORDERS.replace("2024-01", "2024-02"))
    report = shop.events.append(tmp_path / "today.csv")
    assert (report.accepted, report.refused, report.excluded) == (3, 1, 4)
    workspace, catalogue, _ = _read(tmp_path, shop.workspace)
    _, log = _log(tmp_path, workspace, catalogue)
    assert log.item.tolist() == [0, 1, 0, 1, 0, 0]  # by variants, too


def test_a_shopify_export_is_found_to_have_variants_and_orders(tmp_path):
    skus = shopify_tables.shopify(tmp_path)
    made = molar.init(tmp_path)
    items, log = made.proposal.sections["items"], made.proposal.sections["interactions"]
    assert (items["item_id"], items["variant_id"], items["title"]) == ("Handle", "Variant SKU", "Title")
    assert (items["lists"], items["active"]) == (["Option1 Value", "Option2 Value"], "Status")
    assert items["stock"] == "Variant Inventory Qty"
    assert (log["user_id"], log["item_id"], log["timestamp"]) == ("Email", "Lineitem sku", "Created at")
    assert (log["order_id"], log["status"], log["cancelled_at"]) == ("Name", "Financial Status", "Cancelled at")
    assert log["exclude_status"] == ["refunded", "voided"]
    assert made.to_dict()["variants"] == {"products": 90, "variants": len(skus), "untitled": 0}
    workspace, catalogue, rows = _read(tmp_path)
    assert len(catalogue) == 90
    assert {row["item_id"] for row in rows if row["Status"] is False} == {row["item_id"] for row in rows[7::15]}
    facts, read = _log(tmp_path, workspace, catalogue)
    assert (facts["rejects"], read.n_users) == (0, 60)
    assert facts["interactions"] + sum(facts["excluded"].values()) + facts["duplicates"] == facts["rows"]


def test_variants_are_items_where_init_is_told_so(tmp_path):
    skus = shopify_tables.shopify(tmp_path)
    made = molar.init(tmp_path, level="variant")
    assert made.proposal.sections["items"]["level"] == "variant"
    assert "lists" not in made.proposal.sections["items"]
    _, catalogue, rows = _read(tmp_path)
    assert catalogue.ids.array.to_pylist() == [sku for sku, _ in skus]
    assert all(row["title"] for row in rows)
    own_tables.german(tmp_path)
    with pytest.raises(SettingsError, match="no variants that can be told"):
        molar.init(tmp_path / "Artikelstamm.csv", level="variant", dry_run=True)


def test_a_german_log_with_a_status_is_read_as_it_is_meant(tmp_path):
    shopify_tables.german_erp(tmp_path)
    made = molar.init(tmp_path)
    log = made.proposal.sections["interactions"]
    assert (log["order_id"], log["status"]) == ("Bestellnr.", "Status")
    assert log["exclude_status"] == ["Storniert", "Rückerstattet"]
    assert "variant_id" not in made.proposal.sections["items"]
    assert any("'Wartet auf Abholung'" in one for one in made.proposal.findings)
    workspace, catalogue, _ = _read(tmp_path)
    facts, read = _log(tmp_path, workspace, catalogue)
    assert (set(facts["excluded"]), facts["rejects"]) == ({"Storniert", "Rückerstattet"}, 0)
    assert read.n_users == len({10_000 + n % 40 for n in range(300) if n % 6 not in (3, 4)})


@pytest.fixture(scope="module")
def sold(tmp_path_factory):
    """A shop of variants with a published index."""
    folder = tmp_path_factory.mktemp("sold") / "shop"
    folder.mkdir()
    skus = shopify_tables.shopify(folder, products=40)
    lines = [f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items()]
    (folder / "molar.toml").write_text("\n".join(["[align]", *lines]), "utf-8")
    shop = molar.init(folder).shop
    shop.embed()
    shop.align()
    return shop, skus


def _ids(answer):
    return [item.item_id for item in answer.items]


def test_queries_exclusions_and_events_go_by_the_id_of_a_variant(sold):
    shop, skus = sold
    sku, i = next(one for one in skus if one[1] == 9)
    handle = f"{shopify_tables.KINDS[i % 6].lower().replace(' ', '-')}-{i}"
    like = _ids(shop.similar(handle, k=5))
    assert _ids(shop.similar(sku, k=5)) == like
    assert _ids(shop.search(similar_to=sku, k=5)) == _ids(shop.search(similar_to=handle, k=5))
    other = next(own for own, n in skus if like[0].endswith(f"-{n}"))
    assert _ids(shop.similar(sku, k=4, exclude=[other])) == like[1:]
    assert _ids(shop.similar(handle, k=5, candidates=[other, sku])) == like[:1]
    with shop.recommender() as recommender:
        lists = [_ids(recommender.query(session=[own], k=5)) for own in (sku, handle)]
    assert lists[0] == lists[1]
    assert handle in _ids(shop.query("new@mail.example", k=40, fallback="popular"))
    purchase = {"event": "purchase", "user_id": "new@mail.example", "timestamp": "2024-03-01"}
    assert shop.events.append([{**purchase, "event_id": "1", "item_id": sku}]).accepted == 1
    assert handle not in _ids(shop.query("new@mail.example", k=40))


def test_a_purchase_of_a_variant_counts_for_the_list_that_showed_its_product(tmp_path):
    (tmp_path / "items.csv").write_text(SHIRT)
    (tmp_path / "catalog.toml").write_text(TOML)
    workspace, _, _ = _read(tmp_path)
    about = {"user_id": "u", "request_id": "r", "timestamp": "2024-03-01T10:00:00Z"}
    shown = {"event": "impression", "event_id": "1", "item_id": "shirt", "position": 1, **about}
    bought = {"event": "purchase", "event_id": "2", "item_id": "S2", "value": 9.0, **about}
    assert molar.open(tmp_path, workspace=workspace.root).events.append([shown, bought]).accepted == 2
    (day,) = daily(workspace, 1, until=19_783)
    assert day.items.to_pylist()[0]["item_id"] == "shirt"
    assert day.figures.placements[""].attributed.purchases == 1


def test_changes_of_items_name_products(tmp_path):
    (tmp_path / "items.csv").write_text(SHIRT)
    (tmp_path / "catalog.toml").write_text(TOML)
    shop = molar.open(tmp_path, workspace=tmp_path / ".molar")
    about = {"event": "item_upsert", "timestamp": "2024-03-01T10:00:00Z", "data": {"title": "Silk"}}
    events = [{**about, "event_id": one, "item_id": one} for one in ("hat", "S2", "sock")]
    assert shop.events.append(events).accepted == 3
    _, catalogue, rows = _read(tmp_path, shop.workspace)
    assert [(row["item_id"], row["title"]) for row in rows] == [
        ("shirt", "Red shirt"),
        ("hat", "Silk"),
        ("sock", "Silk"),
    ]
    assert catalogue.manifest.facts["rejects_by_kind"]["a variant, name its item"] == 1
