"""Times of a log in every form."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from molar_retrieval.errors import DataError
from molar_retrieval.interactions.times import TimeParser

MOMENT = datetime.datetime(2019, 2, 27, 13, 5, 6, tzinfo=datetime.UTC)
SECONDS = int(MOMENT.timestamp())


def _seconds(array, **options):
    parser = TimeParser(**options)
    micros, valid = parser.parse(array)
    assert micros.dtype == np.int64
    assert not micros[~valid].any()
    return [m / 1e6 if v else None for m, v in zip(micros.tolist(), valid.tolist(), strict=True)], parser.read_as


@pytest.mark.parametrize(
    ("array", "read_as"),
    [
        (pa.array([SECONDS, None]), "s"),
        (pa.array([SECONDS, None], pa.int32()), "s"),
        (pa.array([SECONDS, None], pa.uint64()), "s"),
        (pa.array([SECONDS * 1000, None]), "ms"),
        (pa.array([SECONDS * 10**6, None]), "us"),
        (pa.array([SECONDS * 10**9, None]), "ns"),
        (pa.array([float(SECONDS), None]), "s"),
        (pa.array([SECONDS * 1e3, None]), "ms"),
        (pa.array([str(SECONDS), None]), "s"),
        (pa.array([f" +{SECONDS}.0 ", None]), "s"),
        (pa.array([str(SECONDS * 1000), ""]), "ms"),
        (pa.array(["2019-02-27 13:05:06", None]), "ISO 8601"),
        (pa.array(["2019-02-27T13:05:06Z", "yesterday"]), "ISO 8601"),
        (pa.array(["2019-02-27T14:05:06+01:00", None]), "ISO 8601"),
        (pa.array(["20190227T130506", None]), "ISO 8601"),
        (pa.array([MOMENT, None], pa.timestamp("ns", "Europe/Berlin")), "timestamp[ns, tz=Europe/Berlin]"),
        (pa.array([MOMENT.replace(tzinfo=None), None], pa.timestamp("ms")), "timestamp[ms]"),
        (pa.array([str(SECONDS), None]).dictionary_encode(), "s"),
    ],
    ids=str,
)
def test_forms_of_one_moment(array, read_as):
    assert _seconds(array) == ([SECONDS, None], read_as)


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_dates(kind):
    array = pa.array([datetime.date(1970, 1, 2), None, datetime.date(1969, 12, 31)]).cast(kind)
    assert _seconds(array)[0] == [86_400, None, -86_400]


def test_strings_of_different_forms_in_one_column():
    array = pa.array(["2019-02-27", "2019-02-27T13:05:06Z", str(SECONDS), "soon", "2019-13-01", None])
    midnight = SECONDS - (13 * 3600 + 5 * 60 + 6)
    assert _seconds(array)[0] == [midnight, SECONDS, SECONDS, None, None, None]


def test_format():
    array = pa.array(["27/02/2019 13:05", "27.02.2019", None])
    assert _seconds(array, form="%d/%m/%Y %H:%M") == ([SECONDS - 6, None, None], "%d/%m/%Y %H:%M")
    assert _seconds(pa.array([20190227]), form="%Y%m%d")[0] == [SECONDS - (13 * 3600 + 5 * 60 + 6)]


def test_the_unit_can_be_given():
    assert _seconds(pa.array([5000]), unit="ms") == ([5.0], "ms")


def test_the_first_batch_decides_about_the_unit():
    parser = TimeParser()
    parser.parse(pa.array([SECONDS] * 3 + [10**13]))
    _, valid = parser.parse(pa.array([10**13]))
    assert valid.tolist() == [False]
    assert parser.read_as == "s"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300, 2.0**62])
def test_numbers_that_are_no_time(bad):
    assert _seconds(pa.array([1.5e9, 1.6e9, bad]))[0] == [1.5e9, 1.6e9, None]


def test_times_beyond_the_calendar_are_none():
    assert _seconds(pa.array([2**31 - 1], pa.int32()).cast(pa.date32()))[0] == [None]
    assert _seconds(pa.array([2**62], pa.timestamp("s")))[0] == [None]
    assert _seconds(pa.array([2**63 - 1], pa.timestamp("ns")))[0] == pytest.approx([9223372036.854775])


def test_fractions_keep_their_order():
    micros, _ = TimeParser().parse(pa.array([1.5e9 + 0.25, 1.5e9 + 0.5]))
    assert micros.tolist() == [1_500_000_000_250_000, 1_500_000_000_500_000]


def test_before_1970():
    assert _seconds(pa.array([-5])) == ([-5.0], "s")


@pytest.mark.parametrize("array", [pa.array([], pa.string()), pa.array([], pa.int64()), pa.nulls(2)])
def test_nothing(array):
    seconds, read_as = _seconds(array)
    assert not any(seconds)
    assert read_as is None


@pytest.mark.parametrize("array", [pa.array([[1]]), pa.array([True])])
def test_other_types_are_refused(array):
    with pytest.raises(DataError, match="the time column holds"):
        TimeParser().parse(array)
