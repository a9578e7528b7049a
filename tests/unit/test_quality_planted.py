"""Faults planted in the demo shop are found, and nothing else is."""

import importlib
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.demo import write_demo_shop
from molar_retrieval.quality import photo_text, photos
from molar_retrieval.quality.check import check
from molar_retrieval.quality.findings import Severity, finding_kinds
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import MolarSettings

pytestmark = pytest.mark.slow

BENCH = Path(__file__).resolve().parents[2] / "bench"
EACH = 4
SLOW = {"photo.too_large", "photo.large"}


@pytest.fixture(scope="module")
def faults():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        yield importlib.import_module("faults")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean") / "shop"
    write_demo_shop(folder, items=260, users=60)
    return folder


def look(folder, root, **options):
    fix_list = root.parent / f"{root.name}.parquet"
    workspace, settings = Workspace.for_catalogue(root, folder), MolarSettings.load(root, environ={})
    report = check(folder, workspace, settings, fix_list=fix_list, processes=1, **options)
    return report, pq.read_table(fix_list).to_pylist()


@pytest.fixture(scope="module")
def planted(shop, faults, tmp_path_factory):
    place = tmp_path_factory.mktemp("planted")
    damaged = faults.Shop.copy(shop, place / "shop", seed=1, each=EACH)
    wanted = {kind: set(plant(damaged)) for kind, plant in faults.PLANTERS.items() if kind not in SLOW}
    damaged.write()
    report, rows = look(place / "shop", place / ".molar")
    found = {}
    for row in rows:
        found.setdefault(row["kind"], set()).add(row["item_id"] or row["column"])
    return wanted, found, report, rows, damaged, place


@pytest.fixture(scope="module")
def clean(shop, tmp_path_factory):
    return look(shop, tmp_path_factory.mktemp("workspace") / ".molar")


def test_a_clean_shop_has_no_error_and_no_warning(clean):
    report, rows = clean
    assert (report.count(Severity.ERROR), report.count(Severity.WARNING)) == (0, 0), Counter(r["kind"] for r in rows)
    assert report.usable
    assert {found.kind.name for found in report.found} <= {"photo.absent", "text.no_description"}


def test_every_kind_that_can_be_planted_is_known(faults):
    assert set(faults.PLANTERS) <= set(finding_kinds())
    assert len(faults.PLANTERS) >= 30


def test_every_planted_fault_is_found_and_no_other(planted, clean):
    wanted, found, *_ = planted
    before = {kind: {row["item_id"] for row in clean[1] if row["kind"] == kind} for kind in wanted}
    missed = {kind: own - found.get(kind, set()) for kind, own in wanted.items()}
    wrong = {kind: found.get(kind, set()) - own - before[kind] for kind, own in wanted.items()}
    assert {kind: ids for kind, ids in missed.items() if ids and kind != "photo.near_duplicate"} == {}
    assert {kind: ids for kind, ids in wrong.items() if ids} == {}
    near = wanted["photo.near_duplicate"]
    assert len(missed["photo.near_duplicate"]) <= 0.1 * len(near)


def test_findings_say_where(planted):
    _, _, _, rows, damaged, _ = planted
    numbers = {}
    for number, item in enumerate(damaged.items, 1):
        numbers.setdefault(item["item_id"], []).append(number)
    for row in rows:
        if row["item_id"] is not None:
            assert row["file"] == "items.parquet"
            assert row["row"] in numbers[row["item_id"]], row
        if row["kind"].startswith("photo."):
            assert row["column"] == "image"


def test_the_report_counts_what_the_fix_list_has(planted):
    _, _, report, rows, *_ = planted
    counts = Counter(row["kind"] for row in rows)
    assert {found.kind.name: found.count for found in report.found} == counts
    assert report.usable
    assert json.dumps(report.to_dict(), allow_nan=False)
    assert report.content.photos < report.content.items


def test_a_second_look_decodes_nothing_and_says_the_same(planted, monkeypatch):
    *_, rows, _, place = planted
    monkeypatch.setattr(photos, "measure", lambda data: pytest.fail("a photo was decoded again"))
    _, again = look(place / "shop", place / ".molar")
    assert again == rows


def test_after_a_fix_only_what_was_mended_is_looked_at(planted, monkeypatch):
    wanted, _, _, rows, damaged, place = planted
    item_id = min(wanted["photo.truncated"])
    item = next(item for item in damaged.items if item["item_id"] == item_id)
    good = next(i for i in damaged.items if i["image"] and i["item_id"] not in set().union(*wanted.values()))
    damaged.photo(good).rotate(33).save(damaged.path(item))
    calls, real = [], photos.measure
    monkeypatch.setattr(photos, "measure", lambda data: calls.append(1) or real(data))
    _, now = look(place / "shop", place / ".molar")
    assert len(calls) == 1
    gone = {(row["kind"], row["item_id"]) for row in rows} - {(row["kind"], row["item_id"]) for row in now}
    assert gone == {("photo.truncated", item_id)}


def test_without_decoding_paths_are_looked_at_all_the_same(planted):
    wanted, *_, place = planted
    report, rows = look(place / "shop", place / ".molar", photos=False)
    found = {kind: {row["item_id"] for row in rows if row["kind"] == kind} for kind in wanted}
    assert found["photo.missing"] == wanted["photo.missing"]
    assert found["photo.outside"] == wanted["photo.outside"]
    assert found["photo.blank"] == set()
    assert any("--no-photos" in words for words in report.left_out)


@pytest.mark.parametrize(
    ("text", "said"), [("item_id,title\n,a\n,b\n", "2 × missing id"), ("what,title\na,b\n", "item_id")]
)
def test_a_catalogue_that_cannot_be_read_is_a_finding(tmp_path, text, said):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text(text)
    report, rows = look(tmp_path / "shop", tmp_path / ".molar")
    assert not report.usable
    assert [row["kind"] for row in rows] == ["catalogue.unusable"]
    assert said in rows[0]["detail"]


def test_where_nothing_can_be_embedded_the_data_are_unusable(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "items.csv").write_text("item_id,title\na,\nb,\n")
    report, rows = look(tmp_path / "shop", tmp_path / ".molar")
    assert not report.usable
    assert {row["item_id"] for row in rows if row["kind"] == "item.empty"} == {"a", "b"}


def test_vectors_tell_exchanged_photos(trained, tmp_path):
    from molar_retrieval.data.catalogue import Catalogue

    workspace = Workspace.open(trained.workspace)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    found = photo_text.stored_vectors(workspace, catalogue)
    assert found.encoder == "builtin"
    assert found.texts.shape == (trained.items, 384)
    assert found.images.shape == (trained.items, 384 + 1280)


def test_vectors_that_are_there_are_taken_and_those_of_others_left_alone(trained, tmp_path, monkeypatch):
    import shutil

    from molar_retrieval.data.catalogue import Catalogue
    from molar_retrieval.progress import SILENT

    for kind in ("catalogue", "content"):
        shutil.copytree(trained.workspace / kind, tmp_path / ".molar" / kind)
    workspace = Workspace.for_catalogue(tmp_path / ".molar", trained.shop)
    catalogue = Catalogue.open(workspace["catalogue"].require()[0])
    calls = []
    monkeypatch.setattr(photo_text, "embed", lambda place, settings, **_: calls.append((place.root, settings.model)))
    chosen = MolarSettings().embed
    photo_text.make_vectors(workspace, trained.shop, chosen, SILENT)
    assert calls == [(tmp_path / ".molar", "builtin")]  # which finds that nothing has changed
    report = check(trained.shop, workspace, MolarSettings(), with_embeddings=True, processes=1)
    assert len(calls) == 1
    assert report.pairs is None or report.pairs["encoder"] == "builtin"
    photo_text.make_vectors(workspace, trained.shop, chosen.model_copy(update={"model": "some/other"}), SILENT)
    assert calls[1] == (tmp_path / ".molar" / "check" / "vectors", "builtin")
    assert photo_text.stored_vectors(workspace, catalogue) is not None


def test_sold_out_or_all_active_is_no_fault(tmp_path):
    rows = [f"{n},thing {n:03d},{n * 7 % 90 + 10 if n % 60 else 0},yes,2026-01-01,{n % 40 + 1.5}" for n in range(200)]
    (tmp_path / "shop").mkdir()
    text = "\n".join(["item_id,title,stock,active,available_from,price", *rows, "900,thing 900,5,yes,2026-01-01,9e9"])
    (tmp_path / "shop" / "items.csv").write_text(text)
    _, found = look(tmp_path / "shop", tmp_path / ".molar")
    assert [(row["column"], row["item_id"]) for row in found if row["kind"].startswith("attribute.")] == [
        ("price", "900")
    ]
