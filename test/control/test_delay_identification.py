"""The delay of simulated robots whose delay is known."""

import numpy as np
import pytest

from mbrl_ros.control.delay_identification import (
    DelayError,
    Recording,
    Steps,
    actuation_delay,
    agreed,
    motion,
    square_wave,
)

FINE = 1e-3  # s, step of the simulated robot


def recording(interface, delay, *, dt=0.05, noise=0.005, seed=0, gain=1.5, velocities=True) -> Recording:
    """A robot that is measured every `dt` and takes commands at other times, as the probe sends them."""
    rng = np.random.default_rng(seed)
    sent = np.cumsum(dt * rng.uniform(0.4, 1.0, round(3.4 / (0.7 * dt))))
    command = np.array([square_wave(t - 0.2, 3.0, 0.3) for t in sent])
    told = Steps(sent, command)
    time = np.arange(0.0, 3.4, FINE)
    acting = told.value(time - delay)
    q = v = 0.0
    states = []
    for u in acting:
        states.append((q, v))
        if interface == "effort":
            force = gain * u - 0.1 * v
        elif interface == "position":
            force = 400.0 * (gain * u - q) - 40.0 * v
        else:
            force = 20.0 * (gain * u - v)
        v += FINE * force
        q += FINE * v
    seen = np.array(states)[:: round(dt / FINE)]
    seen = seen + noise * rng.standard_normal(seen.shape)
    velocity = seen[:, 1:] if velocities else np.full((len(seen), 1), np.nan)
    return Recording(sent, command, time[:: round(dt / FINE)], seen[:, :1], velocity, 0)


@pytest.mark.parametrize("interface", ["effort", "velocity", "position"])
@pytest.mark.parametrize("delay", [0.0, 0.013, 0.06, 0.117])
def test_delays_are_recovered_within_a_quarter_period(interface, delay):
    found = [actuation_delay(recording(interface, delay, seed=i), interface, 0.5) for i in range(5)]
    assert abs(np.median(found) - delay) < 0.25 * 0.05


def test_fast_sensors_and_velocities_that_are_not_measured():
    for velocities in (True, False):
        record = recording("effort", 0.037, dt=0.01, noise=1e-4, velocities=velocities)
        assert actuation_delay(record, "effort", 0.5) == pytest.approx(0.037, abs=0.004)


def test_the_sign_of_the_motion_does_not_matter():
    assert actuation_delay(recording("effort", 0.06, gain=-1.5), "effort", 0.5) == pytest.approx(0.06, abs=0.0125)


def test_a_robot_that_does_not_follow_is_told():
    with pytest.raises(DelayError, match="does not follow the command"):
        actuation_delay(recording("effort", 0.06, gain=0.0), "effort", 0.5)


def test_too_short_a_recording_is_told():
    record = recording("effort", 0.06)
    few = Recording(record.sent_s, record.command, record.stamp_s[:10], record.position[:10], record.velocity[:10], 0)
    with pytest.raises(DelayError, match="only 9 measurements"):
        actuation_delay(few, "effort", 0.5)


@pytest.mark.parametrize("interface", ["effort", "velocity", "position"])
@pytest.mark.parametrize("delay", [0.55, 0.7, 0.9])
def test_a_delay_beyond_the_longest_is_not_taken_for_a_shorter_one(interface, delay):
    with pytest.raises(DelayError, match=r"about 0\.[5-9]. s, more than 0.5 s; use a larger --longest"):
        actuation_delay(recording(interface, delay), interface, 0.5)
    assert actuation_delay(recording(interface, delay), interface, 1.0) == pytest.approx(delay, abs=0.0125)


@pytest.mark.parametrize("velocities", [True, False])
def test_a_message_now_and_then_without_a_number_is_passed_over(velocities):
    record = recording("effort", 0.06, velocities=velocities, dt=0.01, noise=1e-4)
    record.position[7::20] = np.nan
    record.velocity[13::20] = np.nan
    assert actuation_delay(record, "effort", 0.5) == pytest.approx(0.06, abs=0.0125)


def test_measurements_without_numbers_are_told():
    record = recording("effort", 0.06, velocities=False)
    with pytest.raises(DelayError, match="measurements are missing"):
        motion(
            Recording(record.sent_s, record.command, record.stamp_s, 0 * record.position + np.nan, record.velocity, 0)
        )


def test_steps_against_a_fine_sum():
    signal = Steps(np.array([0.1, 0.35, 0.9]), np.array([2.0, -1.0, 0.5]))
    assert signal.value(np.array([0.0, 0.1, 0.34, 0.35, 5.0])).tolist() == [0.0, 2.0, 2.0, -1.0, 0.5]
    fine = np.linspace(0.0, 1.2, 120001)
    for a, b in ((0.0, 0.05), (0.0, 0.2), (0.2, 0.8), (0.05, 1.2)):
        inside = signal.value(fine[(fine >= a) & (fine < b)])
        assert signal.mean(np.array([a]), np.array([b]))[0] == pytest.approx(inside.mean(), abs=1e-3)


def test_the_wave_brings_a_free_mass_back_to_rest_where_it_was():
    dt = 1e-4
    force = np.array([square_wave(t, 2.5, 0.3) for t in np.arange(-0.1, 2.6, dt)])
    velocity = np.cumsum(force) * dt
    position = np.cumsum(velocity) * dt
    assert abs(velocity[-1]) < 1e-3 and abs(position[-1]) < 2e-3
    assert np.abs(position).max() < 0.3**2, "it stays near"
    assert force[0] == force[-1] == 0.0 and set(np.unique(force)) == {-1.0, 0.0, 1.0}


def test_repetitions_that_disagree_by_more_than_a_period_say_nothing():
    words = ("repetitions", "use more")
    assert agreed([0.03, 0.05, 0.04], 0.05, *words) == pytest.approx(0.04)
    one_off = [0.03, 0.04, 0.03, 0.04, 0.4]
    assert agreed(one_off, 0.05, *words) == pytest.approx(0.04), "one that is far off does no harm"
    said = r"the repetitions .* half of them from 58.0 to 173.9 ms, .* \(100 ms\); use more"
    with pytest.raises(DelayError, match=said):
        agreed([0.0, 0.2319], 0.1, *words)
