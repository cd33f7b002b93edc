"""Transitions in memory: the same rows as a plain list gives, few bytes each, and what was handed out stays."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_ros.data.transition_buffer import SMALLEST, TransitionBuffer
from mbrl_ros.types import Transitions

NX, NU = 3, 1


def made(rows):
    """A buffer and the rows as a plain list, in two parts: what it begins with, and what is added."""
    first, later = rows
    data = Transitions(
        np.array([np.full(NX, k) for k, _, _ in first], float).reshape(-1, NX),
        np.array([np.full(NU, k) for k, _, _ in first], float).reshape(-1, NU),
        np.array([np.full(NX, k + 0.5) for k, _, _ in first], float).reshape(-1, NX),
        np.array([t for _, t, _ in first], dtype=np.int64),
    )
    buffer = TransitionBuffer(data)
    for k, trajectory, source in later:
        buffer.append(np.full(NX, float(k)), np.full(NU, float(k)), np.full(NX, k + 0.5), trajectory, source)
    return buffer, [(k, t, 0) for k, t, _ in first] + list(later)


ROWS = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 4), st.integers(0, 2)), max_size=12)


@settings(max_examples=200, deadline=None)
@given(st.tuples(ROWS, ROWS), st.integers(0, 25), st.sampled_from([None, 0, 1, 2]))
def test_as_a_plain_list_has_it(rows, start, source):
    buffer, plain = made(rows)
    wanted = sorted((r for r in plain[start:] if source in (None, r[2])), key=lambda r: r[1])  # stable
    got = buffer.since(min(start, len(plain)), source)
    assert len(buffer) == len(plain)
    assert got.x[:, 0].tolist() == got.u[:, 0].tolist() == [k for k, _, _ in wanted]
    assert (got.x_next[:, 0] - 0.5).tolist() == got.x[:, 0].tolist()
    assert got.trajectory.tolist() == [t for _, t, _ in wanted]
    assert all(buffer.has(s, start) == any(r[2] == s for r in plain[start:]) for s in range(3))


def test_what_was_handed_out_stays_while_the_buffer_grows():
    buffer, _ = made(([], [(k, 0, 0) for k in range(5)]))
    early = buffer.since()
    for k in range(5, 3 * SMALLEST):
        buffer.append(np.full(NX, float(k)), np.full(NU, float(k)), np.full(NX, k + 0.5), 0)
    assert early.x[:, 0].tolist() == list(range(5)) and len(early) == 5
    assert buffer.since().u[:, 0].tolist() == list(range(3 * SMALLEST))


def test_a_single_robots_rows_are_handed_out_without_a_copy():
    buffer, _ = made(([], [(k, k // 3, 0) for k in range(9)]))
    assert np.shares_memory(buffer.since().x, buffer.since(2).x)
    assert np.shares_memory(buffer.since(source=0).x, buffer.since().x)


@pytest.mark.parametrize("rows", [5_000, 50_000])
def test_bytes_a_transition(rows):
    """At most a quarter more than its numbers and 12 bytes; half a kilobyte as Python objects."""
    buffer, _ = made(([], []))
    tracemalloc.start()
    for k in range(rows):
        buffer.append(np.full(NX, float(k)), np.full(NU, float(k)), np.full(NX, 0.5), k // 240)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / rows < 1.25 * (8 * (2 * NX + NU) + 12) + 1
