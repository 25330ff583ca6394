"""Pictures of a night: what is drawn is right as values, and both ways of drawing take anything."""

import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mh_batch.store.reports.timings import (
    ContextBin,
    Off,
    Refusals,
    TimeBin,
    TimingReport,
    Totals,
)
from mh_batch.worker.output.charts.axes import XAxis, ticks, time_ticks, x_range
from mh_batch.worker.output.charts.spec import Bars, Colour, Lines, Pause
from mh_batch.worker.output.charts.svg import WIDTH, svg
from mh_batch.worker.output.charts.timing_charts import charts, worth_drawing

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


def side_by_side(night: TimingReport) -> TimingReport:
    return replace(night, totals=replace(night.totals, parallel=4))


def test_attempts_side_by_side_are_no_bursts_and_no_token_is_lost() -> None:
    bins = [time_bin(0, 0), time_bin(60, 0.5), time_bin(180, 1)]
    chart = speed(side_by_side(report(bins, "2026-01-01T00:03:30.000Z")))
    overall = chart.curves[1].y
    # between the second bin and the third, one went on and none ended
    assert [x - NIGHT for x in chart.x] == [30, 90, 195]
    assert overall == pytest.approx(
        (10 + 5.02 * 59.5 / 60 + 2.87 * 59 / 60, 5.02 + 2.87, 2.87), 0.01
    )
    assert sum((y or 0.0) * s for y, s in zip(overall, (60, 60, 30), strict=True)) + 2.87 * 60 == (
        pytest.approx(1800, 0.01)
    )


def test_while_no_attempt_runs_slots_have_no_speed() -> None:
    bins = [time_bin(0, 0), time_bin(240, 245)]
    chart = speed(side_by_side(report(bins, "2026-01-01T00:05:00.000Z")))
    assert chart.curves[1].y == pytest.approx((10.0, 0, 0, 0, 10.0))


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
    "side by side": side_by_side(
        report([time_bin(0, 0), time_bin(60, 1)], "2026-01-01T00:02:00.000Z")
    ),
    "the worker off": report(
        [time_bin(0, 0), time_bin(7200, 7200)],
        "2026-01-01T02:00:30.000Z",
        off=(Off(NIGHT + 30, NIGHT + 7190),),
    ),
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


PAUSED = report(
    [time_bin(0, 0), time_bin(7200, 7200)],
    "2026-01-01T02:00:30.000Z",
    off=(Off(NIGHT + 30, NIGHT + 7190),),
)


def test_the_time_that_the_worker_was_off_is_a_gap_and_counts_for_no_speed() -> None:
    chart = speed(PAUSED)
    decoding, overall = chart.curves
    assert decoding.y == (50.0, None, 50.0)
    assert overall.y == (600 / 30, None, 600 / 30)
    assert chart.pauses == (Pause(NIGHT + 30, NIGHT + 7190),)
    assert svg(chart).count('class="off"') == 2
    assert svg(chart).count("<polyline") == 4


def test_a_pause_within_the_span_of_a_bin_is_taken_out_of_its_time() -> None:
    off = (Off(NIGHT + 20, NIGHT + 40),)
    bins = [time_bin(0, 0), time_bin(60, 60)]
    chart = speed(report(bins, "2026-01-01T00:02:00.000Z", off=off))
    assert chart.curves[1].y[0] == 600 / 40


def test_a_long_pause_is_drawn_short_and_has_no_ticks() -> None:
    axis = XAxis(speed(PAUSED))
    off = axis(NIGHT + 7190) - axis(NIGHT + 30)
    assert 0 < off < 0.1 * (axis.high - axis.low)
    assert axis(NIGHT + 7200) - axis(NIGHT + 7190) == 10
    assert {tick.label[:5] for tick in axis.ticks} == {"00:00", "02:00"}
    assert not [t for t in axis.ticks if axis(NIGHT + 30) < t.at < axis(NIGHT + 7190)]


def test_only_bins_of_several_attempts_have_a_band() -> None:
    few, many = (ContextBin(n * 16, n * 16 + 15, n, 5.0, 4.0, 6.0, 1.0) for n in (1, 5))
    (curve,) = _lines_of(report(by_context=(few, many))).curves
    assert (curve.low, curve.high) == ((None, 4.0), (None, 6.0))
    # over one point it has a width of its own
    assert 'class="band c0" x="' in svg(_lines_of(report(by_context=(few, many))))
    (alone,) = _lines_of(report(by_context=(few,))).curves
    assert (alone.label, alone.low) == ("mean", ())


def test_a_curve_of_one_point_and_bars_of_nothing_are_not_worth_a_chart() -> None:
    one = report([time_bin(0, 0)], "2026-01-01T00:01:00.000Z")
    assert not any(map(worth_drawing, charts(one)))
    two = report([time_bin(0, 0), time_bin(60, 60)], "2026-01-01T00:02:00.000Z", refusals=REFUSED)
    assert [worth_drawing(chart) for chart in charts(two)] == [False, True, True, True]


def test_no_entry_of_a_legend_and_no_label_of_a_bar_goes_beyond_the_edge() -> None:
    reasons = (Refusals("unfinished_tool_call_text", 7, 2, 4, 100, 1.0, next_rescued=3),)
    root = ET.fromstring(svg(charts(report(refusals=reasons))[3]))
    texts = [(e.attrib, e.text or "") for e in root if e.tag == "text"]
    assert {"gave up", "next one rescued"} <= {text for _, text in texts}
    for where, text in texts:
        x, width = float(where["x"]), 6 * len(text)
        left = {"start": x, "middle": x - width / 2, "end": x - width}[where["text-anchor"]]
        assert left >= 0, text
        assert left + width <= WIDTH, text


def test_what_was_refused_is_never_green() -> None:
    chart = charts(report(refusals=REFUSED))[3]
    assert isinstance(chart, Bars)
    assert Colour.GREEN not in chart.colours
    assert dict(zip(chart.parts, chart.colours, strict=True))["gave up"] is Colour.RED


def _lines_of(night: TimingReport) -> Lines:
    chart = charts(night)[0]
    assert isinstance(chart, Lines)
    return chart
