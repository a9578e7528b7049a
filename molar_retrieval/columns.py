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
CONTENT = "content"
CF = "cf"
"""Names of the three vectors of an item in an index."""
