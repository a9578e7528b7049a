"""`molar init` on tables of a German and a Japanese shop, and all that follows, unchanged."""

import json

import own_tables
import pytest
from settings_for_tests import SMALL_ALIGNMENT

SHOPS = {"de": (own_tables.german, "Hemd", "German"), "ja": (own_tables.japanese, "シャツ", "Japanese")}


@pytest.mark.slow
@pytest.mark.parametrize("language", SHOPS)
def test_from_two_tables_to_recommendations(molar, tmp_path, language):
    make, word, name = SHOPS[language]
    make(tmp_path)
    files = sorted(path.name for path in tmp_path.glob("*.csv"))
    lines = [f"{key} = {json.dumps(value)}" for key, value in SMALL_ALIGNMENT.items()]
    (tmp_path / "molar.toml").write_text("\n".join(["[align]", *lines]), "utf-8")

    done = molar("init", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"the catalogue is {name}, and the encoder 'builtin' understands English only" in done.stdout
    assert "molar embed . --model builtin-multilingual" in done.stdout
    assert done.stdout.rstrip().endswith("next: molar check .")
    assert word in done.stdout

    done = molar("check", ".", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "catalogue.language" in {found["kind"] for found in report["found"]}
    assert not [found for found in report["found"] if found["severity"] == "error"]

    done = molar("embed", files[0], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = done.stderr.splitlines()
    assert sum(line.startswith(f"the catalogue is {name}") for line in first) == 1
    assert molar("align", cwd=tmp_path).returncode == 0
    user = report_user(molar, files, tmp_path)
    done = molar("query", "--user", user, "-k", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = [item["item_id"] for item in json.loads(done.stdout)["items"]]
    assert len(listed) == 3
    if language == "de":
        purchases_of_the_next_day_are_heard(molar, tmp_path, user, listed)


def purchases_of_the_next_day_are_heard(molar, folder, user, listed):
    """The file comes as the system writes it, twice; answers know it at once, and what is published next."""
    rows = [["Bestellnummer", "Kundennr", "Artikel-Nr", "Bestelldatum", "Menge"]]
    rows += [[f"N{n}", user, item, f"15.11.2024 0{n}:30", 1] for n, item in enumerate(listed[:2])]
    own_tables.write(folder / "heute.csv", [*rows, ["N9", user, "A-0000", "gestern", 1]], ";", "cp1252")
    done = molar("events", "append", "heute.csv", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "2 accepted, 0 repeated, 1 refused\n"), done.stderr
    assert "heute.csv, row 3, timestamp" in done.stderr
    assert "0 accepted, 2 repeated" in molar("events", "append", "heute.csv", cwd=folder).stdout
    for _ in ("at once", "after the update"):
        done = molar("query", "--user", user, "-k", "20", "--json", cwd=folder)
        assert not {item["item_id"] for item in json.loads(done.stdout)["items"]} & set(listed[:2])
        done = molar("update", cwd=folder)
        assert done.returncode == 0, done.stderr
    done = molar("events", "tail", "--json", cwd=folder)
    assert [line["item_id"] for line in json.loads(done.stdout)["events"]] == listed[:2]


def report_user(molar, files, folder):
    shown = json.loads(molar("init", *files, "--json", cwd=folder).stdout)
    return shown["interactions"][0]["user_id"]


def test_failures_name_the_option(molar, tmp_path):
    (tmp_path / "a.csv").write_text("sku,name\n1,Chair\n2,Table\n")
    done = molar("init", "a.csv", "--column", "sku", cwd=tmp_path)
    assert done.returncode == 2
    assert "--column item_id=SKU" in done.stderr
    done = molar("init", "a.csv", "none.csv", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["error"].startswith("there is no file none.csv")


def test_a_dry_run_shows_what_would_be_written(molar, tmp_path):
    (tmp_path / "a.csv").write_text("sku,name\n1,Chair\n2,Table\n3,a,hat\n")
    done = molar("init", "a.csv", "--dry-run", "--decimal", ",", cwd=tmp_path)
    assert 'item_id = "sku"' in done.stdout
    assert "in the vectors: title\n" in done.stdout
    assert "1 rows of a.csv cannot be read and are left out (a.csv, row 3: wrong number of fields" in done.stdout
    assert "items.decimal  ,                  as you said" in done.stdout
    assert not (tmp_path / "catalog.toml").exists()


def test_variants_and_the_status_of_orders_are_shown_at_the_terminal(molar, tmp_path):
    sizes = ("S", "M", "L")
    first = [("Title", "Body (HTML)"), *((f"Shirt number {n}", f"A shirt of kind {n} for summer") for n in range(30))]
    rows = [
        f"shirt-{n},{','.join(first[n + 1] if size == 'S' else ('', ''))},{size},P{n:03d}-{size}"
        for n in range(30)
        for size in sizes
    ]
    head = "Handle,Title,Body (HTML),Option1 Value,Variant SKU"
    (tmp_path / "products.csv").write_text("\n".join([head, *rows]) + "\n", "utf-8")
    orders = ["Name,Email,Financial Status,Created at,Lineitem sku"]
    for n in range(90):
        status = "refunded" if n % 9 == 0 else "paid"
        orders += [f"#{n},u{n % 40}@x.org,{status},2025-03-{1 + n % 28:02d} 10:00:00,P{n % 30:03d}-{sizes[n % 3]}"]
        orders += [f"#{n},,,,P{(n + 7) % 30:03d}-{sizes[n % 3]}"]
    (tmp_path / "orders.csv").write_text("\n".join(orders) + "\n", "utf-8")

    done = molar("init", "orders.csv", "products.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "30 products, 90 variants" in done.stdout
    assert 'exclude_status = ["refunded"]' in (tmp_path / "catalog.toml").read_text("utf-8")
