"""Personal data are found, masked, and not seen where there are none."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from molar_retrieval.data.schema import read_spec
from molar_retrieval.quality.findings import FindingCollector
from molar_retrieval.quality.personal_data import check_personal_data

MAILS = ["jane.doe@example.org", "j+shop@mail.example.co.uk", "Max_Muster@firma.de"]


def _digit(number, weights):
    return str(-sum(int(d) * weights[i % len(weights)] for i, d in enumerate(reversed(number))) % 10)


def _barcodes(n, random):
    """Article numbers with the check digit of an EAN, of all countries."""
    numbers = [f"{x:012d}" for x in random.integers(10**11, 10**12, n)]
    return [number + _digit(number, (3, 1)) for number in numbers]


def _texts(n, random):
    """What is in shops' texts and looks a little like personal data."""
    numbers = random.integers(10**6, 10**9, n)
    forms = [
        "Size 40-42, article 0{0}, EAN {1}, now 1.299,00 instead of 1.499,00",
        "Released 2021-03-0{2}, version 4.2.1.{2}, 1920x1080, battery 4000 mAh, part no. {0}-{0}",
        "Set of 12 (4 x 3), 100 % cotton, model 4-{0}, lot 00{0}, series 2010-2021",
        "By J. R. R. Tolkien, 1,216 pages, ISBN 978-3-16-148410-0, 10 000 000 copies sold, 12 / 24 / 36",
        "Watch @ home; call of duty 4, phone case for model 12 2021, mobile 5G, 2 x 2.5 GHz",
        "IP67, +5 V / 2 A, +120 % brighter, (12) pieces, 00{0}, serial {0}{0}",
    ]
    codes = _barcodes(n, random)
    return [forms[i % len(forms)].format(numbers[i], codes[i], i % 9) for i in range(n)]


def _shop(folder, *, items=None, users=None, log=None):
    random = np.random.default_rng(1)
    n = 240
    ids = [f"{x:010d}" for x in random.integers(10**9, 10**10 - 1, n)]
    table = {"item_id": ids, "title": [f"Thing {i}" for i in range(n)], "description": _texts(n, random)}
    table |= {"gtin": _barcodes(n, random), "sku": random.integers(10**15, 10**16, n), "actor": ["Ada Lovelace"] * n}
    pq.write_table(pa.table(table | (items or {})), folder / "items.parquet")
    people = {"user_id": [f"c{i:05d}" for i in range(n)], "age": [40] * n, "segment": ["club", "guest"] * (n // 2)}
    pq.write_table(pa.table(people | (users or {})), folder / "users.parquet")
    events = {"user_id": people["user_id"], "item_id": ids, "timestamp": [1_600_000_000 + i for i in range(n)]}
    pq.write_table(pa.table(events | (log or {})), folder / "interactions.parquet")
    found = FindingCollector(examples=1000)
    check_personal_data(folder, read_spec(folder), found)
    findings = tuple(finding for kind in found.counts for finding in found.examples(kind))
    return SimpleNamespace(findings=findings, counts=dict(found.counts))


def _planted(values, n=240):
    """Texts with the values in some of them, and their rows."""
    texts = _texts(n, np.random.default_rng(2))
    rows = [7 + 9 * i for i in range(len(values))]
    for row, value in zip(rows, values, strict=True):
        texts[row] = f"Written by hand: {value}. {texts[row]}"
    return texts, [row + 1 for row in rows]


def test_nothing_is_found_in_a_shop_full_of_numbers(tmp_path):
    assert _shop(tmp_path).findings == ()


def test_planted_addresses_are_found_in_texts_and_masked(tmp_path):
    kind, values = "personal.email", MAILS
    texts, rows = _planted(values)
    report = _shop(tmp_path, items={"description": texts})
    assert [(finding.kind.name, finding.row) for finding in report.findings] == [(kind, row) for row in rows]
    assert report.counts == {kind: len(values)}
    assert all(finding.item_id for finding in report.findings)
    for finding, value in zip(report.findings, values, strict=True):
        assert value not in str(finding)
        assert sum(sign.isdigit() for sign in finding.detail) <= 7
        assert "example" not in finding.detail


def test_texts_of_users_and_events(tmp_path):
    texts, rows = _planted(MAILS)
    report = _shop(tmp_path, users={"remark": texts}, log={"remark": texts})
    assert [(f.file, f.row) for f in report.findings] == [
        (file, row) for file in ("users.parquet", "interactions.parquet") for row in rows
    ]
    assert all(finding.user_id for finding in report.findings)


@pytest.mark.parametrize(
    ("column", "values", "kind"),
    [
        ("email", [f"anna.muster{i}@example.org" for i in range(240)], "personal.email"),
        ("Last Name", ["Müller", "O'Brien", "van der Berg", "Žižek"] * 60, "personal.name"),
        ("customer_name", ["Ada Lovelace", "Alan M. Turing"] * 120, "personal.name"),
        ("street_address", [f"Am Markt {i}, Ulm" for i in range(240)], "personal.address"),
        ("zip_code", [f"{i + 10000}" for i in range(240)], "personal.address"),
        ("phone", [f"0{i + 151000000}" for i in range(240)], "personal.phone"),
        ("birth_date", [f"19{i % 90 + 10}-01-02" for i in range(240)], "personal.birth_date"),
    ],
)
def test_columns_are_reported_once(tmp_path, column, values, kind):
    report = _shop(tmp_path, users={column: values})
    assert [(f.kind.name, f.column, f.row) for f in report.findings] == [(kind, column, None)]
    assert not any(value in report.findings[0].detail for value in values)


@pytest.mark.parametrize(
    "users",
    [
        {"email_opt_in": ["yes", "no"] * 120},
        {"name_of_plan": ["Gold", "Basic"] * 120},
        {"phone_model": ["Fairphone 4", "Other 12"] * 120},
        {"address_known": [True, False] * 120},
        {"account": [f"{4 * 10**15 + i * 10**11 + 7 * i}" for i in range(240)]},
    ],
)
def test_columns_that_only_sound_like_it(tmp_path, users):
    assert _shop(tmp_path, users=users).findings == ()


def test_ids_that_are_addresses(tmp_path):
    people = [f"user{i}@example.net" for i in range(240)]
    report = _shop(tmp_path, users={"user_id": people, "remark": _planted(MAILS)[0]}, log={"user_id": people})
    assert [(f.kind.name, f.file) for f in report.findings if f.row is None] == [
        ("personal.id", "users.parquet"),
        ("personal.id", "interactions.parquet"),
    ]
    assert not any("@example" in str(finding) for finding in report.findings)


def test_an_address_of_the_shop_is_not_personal(tmp_path):
    texts = _texts(240, np.random.default_rng(0))
    texts[:40] = [f"{text} Questions? jane@shop.example.com" for text in texts[:40]]
    texts[50] += " or service@shop.example.com"
    assert _shop(tmp_path, items={"description": texts}).findings == ()
