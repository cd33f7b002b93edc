"""Charts: places, ticks, what is clipped is marked, peaks survive thinning, and every text is escaped."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mbrl_ros.reporting import svg
from mbrl_ros.reporting.axes import Axis, half_turns, log_ticks, nice_step, padded, plain
from mbrl_ros.reporting.chart import Band, Bars, Chart, Figure, Line, Marks, Rule, Stripe, extent, from_zero

RED = "#ff0000"


def drawn(*layers, **settings):
    """The elements of a chart from x 0 .. 10 and y 0 .. 5 with these layers."""
    chart = Chart("t", layers, x_range=(0.0, 10.0), y_range=(0.0, 5.0), **settings)
    root = ElementTree.fromstring(svg.chart_svg(chart))
    return [e for e in root.iter() if RED in (e.get("stroke"), e.get("fill"))]


def numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.?\d*", text)]


def test_an_axis_places_its_ends_and_its_middle():
    axis = Axis(-1.0, 3.0, 100.0, 20.0)
    np.testing.assert_allclose(axis.place(np.array([-1.0, 1.0, 3.0, 5.0])), [100.0, 60.0, 20.0, -20.0])
    log = Axis(0.1, 1000.0, 0.0, 400.0, log=True)
    np.testing.assert_allclose(log.place(np.array([0.1, 1.0, 10.0, 1000.0])), [0.0, 100.0, 200.0, 400.0])


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (-3.7, 12.0), (1e-6, 3e-6), (-2e5, 7e5), (17.0, 17.1)])
def test_ticks_are_round_evenly_spaced_and_within_the_axis(low, high):
    values = [v for v, _ in Axis(low, high, 0.0, 1.0).ticks()]
    steps = np.diff(values)
    assert 2 <= len(values) <= 8 and values[0] >= low - 1e-12 and values[-1] <= high * (1 + 1e-9)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)
    assert f"{steps[0]:.0e}"[0] in "125"


@given(
    low=st.floats(-1e3, 1e3),
    size=st.floats(1e-2, 1e3),
    most=st.integers(3, 6),
    kind=st.sampled_from(["log", "turns", ""]),
)
@example(low=-4.6, size=9.0, most=3, kind="")  # five apart, zero would stand alone
@example(low=0.021, size=0.02, most=4, kind="log")  # no 1, 2 or 5 in it
@example(low=-0.2, size=0.4, most=6, kind="turns")  # far less than a quarter of a turn
def test_every_axis_has_two_ticks_or_nobody_could_read_it(low, size, most, kind):
    low = abs(low) + 1e-3 if kind == "log" else low
    values = [v for v, _ in Axis(low, low + size, 0.0, 1.0, kind == "log", kind == "turns").ticks(most)]
    assert 2 <= len(values) <= 2 * most + 2
    assert np.diff(values).min() > 0.0 and values[0] >= low - 1e-9 * size and values[-1] <= low + size * (1 + 1e-9)


def test_ticks_of_other_axes():
    assert [name for _, name in Axis(-7.0, 4.0, 0, 1, turns=True).ticks()] == ["−2π", "−π", "0", "π"]  # noqa: RUF001
    assert log_ticks(0.02, 3.0, 8) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
    assert log_ticks(1e-6, 1e6, 6) == pytest.approx([1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6])
    assert [nice_step(v) for v in (0.11, 0.2, 3.0, 7.0)] == pytest.approx([0.2, 0.2, 5.0, 10.0])
    assert (plain(-0.5), plain(0.0), plain(1e9)) == ("−0.5", "0", "1e+09")  # noqa: RUF001
    assert [name for _, name in Axis(-1.0, 4.0, 0, 1, turns=True).ticks()] == ["0", "π/2", "π"]
    names = [half_turns(k) for k in (0, 1, -1, 2, 3, -4, -6)]
    assert names == ["0", "π/2", "−π/2", "π", "3π/2", "−2π", "−3π"]  # noqa: RUF001


def test_ranges_hold_the_values_and_are_never_empty():
    low, high = padded(1.0, 2.0)
    assert low < 1.0 and high > 2.0
    assert padded(3.0, 3.0)[0] < 3.0 < padded(3.0, 3.0)[1] and padded(math.nan, math.nan) == (-1.0, 1.0)
    assert padded(0.0, 10.0, log=True)[0] > 0.0
    assert from_zero([[1.0, 3.0]]) == (0.0, pytest.approx(3.24)) and from_zero([[math.nan]]) == (
        0.0,
        pytest.approx(1.08),
    )
    assert from_zero([[-1.0, 2.0]])[0] < -1.0 and from_zero([[0.0, 0.0]])[1] > 0.0
    assert extent([[math.nan, 2.0, math.inf], np.array([[-1.0]])]) == (-1.0, 2.0)
    assert extent([[0.0, -1.0, 3.0]], positive=True) == (3.0, 3.0)


def test_a_line_goes_through_its_points_and_stops_where_they_are_missing():
    y = np.array([0.0, 5.0, math.nan, 2.5, 2.5])
    (way,) = drawn(Line(np.array([0.0, 10.0, 0.0, 0.0, 5.0]), y, RED))
    left, right, top, bottom = svg.LEFT, svg.WIDTH - svg.RIGHT, svg.TOP, svg.TOP + 110.0
    expected = [left, bottom, right, top, left, (top + bottom) / 2, (left + right) / 2, (top + bottom) / 2]
    np.testing.assert_allclose(numbers(way.get("d")), expected, atol=0.06)
    assert way.get("d").count("M") == 2


def test_a_stepped_line_holds_its_value_until_the_next():
    (way,) = drawn(Line(np.array([0.0, 5.0]), np.array([1.0, 4.0]), RED, step=True))
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+V[\d.]+", way.get("d"))


def test_bands_bars_stripes_and_rules_lie_where_they_should():
    height = 110.0
    (band,) = drawn(Band(np.array([0.0, 10.0]), np.array([1.0, 1.0]), np.array([2.0, 2.0]), RED))
    ys = numbers(band.get("d"))[1::2]
    assert min(ys) == pytest.approx(svg.TOP + height * 0.6) and max(ys) == pytest.approx(svg.TOP + height * 0.8)
    bars = drawn(Bars(np.array([0.0, 5.0, 10.0]), np.array([1.0, 5.0]), RED))
    assert [float(b.get("height")) for b in bars] == pytest.approx([height / 5, height], abs=0.1)
    assert float(bars[1].get("y")) == pytest.approx(svg.TOP)
    (stacked,) = drawn(Bars(np.array([0.0, 5.0]), np.array([1.0]), RED, base=np.array([2.0])))
    assert float(stacked.get("y")) == pytest.approx(svg.TOP + height * 0.4)
    (stripe,) = drawn(Stripe(4.0, 5.0, RED))
    assert (float(stripe.get("y")), float(stripe.get("height"))) == pytest.approx((svg.TOP, height / 5))
    (rule,) = drawn(Rule(10.0, RED, upright=True))
    assert numbers(rule.get("d"))[0] == pytest.approx(svg.WIDTH - svg.RIGHT)


@pytest.mark.parametrize("value, says", [(9.0, "▲ to 9"), (-3.0, "▼ to −3"), (math.inf, ""), (4.0, "")])  # noqa: RUF001
def test_what_leaves_the_picture_is_marked_and_its_size_is_said(value, says):
    y = np.array([1.0, value, 1.0, 2.0])
    text = svg.chart_svg(Chart("t", [Line(np.arange(4.0), y, RED)], x_range=(0.0, 3.0), y_range=(0.0, 5.0)))
    triangles = [e for e in ElementTree.fromstring(text).iter() if e.get("fill") == RED]
    assert len(triangles) == (value != 4.0)
    assert not says or says in text


def test_a_long_line_is_thinned_and_keeps_its_peaks():
    y = np.zeros(20_000)
    y[[777, 12_345]] = 5.0, -5.0
    kept = svg.thinned(y, y)
    assert len(kept) <= 2 * svg.BUCKETS + 2 and {0, 777, 12_345, 19_999} <= set(kept.tolist())
    assert (np.diff(kept) > 0).all() and len(svg.thinned(y[:100], y[:100])) == 100


def test_numbers_without_end_are_drawn_by_no_renderer():
    y = np.array([0.0, 1e300, -1e300, 1.0])
    (line, *_) = drawn(Line(np.arange(4.0), y, RED))
    assert max(map(abs, numbers(line.get("d")))) < 1000.0


def test_marks_of_every_shape_and_dots_on_one_pixel_once():
    x, y = np.array([1.0, 2.0]), np.array([1.0, math.nan])
    for shape in ("circle", "square", "cross", "bar"):
        assert len(drawn(Marks(x, y, RED, shape=shape))) == 1
    (dots,) = drawn(Marks(np.array([1.0, 1.0001, 5.0]), np.array([1.0, 1.0, 1.0]), RED, shape="dot"))
    assert dots.get("d").count("M") == 2
    text = svg.chart_svg(Chart("t", [Marks(np.array([1.0]), np.array([1.0]), RED, texts=("<7>",))]))
    assert "&lt;7&gt;" in text


def test_a_figure_is_one_file_with_each_label_once_and_its_text():
    line = Line(np.arange(2.0), np.arange(2.0), RED, "both & more")
    text = svg.figure_svg(Figure("f", 'a <title> "text"', [Chart("one", [line]), Chart("two", [line])]))
    root = ElementTree.fromstring(text)
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("both & more") == 1 and "one" in texts and "two" in texts
    assert root[0].text == 'a <title> "text"' and root.get("role") == "img"
    assert svg.legend_svg([Chart("t", [Line(np.arange(2.0), np.arange(2.0), RED)])]) == ""


def test_rows_with_names_stand_at_whole_numbers():
    text = svg.chart_svg(Chart("t", [], x_range=(0, 1), y_range=(-0.5, 1.5), names=("low", "high")))
    places = dict(re.findall(r'y="([\d.]+)"[^>]*>(low|high)<', text))
    lower, upper = sorted(places, key=float, reverse=True)
    assert (places[lower], places[upper]) == ("low", "high")
