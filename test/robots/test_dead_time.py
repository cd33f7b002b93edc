"""Commands that act a fixed time after they were given."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mbrl_ros.robots.dead_time import DeadTime


def test_a_command_acts_from_its_time_on():
    line = DeadTime(0.06, 1)
    line.give(1.0, np.array([2.0]))
    line.give(1.05, np.array([3.0]))
    pieces = [(round(d, 9), u.tolist()) for d, u in line.over(1.0, 1.1)]
    assert pieces == [(0.06, [0.0]), (0.04, [2.0])]
    pieces = [(round(d, 9), u.tolist()) for d, u in line.over(1.1, 1.2)]
    assert pieces == [(0.01, [2.0]), (0.09, [3.0])]
    line.forget()
    assert [u.tolist() for _, u in line.over(1.2, 1.3)] == [[0.0]]


@given(st.lists(st.floats(0.0, 1.0), max_size=8), st.floats(0.001, 0.3))
def test_the_pieces_fill_the_time_and_integrate_to_what_was_given(times, delay):
    line = DeadTime(delay, 1)
    for i, time in enumerate(sorted(times)):
        line.give(time, np.array([i + 1.0]))
    pieces = [piece for k in range(20) for piece in line.over(0.1 * k, 0.1 * (k + 1))]
    assert np.isclose(sum(d for d, _ in pieces), 2.0) and all(d > 0 for d, _ in pieces)
    begins = [*(t + delay for t in sorted(times)), 2.0]
    expected = sum((i + 1) * (begins[i + 1] - begins[i]) for i in range(len(times)))
    assert np.isclose(sum(d * u[0] for d, u in pieces), expected)
