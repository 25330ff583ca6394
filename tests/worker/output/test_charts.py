"""Pictures of a night: what is drawn is right as values, and both ways of drawing take anything."""

import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mh_batch.store.reports.timings import ContextBin, Refusals, TimeBin, TimingReport, Totals
from mh_batch.worker.output.charts.axes import ticks, time_ticks, x_range
from mh_batch.worker.output.charts.spec import Bars, Lines
from mh_batch.worker.output.charts.svg import svg
from mh_batch.worker.output.charts.timing_charts import charts

NIGHT = 1_767_225_600  # the first second of 2026, UTC
BIN = TimeBin(
    NIGHT, NIGHT, 1, 1, 600, 50.0, 400.0, 0.0, 3 * 1024**3, 2 * 1024**3, 1024**3, 0
)  # fmt: skip
NOTHING = Totals(0, 0, None, None, 0, 0, 0, None, None, 0.0, 0.0, 0.0, 0.0, 0.0, None, None, 0, 0)


def time_bin(at: int, began: float) -> TimeBin:
    return replace(BIN, at=NIGHT + at, began=NIGHT + began)


def report(bins: Sequence[TimeBin] = (), ended: str | None = None, **parts: object) -> TimingReport:
    """A report whose bins of time are a minute wide."""
    began = "2026-01-01T00:00:00.000Z" if bins else None
    totals = replace(NOTHING, attempts=len(bins), started_at=began, finished_at=ended)
    empty = TimingReport(totals, None, None, (), (), 60, tuple(bins), ())
    return replace(empty, **parts)


def speed(night: TimingReport) -> Lines:
    chart = charts(night)[1]
    assert isinstance(chart, Lines)
    return chart


def test_all_time_counts_from_the_start_of_the_first_attempt_to_the_end_of_the_last() -> None:
    bins = [time_bin(0, 30), time_bin(60, 60)]
    chart = speed(report(bins, "2026-01-01T00:01:20.000Z"))
    assert chart.curves[1].y == (600 / 30, 600 / 20)
    assert [x - NIGHT for x in chart.x] == [45, 70]


def test_a_long_attempt_is_neither_a_pause_nor_a_burst() -> None:
    bins = [time_bin(0, 0), time_bin(180, 50)]
    chart = speed(report(bins, "2026-01-01T00:03:10.000Z"))
    assert chart.curves[1].y == (600 / 50, 600 / 140)


def test_a_pause_is_a_hole_in_the_speed_and_nothing_generated() -> None:
    bins = [time_bin(0, 0), time_bin(240, 245)]
    chart = speed(report(bins, "2026-01-01T00:05:00.000Z"))
    decoding, overall = chart.curves
    assert decoding.y == (50.0, None, None, None, 50.0)
    assert overall.y == (10.0, 0, 0, 0, 10.0)


def test_memory_is_in_the_unit_that_suits_it() -> None:
    large = charts(report([time_bin(0, 0)], "2026-01-01T00:01:00.000Z"))[2]
    small_bin = replace(time_bin(0, 0), process_memory_bytes=5 * 1024**2, peak_memory_bytes=0)
    small = charts(report([replace(small_bin, active_memory_bytes=0)], "2026-01-01T00:01:00.000Z"))[
        2
    ]
    assert isinstance(large, Lines)
    assert isinstance(small, Lines)
    assert (large.y_label, large.curves[0].y) == ("GiB", (3.0,))
    assert (small.y_label, small.curves[0].y) == ("MiB", (5.0,))
    # what lies on another curve lets it be seen
    assert [curve.dashed for curve in large.curves] == [False, False, False, True]
    assert svg(large).count("stroke-dasharray") == 1


def test_bars_show_what_came_of_each_refusal() -> None:
    refused = report(refusals=(Refusals("length", 7, 2, 4, 100, 1.0, next_rescued=3),))
    chart = charts(refused)[3]
    assert isinstance(chart, Bars)
    assert chart.bars[0].parts == (1, 3, 1, 2)
    assert chart.longest == 7


@given(
    st.floats(-1e9, 1e9),
    st.floats(0.001, 1e9),
    st.booleans(),
)
def test_ticks_are_few_in_order_and_on_the_axis(low: float, length: float, whole: bool) -> None:
    found = ticks(low, low + length, whole)
    assert len(found) <= 9
    room = 1e-6 * (abs(low) + length)
    assert all(low - room <= tick.at <= low + length + room for tick in found)
    assert len({tick.label for tick in found}) == len(found)
    if whole:
        assert all(float(tick.at).is_integer() for tick in found)


def test_ticks_are_round() -> None:
    assert [t.label for t in ticks(0, 70)] == ["0", "10", "20", "30", "40", "50", "60", "70"]
    assert [t.label for t in ticks(0, 0.3)][1] == "0.05"
    assert [t.label for t in ticks(0, 2, whole=True)] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("hours", "label"),
    [(0.01, "00:00:10"), (8, "02:00"), (30, "12:00"), (24 * 20, "08 Jan")],
)
def test_times_are_round_and_say_the_day_where_there_are_several(hours: float, label: str) -> None:
    found = time_ticks(NIGHT, NIGHT + hours * 3600)
    assert 2 <= len(found) <= 6
    assert label in [tick.label for tick in found]
    assert ("Jan" in found[0].label) == (hours > 12)


def test_a_single_point_stands_in_the_middle() -> None:
    low, high = x_range(speed(report([time_bin(0, 0)], "2026-01-01T00:01:00.000Z")))
    assert (low + high) / 2 == NIGHT + 30


REFUSED = tuple(Refusals(f"reason_{n}<&>", n + 1, 0, n, 10, 1.0) for n in range(20))
CONTEXTS = tuple(ContextBin(n * 16, n * 16 + 15, 1, None, None, None, None) for n in range(2))
NIGHTS = {
    "nothing at all": report(),
    "one attempt": report([time_bin(0, 0)], "2026-01-01T00:01:00.000Z"),
    "a pause": report([time_bin(0, 0), time_bin(6000, 6001)], "2026-01-01T02:00:00.000Z"),
    "no decode step": report(by_context=CONTEXTS),
    "many reasons": report(refusals=REFUSED),
}


@pytest.mark.parametrize("night", NIGHTS.values(), ids=NIGHTS.keys())
def test_svg_of_any_night_is_well_formed_and_inside_its_frame(night: TimingReport) -> None:
    for chart in charts(night):
        root = ET.fromstring(svg(chart))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for element in root:
            for name, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                assert 0 <= float(element.attrib.get(name, 0)) <= most, element.attrib


@pytest.mark.skipif(not importlib.util.find_spec("matplotlib"), reason="an extra")
@pytest.mark.parametrize("night", NIGHTS.values(), ids=NIGHTS.keys())
def test_png_of_any_night_is_drawn(night: TimingReport) -> None:
    from mh_batch.worker.output.charts.png import draw_charts

    assert draw_charts(charts(night), "title").startswith(b"\x89PNG")
