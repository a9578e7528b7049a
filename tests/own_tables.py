"""A German and a Japanese shop, as spreadsheets there export their tables."""

import csv
import io
import random
from datetime import datetime, timedelta

GERMAN = (
    ("Hemd", "aus Baumwolle mit langen Ärmeln für den Sommer"),
    ("Hose", "aus weicher Wolle, die auch im Winter wärmt"),
    ("Stuhl", "aus massiver Eiche für das Esszimmer und die Küche"),
    ("Lampe", "mit warmem Licht, die auf jeden Schreibtisch passt"),
    ("Tasse", "aus Porzellan, die man in der Spülmaschine waschen kann"),
    ("Gartenzwerg", "mit roter Mütze, der im Beet steht und lächelt"),
)
JAPANESE = (
    ("シャツ", "夏用の長袖の綿シャツです。軽くて涼しい"),
    ("ズボン", "ウールのズボンとベルトのセットです"),
    ("椅子", "食卓に合う丈夫なオーク材の椅子です"),
    ("茶碗", "電子レンジで使える青い磁器の茶碗です"),
    ("傘", "雨の日に使いやすい軽い折りたたみ傘です"),
)
START = datetime(2024, 1, 1, 8)


def write(path, rows, delimiter, encoding):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


def german(folder, items=60, users=40, encoding="cp1252"):
    """Semicolons, decimal commas, points for thousands, days first."""
    rng = random.Random(1)
    rows = [["Artikelnummer", "Bezeichnung", "Beschreibung", "Farbe", "Preis", "Lagerbestand"]]
    for i in range(items):
        kind, text = GERMAN[i % len(GERMAN)]
        colour = ("blau", "rot", "grün", "weiß")[i % 4]
        price = f"{(1299, 49, 12, 7)[i % 4]:,}".replace(",", ".") + ",90"
        rows.append([f"A-{i:04d}", f"{kind} {colour} Nr. {i}", f"Ein schönes Stück {text}.", colour, price, i % 9 + 1])
    write(folder / "Artikelstamm.csv", rows, ";", encoding)
    rows = [["Bestellnummer", "Kundennr", "Artikel-Nr", "Bestelldatum", "Menge"]]
    for user, item, when in _purchases(rng, items, users, len(GERMAN)):
        rows.append([f"B{len(rows):05d}", 10_000 + user, f"A-{item:04d}", f"{when:%d.%m.%Y %H:%M}", 1])
    write(folder / "Bestellungen 2024.csv", rows, ";", encoding)


def japanese(folder, items=60, users=40, encoding="cp932"):
    """Shift-JIS, yen with commas, 年月日."""
    rng = random.Random(2)
    rows = [["商品コード", "商品名", "商品説明", "色", "価格", "在庫数"]]
    for i in range(items):
        kind, text = JAPANESE[i % len(JAPANESE)]
        colour = "青赤白黒"[i % 4]
        rows.append(
            [f"{i:06d}", f"{colour}い{kind} {i}号", f"{text}。", colour, f"{(980, 12800)[i % 2]:,}円", i % 9 + 1]
        )
    write(folder / "商品マスタ.csv", rows, ",", encoding)
    rows = [["注文番号", "会員番号", "商品番号", "注文日時", "数量"]]
    for user, item, when in _purchases(rng, items, users, len(JAPANESE)):
        time = f"{when.year}年{when.month}月{when.day}日 {when:%H:%M}"
        rows.append([len(rows), f"M{user:04d}", f"{item:06d}", time, 1])
    write(folder / "注文履歴.csv", rows, ",", encoding)


def _purchases(rng, items, users, kinds):
    for user in range(users):
        for _ in range(rng.randint(4, 9)):
            item = (rng.randrange(items // kinds) * kinds + user % kinds) % items
            yield user, item, START + timedelta(minutes=rng.randint(0, 400_000))
