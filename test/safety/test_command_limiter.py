"""The limiter against integration by hand and, for what it must always be able to do, against random wishes."""

import numpy as np
import pytest
from guard_cases import robot_limits

from mbrl_ros.safety.command_limiter import CommandLimiter

H = 0.05


def limiter(start=(0.0, 0.0), **limits) -> CommandLimiter:
    result = CommandLimiter(robot_limits(**limits))
    result.restart(np.array(start))
    return result


def follow(it: CommandLimiter, wish, steps: int, h=H) -> np.ndarray:
    """Commands of the first actuator."""
    return np.array([it.limit(np.array([wish, 0.0]), h)[0][0] for _ in range(steps)])


def test_without_rate_and_jerk_only_the_range_counts():
    it = limiter()
    for wish, sent, cut in (([3.3, -1.7], [3.3, -1.7], ""), ([-99.0, 99.0], [-10.0, 2.0], "range")):
        command, said = it.limit(np.array(wish), H)
        np.testing.assert_array_equal(command, sent)
        assert said == cut


def test_rate_is_per_second():
    np.testing.assert_allclose(follow(limiter(rate=20.0), 10.0, 3), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(follow(limiter(rate=20.0), -10.0, 3, h=H / 2), [-0.5, -1.0, -1.5])


def test_jerk_builds_the_rate_up_by_the_same_amount_each_step():
    sent = follow(limiter(jerk=100.0), 10.0, 5)  # the rate grows by J h = 5/s a step
    np.testing.assert_allclose(np.diff(sent, prepend=0.0) / H, [5.0, 10.0, 15.0, 20.0, 25.0])


def test_what_can_be_reached_is_sent_to_the_last_digit():
    it = limiter(rate=20.0, jerk=100.0)
    for wish in (0.1, 0.3, 0.5, 0.6):  # changes of the rate within 5/s
        assert it.limit(np.array([wish, 0.0]), H) == (pytest.approx([wish, 0.0], abs=0.0), "")


def test_with_a_jerk_limit_a_wish_is_reached_without_overshoot_and_stays():
    sent = follow(limiter(jerk=100.0), 7.0, 60)
    assert np.all(sent <= 7.0) and np.all(np.diff(sent) >= 0.0)
    assert sent[-1] == 7.0
    assert np.abs(np.diff(sent, 2)).max() <= 100.0 * H**2 * (1 + 1e-9)


def test_restart_forgets_the_rate_and_stays_in_range():
    it = limiter(jerk=100.0)
    follow(it, 10.0, 10)
    it.restart(np.array([99.0, 0.0]))
    assert follow(it, 10.0, 1)[0] == 10.0
    it.restart(np.array([0.0, 0.0]))
    np.testing.assert_allclose(follow(it, 10.0, 1), [100.0 * H**2])


def test_with_nothing_known_the_first_command_is_free():
    it = CommandLimiter(robot_limits(rate=1.0))
    assert follow(it, 9.0, 1)[0] == 9.0
    np.testing.assert_allclose(follow(it, 0.0, 1), [9.0 - H])


@pytest.mark.parametrize("rate, jerk", [(20.0, np.inf), (np.inf, 100.0), (20.0, 100.0), (0.3, 1e6), (1e6, 0.3)])
def test_range_rate_and_jerk_hold_for_any_wishes_at_any_times(rate, jerk):
    rng = np.random.default_rng(0)
    limits = robot_limits(rate=rate, jerk=jerk)
    it, speed, previous, top = CommandLimiter(limits), np.zeros(2), np.zeros(2), 0.0
    it.restart(previous)
    wish = np.zeros(2)
    for _ in range(3000):
        if rng.random() < 0.2:
            wish = rng.choice([-1e308, 1e308, -10.0, 10.0, 0.0, 1.0, rng.normal()], size=2)
        h = rng.choice([H, H / 10, 0.01 * H, 0.3 * H])
        command, _ = it.limit(wish, h)
        new = (command - previous) / h
        assert np.all((command >= limits.command_low) & (command <= limits.command_high))
        assert np.all(np.abs(new) <= rate + 1e-9)
        assert np.all(np.abs(new - speed) <= jerk * h + 1e-9)
        speed, previous, top = new, command, max(top, np.abs(command).max())
    assert top > 0.1, "it moved"
