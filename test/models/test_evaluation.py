"""Model errors against explicit loops."""

import numpy as np
import pytest

from mbrl_ros.models.evaluation import multi_step_error, one_step_error
from mbrl_ros.types import Transitions


class Members:
    """Two linear members: x' = a_e x + u."""

    members = 2
    gains = (0.9, 1.1)

    def rollout(self, x0, actions, rng, particles):
        assert rng is None
        states = np.empty((particles, len(actions), actions.shape[1] + 1, 2))
        for p in range(particles):
            states[p, :, 0] = x0
            for t in range(actions.shape[1]):
                states[p, :, t + 1] = self.gains[p % 2] * states[p, :, t] + actions[:, t]
        return states


def recorded() -> Transitions:
    rng = np.random.default_rng(0)
    lengths = (7, 3, 9)
    n = sum(lengths)
    x, u = rng.standard_normal((n, 2)) * [1.0, 10.0], rng.standard_normal((n, 1))
    return Transitions(x, u, x + u + rng.standard_normal((n, 2)) * [1.0, 10.0], np.repeat([0, 1, 5], lengths))


@pytest.mark.parametrize("horizon", [1, 2, 4, 7, 9])
def test_against_an_explicit_loop(horizon):
    data = recorded()
    squares = []
    for i in range(len(data)):
        j = i + horizon - 1
        if j >= len(data) or data.trajectory[j] != data.trajectory[i]:
            continue
        ends = []
        for gain in Members.gains:
            x = data.x[i]
            for t in range(i, j + 1):
                x = gain * x + data.u[t]
            ends.append(x)
        squares.append(((np.mean(ends, axis=0) - data.x_next[j]) / data.x_next.std(axis=0)) ** 2)
    assert multi_step_error(Members(), data, horizon) == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-10)


def test_one_step_is_the_horizon_of_one():
    assert one_step_error(Members(), recorded()) == multi_step_error(Members(), recorded(), 1)


def test_the_unit_is_the_spread_of_the_data():
    data = recorded()
    scaled = Transitions(data.x * 7, data.u * 7, data.x_next * 7, data.trajectory)
    assert multi_step_error(Members(), scaled, 3) == pytest.approx(multi_step_error(Members(), data, 3))


def test_nan_where_no_trajectory_is_long_enough():
    assert np.isnan(multi_step_error(Members(), recorded(), 10))
    assert np.isnan(one_step_error(Members(), recorded()[:0]))


def test_one_transition_alone_has_no_spread_to_be_measured_by():
    assert np.isnan(one_step_error(Members(), recorded()[:1]))
    assert np.isfinite(one_step_error(Members(), recorded()[:2]))
