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
COLD_START = "newcomers"
EMERGING = "emerging"
WHITENED = "whitened"
ITEM_WEIGHTS = "partners"
CONTENT = "content"
CF = "cf"
IMAGE_FEATURES = "look"
WORDS = "words"
"""Names of an item's vectors in an index: ``aligned`` of an item with training interactions, ``newcomers`` of one
without, ``emerging`` beside the former where these are few, ``whitened`` beside it in large catalogues (the same turned
towards users, :mod:`molar_indexes.rebuild`), the sparse ``partners``, what it is (``content``), who
takes it (``cf``), what its photo looks like (``look``), and the sparse ``words`` of its text."""
