"""What can be wrong with a log."""

from molar_retrieval.quality.findings import Kind, Severity

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

UNREADABLE = Kind("log.unreadable", _ERROR, "The log cannot be read", "correct the file, or leave it out")
NOTHING_USABLE = Kind(
    "log.nothing_usable", _ERROR, "No interaction can be used", "correct what the other findings of the log name"
)
BROKEN_ROW = Kind("log.broken_row", _ERROR, "Rows that are no rows", "write the rows again; they are left out")
MISSING_USER = Kind("log.missing_user", _ERROR, "Interactions without a user", "give them a user; they are left out")
MISSING_ITEM = Kind("log.missing_item", _ERROR, "Interactions without an item", "give them an item; they are left out")
MISSING_TIME = Kind("log.missing_time", _ERROR, "Interactions without a time", "give them a time; they are left out")
BAD_TIME = Kind(
    "log.bad_time",
    _ERROR,
    "Times that cannot be read",
    "write them as ISO 8601 or seconds since 1970, or name their form in catalog.toml: [interactions] time_format",
)
BAD_POSITION = Kind("log.bad_position", _ERROR, "Positions that are no numbers", "correct them; the rows are left out")
BAD_WEIGHT = Kind(
    "log.bad_weight", _ERROR, "Weights that are no positive numbers", "correct them; the rows are left out"
)
UNKNOWN_ITEM = Kind(
    "log.unknown_item",
    _WARNING,
    "Items that the catalogue does not have",
    "add them to the items file, withdrawn ones too: their interactions are left out",
)
ITEM_SPELLING = Kind(
    "log.item_spelling",
    _ERROR,
    "Item ids are written in another way than in the catalogue",
    "write ids the same way in both files: their interactions are left out",
)
FUTURE_TIME = Kind("log.future_time", _ERROR, "Times in the future", "correct the clock or the unit, or drop the rows")
ZERO_TIME = Kind(
    "log.zero_time", _ERROR, "Times at zero or long before any shop", "find out the time, or drop the rows"
)
NO_TIMES = Kind(
    "log.no_times",
    _WARNING,
    "The log has no times",
    "add a column of times: without it nothing is known of trends, and no split by time can be made",
)
NOT_DATES = Kind(
    "log.not_dates",
    _WARNING,
    "The times are no dates",
    "write seconds since 1970 or ISO 8601, or name the unit in catalog.toml: [interactions] time_unit",
)
CONSTANT_TIME = Kind(
    "log.constant_time", _WARNING, "All interactions have one time", "export the time of each interaction"
)
STUCK_TIME = Kind(
    "log.stuck_time",
    _WARNING,
    "One moment for very many interactions",
    "look for an import or a default that overwrote the times",
)
ZONE_JUMP = Kind(
    "log.zone_jump",
    _WARNING,
    "The hours of the day jump, as if the time zone had changed",
    "write all times in one zone, best UTC with an offset",
)
DAYLIGHT_SAVING = Kind(
    "log.daylight_saving",
    _NOTE,
    "The hours of the day move with daylight saving",
    "nothing, if the times are UTC: people live by the clock on their wall",
)
GAP = Kind("log.gap", _WARNING, "Days without interactions", "look for a lost export, unless the shop was closed")
BURST = Kind(
    "log.burst",
    _NOTE,
    "Days with far more interactions than those around them",
    "nothing, if there was a sale; else look for bots or an import that ran twice",
)
BOT = Kind(
    "log.bot",
    _WARNING,
    "Users that act as no person does",
    "leave out bots, tests and accounts that many people share, such as tills",
)
DUPLICATE = Kind(
    "log.duplicate",
    _WARNING,
    "Interactions that are there twice",
    "nothing: the first one is used; if both are meant, tell them apart by their time",
)
ONE_EVENT = Kind(
    "log.one_event_users",
    _NOTE,
    "Users with a single interaction",
    "nothing: they train popularity and get recommendations, but cannot be tested on",
)
TIES = Kind(
    "log.ties",
    _WARNING,
    "Interactions of one user at one time",
    "export finer times, or a column position with their order",
)
REPEATS = Kind(
    "log.repeats",
    _NOTE,
    "People take what they had before",
    "consider `molar query --seen show`, which recommends such items again",
)
COLD_ITEMS = Kind(
    "log.cold_items",
    _NOTE,
    "Items without any interaction",
    "nothing: they are recommended by their content, so see to their photos and texts",
)
NO_SEQUENCE = Kind(
    "log.no_sequence",
    _NOTE,
    "The order of the log says little",
    "do not expect much of a sequence model; what goes with what may do as well",
)
UNKNOWN_USER = Kind(
    "user.unknown",
    _WARNING,
    "Users that the users file does not have",
    "add them to the users file: rules for groups of users do not reach them",
)
USER_TWICE = Kind("user.twice", _ERROR, "User ids that come more than once", "keep one row; the first one counts")
USER_WITHOUT_ID = Kind("user.missing_id", _ERROR, "Users without an id", "give them an id, or drop the rows")

KINDS = tuple(value for value in list(vars().values()) if isinstance(value, Kind))
