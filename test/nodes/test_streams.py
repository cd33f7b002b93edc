"""Rates and ages of streams."""

import math

import pytest

from mbrl_ros.nodes.streams import STALE_AFTER, Stream, figures, stale


def stream(*moments):
    result = Stream()
    for moment in moments:
        result.note(moment)
    return result


def test_rate_is_messages_a_second_and_age_the_time_since_the_last():
    it = stream(*(10.0 + 0.05 * k for k in range(21)))
    assert it.rate(11.0) == pytest.approx(20.0)
    assert it.age(11.25) == pytest.approx(0.25)
    assert it.count == 21


def test_the_rate_follows_the_last_window():
    slow_then_fast = stream(*(0.5 * k for k in range(50)), *(25.0 + 0.01 * k for k in range(100)))
    assert slow_then_fast.rate(26.0) == pytest.approx(100.0)


def test_what_is_silent_has_no_rate_and_is_stale():
    it = stream(1.0, 1.1)
    assert it.rate(1.1 + STALE_AFTER) == pytest.approx(10.0) and stale({"a": it}, 1.1 + STALE_AFTER) == []
    assert it.rate(1.2 + STALE_AFTER) == 0.0
    assert stale({"a": it, "b": Stream()}, 3.1) == ["a: silent for 2.0 s", "b: nothing yet"]


def test_a_stream_may_have_a_patience_of_its_own():
    it = Stream(3.0)
    it.note(1.0)
    assert stale({"a": it}, 3.9) == [] and stale({"a": it}, 4.1) == ["a: silent for 3.1 s"]


def test_one_message_makes_no_rate():
    assert stream(1.0).rate(1.0) == stream(1.0, 1.0).rate(1.0) == stream().rate(1.0) == 0.0
    assert stream().age(1.0) == math.inf


def test_figures_are_named_by_stream():
    values = figures({"observation": stream(1.0, 1.5)}, 2.0)
    assert values == {"observation rate_hz": "2.00", "observation age_s": "0.500", "observation count": 2}
