"""Well-known column names: what a column means where ``catalog.toml`` does not say."""

import re
from collections.abc import Sequence

ITEM_ID = ("item_id", "itemid", "id", "sku", "asin", "product_id", "productid", "article_id", "movie_id", "movieid")
TITLE = ("title", "name", "product_name", "item_name", "prod_name", "headline")
DESCRIPTION = ("description", "desc", "detail_desc", "product_description", "overview", "summary", "plot", "text")
IMAGE = ("image", "image_path", "photo", "picture", "img", "image_file", "poster", "thumbnail")

USER_ID = ("user_id", "userid", "user", "customer_id", "customerid", "visitor_id", "session_id")
LOG_ITEM_ID = (*ITEM_ID[:2], "item", *ITEM_ID[3:])
TIMESTAMP = ("timestamp", "time", "ts", "datetime", "date", "event_time", "created_at", "unixreviewtime", "t_dat")
POSITION = ("position",)
WEIGHT = ("weight",)
EVENT = ("event", "event_type", "action")
ORDER_ID = ("order_id", "orderid", "order_number", "transaction_id", "invoice", "invoice_no")
QUANTITY = ("quantity", "qty")
PRICE = ("price", "unit_price")

_IDS = "id ids uuid guid sku ean gtin isbn asin upc barcode code codes hash slug key"
_LINKS = "url urls uri href link links image images photo photos thumbnail path filename"
_COUNTS = "count counts num number n sales sold purchases orders clicks views"
_ESTEEM = "popularity popular rank rating ratings score bestseller trending"
_NO_INPUT = (
    ("last", _IDS, "its name is that of an id or a code"),
    ("any", _LINKS, "its name is that of a link or a file"),
    ("last", "date time timestamp datetime at day year month", "its name is that of a time"),
    ("any", f"{_COUNTS} {_ESTEEM}", "its name is that of a number that may be made from the log"),
    ("last", "source sources provenance", "its name says where another column comes from"),
)
"""Which of a name's words, one of which it is, and what follows."""


def well_known(known: Sequence[str], names: Sequence[str]) -> str | None:
    """The column that goes by the first of the ``known`` names, whatever its case; None where there is none."""
    folded = {name.strip().lower().replace(" ", "_").replace("-", "_"): name for name in reversed(names)}
    return next((folded[name] for name in known if name in folded), None)


def words(name: str) -> list[str]:
    """The words of a column name: ``tmdbId`` and ``tmdb_id`` are both ``tmdb``, ``id``."""
    return re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


def exclusion_reason(name: str) -> str | None:
    """Why a column of this name is no input for the encoder by default; None where the name says nothing."""
    own = words(name)
    for which, known, reason in _NO_INPUT:
        if not set(known.split()).isdisjoint(own[-1:] if which == "last" else own):
            return reason
    return None


def is_variant(name: str, of: str) -> bool:
    """Whether a name is another one with words before or after it: ``original_title``, ``alt_titles``, ``title_en``."""
    own, base = stems(name), stems(of)
    n = len(base)
    return 0 < n < len(own) and base in (own[:n], own[-n:])


def stems(name: str) -> list[str]:
    """The words of a column name in the singular."""
    return [word.removesuffix("s") if len(word) > 3 and not word.endswith("ss") else word for word in words(name)]
