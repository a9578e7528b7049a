"""`molar import hm`: products and articles of the Kaggle files."""

from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from importer_checks import photo, prepared, rejects

from molar_retrieval.data.importers import import_dataset
from molar_retrieval.errors import DataError, SettingsError

HEADER = (
    "article_id,product_code,prod_name,product_type_no,product_type_name,product_group_name,graphical_appearance_no,"
    "graphical_appearance_name,colour_group_code,colour_group_name,perceived_colour_value_id,"
    "perceived_colour_value_name,perceived_colour_master_id,perceived_colour_master_name,department_no,"
    "department_name,index_code,index_name,index_group_no,index_group_name,section_no,section_name,garment_group_no,"
    "garment_group_name,detail_desc"
)
C1, C2, C3 = "00aa" * 16, "ff01" * 16, "0b0b" * 16


def _article(article, product, name, colour, description):
    return (
        f"{article},{product},{name},253,Vest top,Garment Upper body,1010016,Solid,09,{colour},4,Dark,5,{colour},1676,"
        f'Jersey Basic,A,Ladieswear,1,Ladieswear,16,Womens Everyday Basics,1002,Jersey Basic,"{description}"'
    )


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "h-and-m"
    folder.mkdir()
    articles = [
        HEADER,
        _article("0108775015", "0108775", "Strap top", "Black", "Jersey top, with straps."),
        _article("0108775044", "0108775", "Strap top (1)", "White", "Jersey top."),
        _article("0110065001", "0110065", "OP T-shirt", "Black", ""),
        _article("0956217002", "0956217", "Fr\u00e4ulein dress", "Dark Blue", "A dress."),
    ]
    customers = [
        "customer_id,FN,Active,club_member_status,fashion_news_frequency,age,postal_code",
        f"{C1},,,ACTIVE,NONE,49,52043ee2162cf5aa7ee79974281641c6",
        f"{C2},1.0,1.0,PRE-CREATE,Regularly,,2973abc54daa8a5f8ccfe9362140c63247c5eee03f1d93f4c830291c32bc3057",
        f"{C3},,,,,24,xx",
    ]
    transactions = [
        "t_dat,customer_id,article_id,price,sales_channel_id",
        f"2018-09-21,{C1},0110065001,0.0305,2",
        f"2018-09-20,{C1},0108775044,0.0508,2",
        f"2018-09-20,{C1},0108775015,0.0508,1",
        f"2018-09-20,{C1},0108775015,0.0508,1",
        f"2018-09-20,{C2},0956217002,0.0168,2",
        f"2018-09-20,{C2},0999999999,0.0168,2",
        f"2018-13-20,{C2},0956217002,0.0168,2",
    ]
    for name, lines in {"articles": articles, "customers": customers, "transactions_train": transactions}.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", "utf-8")
    photo(folder / "images" / "010" / "0108775044.jpg", "white")
    photo(folder / "images" / "095" / "0956217002.jpg")
    return folder


def _second(day):
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def test_products(source, tmp_path):
    report = import_dataset("hm", source, tmp_path / "out")
    assert (report.items, report.used, report.users, report.interactions, report.photos) == (3, 3, 2, 5, 2)
    assert rejects(tmp_path / "out") == [
        ("transactions_train.csv", 6, "0999999999", "item unknown to the items file: '0999999999'"),
        ("transactions_train.csv", 7, "0956217", "missing or unreadable time: '2018-13-20'"),
    ]
    result = prepared(tmp_path / "out")
    assert list(result.items) == ["0108775", "0110065", "0956217"]
    first = result.items["0108775"]
    assert (first["title"], first["description"]) == ("Strap top", "Jersey top, with straps.")
    assert (first["colours"], first["n_articles"]) == (["Black", "White"], 2)
    assert first["image"] == "images/0108775.jpg"  # of its second article, the first has none
    assert result.items["0110065"]["description"] is None
    assert result.items["0110065"]["image"] is None
    assert result.items["0956217"]["title"] == "Fr\u00e4ulein dress"
    assert "colours: Black, White" in first["text"]
    assert "product type: Vest top" in first["text"]
    assert "n_articles" not in result.attributes
    # Of one product, customer and day one interaction is left when the log is prepared.
    assert result.histories == {
        C1: [("0108775", _second("2018-09-20")), ("0110065", _second("2018-09-21"))],
        C2: [("0956217", _second("2018-09-20"))],
    }
    assert result.log_facts["duplicates"] == 2


def test_articles(source, tmp_path):
    report = import_dataset("hm", source, tmp_path / "out", level="article")
    assert (report.items, report.used, report.interactions, report.photos) == (4, 4, 5, 2)
    result = prepared(tmp_path / "out")
    assert list(result.items) == ["0108775015", "0108775044", "0110065001", "0956217002"]
    second = result.items["0108775044"]
    assert (second["product_code"], second["colour"], second["image"]) == (
        "0108775",
        "White",
        "images/0108775044.jpg",
    )
    assert "colour: White" in second["text"]
    assert [item for item, _ in result.histories[C1]] == ["0108775044", "0108775015", "0110065001"]
    assert pq.read_table(tmp_path / "out" / "interactions.parquet").column_names == [
        "user_id",
        "item_id",
        "timestamp",
        "price",
        "sales_channel",
    ]


def test_the_log_keeps_article_price_and_channel(source, tmp_path):
    import_dataset("hm", source, tmp_path / "out")
    row = pq.read_table(tmp_path / "out" / "interactions.parquet").to_pylist()[1]
    assert row == {
        "user_id": C1,
        "item_id": "0108775",
        "timestamp": datetime(2018, 9, 20, tzinfo=UTC),
        "article_id": "0108775044",
        "price": 0.0508,
        "sales_channel": 2,
    }


def test_customers(source, tmp_path):
    import_dataset("hm", source, tmp_path / "out")
    users = pq.read_table(tmp_path / "out" / "users.parquet").to_pylist()
    assert users[1] == {
        "user_id": C2,
        "fn": 1.0,
        "active": 1.0,
        "club_member_status": "PRE-CREATE",
        "fashion_news_frequency": "Regularly",
        "age": None,
    }
    assert [user["age"] for user in users] == [49, None, 24]


def test_unknown_level_and_missing_file(source, tmp_path):
    with pytest.raises(SettingsError, match="no level 'colour'") as caught:
        import_dataset("hm", source, tmp_path / "out", level="colour")
    assert caught.value.hint == "choose product or article"
    (source / "customers.csv").unlink()
    with pytest.raises(DataError, match=r"has no customers\.csv"):
        import_dataset("hm", source, tmp_path / "out")


def test_articles_without_rows_are_refused(source, tmp_path):
    (source / "articles.csv").write_text(HEADER + "\n")
    with pytest.raises(DataError, match=r"articles\.csv has no usable item"):
        import_dataset("hm", source, tmp_path / "out")
