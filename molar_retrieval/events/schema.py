"""The columns of the event log as a table."""

import pyarrow as pa

from molar_retrieval.events.event import FIELDS

_TYPES = {
    pa.string(): "event_id event user_id session_id item_id list_id request_id transaction_id arm data",
    pa.int64(): "line position seq",
    pa.float64(): "quantity value propensity",
    pa.timestamp("us", "UTC"): "timestamp received",
}
SCHEMA = pa.schema(
    [(name, next(t for t, names in _TYPES.items() if name in names.split())) for name in (*FIELDS, "received", "seq")]
)
"""The log as a table; ``seq`` numbers its lines in the order of their arrival, and is never used twice.

``received`` is when a line arrived.
"""
