"""Every column name that the code relies on, said once."""

ITEM_ID = "item_id"
TITLE = "title"
DESCRIPTION = "description"
IMAGE = "image"

USER_ID = "user_id"
TIMESTAMP = "timestamp"
POSITION = "position"
WEIGHT = "weight"

VECTOR = "vector"

ALIGNED = "aligned"
COLD_START = "cold_start"
LOW_SUPPORT = "low_support"
WHITENED = "whitened"
ITEM_WEIGHTS = "item_item"
CONTENT = "content"
ALS = "als"
IMAGE_FEATURES = "look"
WORDS = "words"
"""Names of an item's vectors in an index: ``aligned`` of an item with training interactions, ``cold_start`` of one
without, ``low_support`` beside the former where these are few, ``whitened`` beside it in large catalogues (the same
turned towards users, :mod:`molar_indexes.rebuild`), the sparse ``item_item``, what it is (``content``), who takes it
(``als``), what its photo looks like (``look``), and the sparse ``words`` of its text."""
