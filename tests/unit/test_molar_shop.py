"""The front door: a shop from Python."""

import inspect
import json
import subprocess
import sys
import traceback
from html.parser import HTMLParser
from typing import Unpack

import pyarrow.parquet as pq
import pytest

import molar
from molar_retrieval.errors import DataError, MissingArtefactError, RequestError
from molar_retrieval.ranking.query import QueryOptions
from molar_retrieval.workspace.discovery import WorkspaceRecord


@pytest.fixture
def shop(trained):
    return molar.Shop(trained.shop, trained.workspace)


def test_a_query_is_that_of_the_recommender(shop, trained):
    answer = shop.query(trained.user, k=5, where="price < 100", explain=True)
    with shop.recommender() as recommender:
        same = recommender.query(trained.user, k=5, where="price < 100", explain=True)
    for mine, other in zip(answer.items, same.items, strict=True):
        assert (mine.item_id, mine.score, mine.reasons) == (other.item_id, other.score, other.reasons)


def test_an_answer_is_a_table(shop, trained):
    answer = shop.query(trained.user, k=5)
    frame = answer.to_pandas()
    assert frame["item_id"].tolist() == [item.item_id for item in answer.items]
    parts = frame[[name for name in frame.columns if name.startswith("part.")]]
    assert parts.sum(axis=1).tolist() == pytest.approx(frame["score"].tolist())
    json.dumps(answer.to_dict())


class Page(HTMLParser):
    """Counts what a page holds."""

    def __init__(self, text):
        super().__init__()
        self.pictures, self.rows, self.text = [], 0, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.rows += tag == "tr"
        assert tag != "script"
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.text += data


def test_an_answer_shows_photos_and_reasons_in_a_notebook(shop, trained):
    answer = shop.query(trained.user, k=5, explain=True)
    page = Page(answer._repr_html_())
    assert page.rows == 6
    photos = pq.read_table(trained.shop / "items.parquet", columns=["item_id", "image"]).to_pylist()
    with_photo = {row["item_id"] for row in photos if row["image"]}
    assert len(page.pictures) == sum(item.item_id in with_photo for item in answer.items)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.pictures)
    assert all(item.reasons[0] in page.text for item in answer.items)


def test_searches_and_similar_items(shop, trained):
    item = shop.query(trained.user, k=1).items[0].item_id
    assert len(shop.similar(item, k=3).items) == 3
    assert shop.search("blue mug", k=3).items
    assert len(shop.search(similar_to=item, user_id=trained.user, k=3).items) == 3


def test_lists_of_everybody(shop, trained, tmp_path):
    report = shop.recommend(tmp_path / "lists.parquet", k=3, users=[trained.user], processes=1)
    assert pq.read_table(report.path)["item_id"].to_pylist() == [i.item_id for i in shop.query(trained.user, k=3).items]


def test_a_folder_is_opened_where_it_holds_a_catalogue(trained, tmp_path):
    assert molar.open(trained.shop).workspace == trained.workspace
    with pytest.raises(DataError):
        molar.open(tmp_path)


def test_the_items_file_stands_for_its_folder(trained, monkeypatch):
    (items,) = trained.shop.glob("items.*")
    shop = molar.open(items)
    assert (shop.catalogue, shop.workspace) == (trained.shop, trained.workspace)
    assert molar.Shop(items, trained.workspace).catalogue == trained.shop
    monkeypatch.chdir(trained.shop)
    assert molar.open(items.name).workspace == trained.workspace
    (log,) = trained.shop.glob("interactions.*")
    with pytest.raises(DataError, match=r"a file that no catalog.toml names") as error:
        molar.open(log)
    assert error.value.hint == f"name the folder: {trained.shop}"


def test_what_was_not_made_yet_is_named(tmp_path, trained):
    with pytest.raises(MissingArtefactError, match="no workspace"):
        molar.Shop(trained.shop, tmp_path / ".molar").query("u")


def test_a_fresh_shop_says_what_makes_what_is_missing(tmp_path):
    shop = molar.Shop.from_tables([{"item_id": "1", "title": "a mug"}], folder=tmp_path / "shop")
    with pytest.raises(MissingArtefactError) as error:
        shop.query("u1")
    told = "".join(traceback.format_exception(error.value))
    assert "`molar embed CATALOG`" in told
    assert "`molar align`" in told


def _damaged(tmp_path, name, data=b"no such thing"):
    (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


WRONG = {
    "preset": lambda shop, _: shop.align(preset="fasst"),
    "condition": lambda shop, _: shop.query("u1", where="price <"),
    "no table": lambda _, tmp: molar.Shop.from_tables(7, folder=tmp / "x"),
    "uneven columns": lambda _, tmp: molar.Shop.from_tables({"item_id": [1], "title": [1, 2]}, folder=tmp / "x"),
    "damaged table": lambda _, tmp: molar.Shop.from_tables(_damaged(tmp, "items.parquet"), folder=tmp / "x"),
    "unknown meaning": lambda _, tmp: molar.Shop.from_tables(
        [{"item_id": "1"}], folder=tmp / "x", columns={"items": {"idd": "item_id"}}
    ),
    "damaged events": lambda shop, tmp: shop.events.append(_damaged(tmp, "events.parquet")),
    "damaged log": lambda shop, _: _damaged(shop.workspace, "events/log.sqlite") and shop.events.tail(),
    "damaged settings": lambda shop, tmp: (
        molar.Shop(shop.catalogue, shop.workspace, _damaged(tmp, "other.toml", b"[align")).settings
    ),
    "damaged record": lambda shop, _: _damaged(shop.workspace, "workspace.json") and shop.query("u1"),
    "damaged shop": lambda shop, _: _damaged(shop.catalogue, "items.parquet") and shop.embed(),
    "table to propose": lambda _, tmp: molar.init(_damaged(tmp, "orders.parquet")),
    "data set": lambda _, tmp: molar.import_dataset("movielens", tmp, tmp / "there"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_an_error_of_a_call_brings_no_traceback_of_a_library_along(wrong, tmp_path):
    shop = molar.Shop.from_tables([{"item_id": "1", "price": 2.5}], folder=tmp_path / "shop")
    WorkspaceRecord.of(shop.workspace, shop.catalogue).write(shop.workspace)
    with pytest.raises(molar.MolarError) as error:
        wrong(shop, tmp_path)
    assert error.value.hint
    assert "".join(traceback.format_exception(error.value)).count("Traceback (most recent call last)") == 1


METHODS = [name for name, _ in inspect.getmembers(molar.Shop, inspect.isfunction) if name[0] != "_"]


@pytest.mark.parametrize("name", METHODS)
def test_every_argument_is_named_typed_and_documented(name):
    method = getattr(molar.Shop, name)
    for argument in list(inspect.signature(method).parameters.values())[1:]:
        assert argument.kind != argument.VAR_POSITIONAL
        assert argument.kind != argument.VAR_KEYWORD or argument.annotation == Unpack[QueryOptions]
        assert argument.annotation is not argument.empty
        assert f"{argument.name}:" in method.__doc__, f"{name}({argument.name})"


def test_importing_molar_loads_nothing_heavy():
    import subprocess
    import sys

    heavy = ("torch", "transformers", "qdrant_edge", "pandas")
    code = f"import molar, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_leaderboard_is_a_table_of_the_report():
    import made_up_report as made_up

    from molar_eval.evaluation import Evaluation

    evaluation = Evaluation(None, made_up.report(), None)
    board = evaluation.leaderboard(evaluation.report.splits[0].name).to_pylist()
    assert board[0]["mean"] == max(row["mean"] for row in board if row["mean"] is not None)
    assert {row["model"] for row in board} == {model.name for model in evaluation.report.splits[0].models}
    with pytest.raises(RequestError, match="no split"):
        evaluation.leaderboard("nothing")


def test_the_front_door_and_the_commands_open_without_the_settings():
    code = (
        "import sys, molar, molar_cli.app; "
        "assert not {'molar_retrieval.workspace.settings', 'torch', 'qdrant_client'} & set(sys.modules); "
        "molar.Settings()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_relative_folder_is_that_of_the_moment_whatever_the_size_of_the_shop_and_wherever_the_program_goes(
    tmp_path, monkeypatch
):
    users, items = [f"u{n}" for n in range(1100)], [{"item_id": str(n), "title": f"thing {n}"} for n in range(40)]
    log = [
        {"user_id": user, "item_id": str((n + step) % 40), "timestamp": f"2025-01-{step + 1:02d}"}
        for n, user in enumerate(users)
        for step in (0, 1, 3)
    ]
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    shop = molar.Shop.from_tables(items, log)
    shop.embed()
    shop.align(preset="fast", epochs=1)
    first = shop.query("u7", k=3)
    monkeypatch.chdir(elsewhere)
    assert shop.query("u7", k=3).to_dict()["items"] == first.to_dict()["items"]
    shop.embed()
    shop.align(preset="instant")
    assert list(elsewhere.iterdir()) == []
    opened = molar.open("../molar-shop/catalog")
    monkeypatch.chdir(tmp_path)
    assert opened.workspace == shop.workspace == tmp_path / "molar-shop" / ".molar"
    assert len(opened.query("u7", k=3).items) == 3


def test_a_place_may_be_a_text(trained, tmp_path):
    shop = molar.Shop(str(trained.shop), str(trained.workspace), str(tmp_path / "molar.toml"))
    assert (shop.catalogue, shop.workspace) == (trained.shop, trained.workspace)
    assert shop == molar.Shop(trained.shop, trained.workspace, tmp_path / "molar.toml")
