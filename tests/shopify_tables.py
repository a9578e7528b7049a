"""A made-up fashion shop's exports: products and orders in the layout of Shopify, and the log of a German ERP."""

import random
from datetime import datetime, timedelta

import own_tables

KINDS = ("Linen Shirt", "Wool Trousers", "Oak Chair", "Desk Lamp", "Tea Cup", "Rain Jacket")
PRODUCTS = (
    *("Handle", "Title", "Body (HTML)", "Vendor", "Type", "Tags", "Published", "Option1 Name", "Option1 Value"),
    *("Option2 Name", "Option2 Value", "Variant SKU", "Variant Grams", "Variant Inventory Qty", "Variant Price"),
    *("Image Src", "Image Position", "Status"),
)
ORDERS = (
    *("Name", "Email", "Financial Status", "Paid at", "Fulfillment Status", "Created at", "Lineitem quantity"),
    *("Lineitem name", "Lineitem price", "Lineitem sku", "Cancelled at"),
)
START = datetime(2024, 1, 1, 8)


def shopify(folder, products=90, orders=400):
    """Products of one to four variants, some with further photos; orders of one to three lines."""
    rng, skus = random.Random(3), []
    rows = [PRODUCTS]
    for i in range(products):
        kind = KINDS[i % len(KINDS)]
        handle = f"{kind.lower().replace(' ', '-')}-{i}"
        about = (f"{kind} No. {i}", f"<p>A fine {kind.lower()} that lasts for many years.</p>", f"Maker {i % 4}")
        first = (handle, *about, kind, f"new, {kind}", "TRUE")
        sizes = ("S", "M", "L", "XL")[: 1 + i % 4]
        for n, size in enumerate(sizes):
            sku = f"SK-{i:03d}-{size}"
            skus.append((sku, i))
            src = f"https://cdn.example/{handle}-{n}.jpg" if n < 2 else ""
            own = ("Size", size, "Colour", ("Red", "Blue")[n % 2], sku, 250 + i, (i + n) % 5, f"{i + n}.90", src)
            status = ("draft" if i % 15 == 7 else "active",) if not n else ("",)
            rows.append([*(first if not n else (handle, *[""] * 6)), *own, n + 1 if src else "", *status])
        if i % 5 == 0:
            rows.append([handle, *[""] * 14, f"https://cdn.example/{handle}-more.jpg", 9, ""])
    own_tables.write(folder / "products_export.csv", rows, ",", "utf-8")
    rows = [ORDERS]
    for n in range(orders):
        when = f"{START + timedelta(minutes=37 * n):%Y-%m-%d %H:%M:%S} +0100"
        money = ("paid", "paid", "paid", "pending", "refunded", "partially_refunded", "voided")[n % 7]
        cancelled = when if n % 7 == 6 or n % 50 == 1 else ""
        for line in range(1 + n % 3):
            sku, i = skus[rng.randrange(len(skus) // 6) * 6 + n % 6] if len(skus) > 6 else skus[0]
            of_order = (f"buyer{n % 60}@mail.example", money, when, "fulfilled", when) if not line else [""] * 5
            rows.append([f"#{1000 + n}", *of_order, 1, f"{KINDS[i % 6]} No. {i}", f"{i}.90", sku,
                         cancelled if not line else ""])  # fmt: skip
    own_tables.write(folder / "orders_export.csv", rows, ",", "utf-8")
    return skus


def german_erp(folder, items=60, orders=300):
    """Semicolons and cp1252; the order is repeated in each row, its other columns are in the first one only."""
    own_tables.german(folder, items=items, users=1)
    (folder / "Bestellungen 2024.csv").unlink()
    rng = random.Random(4)
    rows = [["Bestellnr.", "Kundennr", "Bestelldatum", "Status", "Pos", "Artikelnummer", "Menge", "Einzelpreis"]]
    for n in range(orders):
        state = ("Versandt", "Versandt", "Bezahlt", "Storniert", "Rückerstattet", "Wartet auf Abholung")[n % 6]
        first = (10_000 + n % 40, f"{START + timedelta(hours=n):%d.%m.%Y %H:%M}", state)
        for line in range(1 + n % 3):
            item = f"A-{rng.randrange(items):04d}"
            rows.append([f"B{n:05d}", *(first if not line else ("", "", "")), line + 1, item, 1, "12,90"])
    own_tables.write(folder / "Auftraege.csv", rows, ";", "cp1252")
