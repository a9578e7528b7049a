"""Times of a log in every form."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from molar_retrieval.data.times import TimeParser
from molar_retrieval.errors import DataError

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


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("27.02.2019 13:05:06", "day.month.year"),
        ("27.2.2019, 13:05:06 Uhr", "day.month.year"),
        ("27.02.2019 14:05:06 +0100", "day.month.year"),
        ("27/02/2019 13:05:06", "day/month/year"),
        ("27-02-2019 13:05:06", "day/month/year"),
        ("02/27/2019 13:05:06", "month/day/year"),
        ("2019/02/27 13:05:06", "ISO 8601"),
        ("2019-2-27 13:05:06.000 UTC", "ISO 8601"),
        ("2019-02-27 14:05:06 +01:00", "ISO 8601"),
    ],
)
def test_times_as_people_write_them(written, read_as):
    assert _seconds(pa.array([written, None, "2019-02-31", "soon"])) == ([SECONDS, None, None, None], read_as)


def test_a_date_without_a_time_is_its_midnight():
    midnight = SECONDS - SECONDS % 86_400
    assert _seconds(pa.array(["27.02.2019"]))[0] == [midnight]
    assert _seconds(pa.array(["27/2/2019", "1/2/2019"]))[0] == [midnight, midnight - 26 * 86_400]
    assert _seconds(pa.array(["2019-02-27", "27.02.2019 00:00"]))[0] == [midnight, midnight]


def test_the_whole_column_tells_which_of_day_and_month_is_first():
    column = [pa.array(["03/04/2019", None]), pa.array(["31/04/2018", "25/12/2018"])]
    parser = TimeParser()
    parser.look_through(lambda: column)
    micros, _ = parser.parse(column[0])
    assert datetime.datetime.fromtimestamp(micros[0] / 1e6, datetime.UTC).strftime("%d %B") == "03 April"
    _, valid = parser.parse(column[1])
    assert valid.tolist() == [False, True]


@pytest.mark.parametrize(
    ("times", "word"),
    [
        (["03/04/2019", "31.12.2018"], "no time tells whether the day or the month comes first, as in '03/04/2019'"),
        (["25/12/2018", "12/24/2018"], "the day first and the month first: '25/12/2018' and '12/24/2018'"),
    ],
)
def test_dates_that_mean_two_days_are_refused_with_the_setting(times, word):
    with pytest.raises(DataError) as error:
        TimeParser().parse(pa.array(times))
    assert word in error.value.message
    assert '[interactions] time_format = "%d/%m/%Y"' in error.value.hint
    assert _seconds(pa.array(times), form="%d/%m/%Y")[1] == "%d/%m/%Y"


def test_a_few_unclear_dates_are_bad_times_and_stop_nothing():
    assert _seconds(pa.array(["2019-02-27", "2019-02-27 13:05:06", "03/04/2019"]))[0][1:] == [SECONDS, None]


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (pa.array(["2019-07-27 15:05:06", None]), {}),
        (pa.array(["27.07.2019 15:05:06", "soon"]), {}),
        (pa.array(["2019-07-27T15:05:06", "soon"]), {}),
        (pa.array(["27/07/19 15:05:06", None]), {"form": "%d/%m/%y %H:%M:%S"}),
        (pa.array([datetime.datetime(2019, 7, 27, 15, 5, 6), None]), {}),
        (pa.array(["2019-07-27T13:05:06Z", None]), {}),
        (pa.array(["27.07.2019 22:05:06 +0900", "soon"]), {}),
        (pa.array([datetime.datetime(2019, 7, 27, 13, 5, 6, tzinfo=datetime.UTC), None]), {}),
    ],
)
def test_times_without_a_zone_are_those_of_the_setting(array, options):
    summer = int(datetime.datetime(2019, 7, 27, 13, 5, 6, tzinfo=datetime.UTC).timestamp())
    assert _seconds(array, zone="Europe/Berlin", **options)[0] == [summer, None]


def test_an_unknown_zone_is_refused():
    with pytest.raises(DataError, match=r"interactions\.time_zone = 'Europe/Belrin' is no known time zone"):
        TimeParser(zone="Europe/Belrin")
