"""The animation: every picture shows the pole, the file is small and runs at the right speed."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.animation import SLACK, VIEW_WIDTH, animate, camera_positions
from mbrl_ros.robots.description import load_robot

ROBOT = load_robot("cartpole")


def sweep(count: int) -> np.ndarray:
    """The cart from one end of the track to the other while the pole turns: (count, 4)."""
    states = np.zeros((count, 4))
    states[:, 0] = np.linspace(-2.5, 2.5, count)
    states[:, 1] = np.linspace(0.0, 4.0 * np.pi, count)
    return states


def durations(path) -> list[int]:
    """Time of each picture in ms."""
    with Image.open(path) as gif:
        return [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]


def test_three_seconds_are_small_complete_and_endless(tmp_path):
    path = tmp_path / "swing.gif"
    animate(ROBOT, sweep(60), path, 20.0)
    assert path.stat().st_size < 1_000_000  # measured: 0.1 MB
    assert durations(path) == [50] * 60
    with Image.open(path) as gif:
        assert gif.size == (480, 270)
        assert gif.info["loop"] == 0


def test_pole_and_cart_are_in_every_picture(tmp_path):
    """A pole of 0.5 x 0.04 m covers some 590 pixels at 171 a metre, the cart about 1000."""
    path = tmp_path / "swing.gif"
    animate(ROBOT, sweep(11), path, 20.0)
    with Image.open(path) as gif:
        for frame in ImageSequence.Iterator(gif):
            red, _, blue = np.moveaxis(np.asarray(frame.convert("RGB")).astype(int), -1, 0)
            assert (red - blue > 80).sum() > 400
            assert (blue - red > 80).sum() > 400


def test_background_is_white(tmp_path):
    path = tmp_path / "swing.gif"
    animate(ROBOT, sweep(2), path, 20.0)
    with Image.open(path) as gif:
        assert gif.convert("RGB").getpixel((470, 260)) == (255, 255, 255)


@pytest.mark.parametrize(("rate", "expected"), [(50.0, 20), (10.0, 100)])
def test_rate_sets_the_speed(tmp_path, rate, expected):
    path = tmp_path / "swing.gif"
    animate(ROBOT, sweep(3), path, rate)
    assert durations(path) == [expected] * 3


def test_rounded_durations_add_up(tmp_path):
    """At 30 Hz a picture lasts 33.3 ms, GIF counts in 10 ms: 15 pictures still last 500 ms."""
    path = tmp_path / "swing.gif"
    animate(ROBOT, sweep(15), path, 30.0)
    assert sum(durations(path)) == 500
    assert set(durations(path)) == {30, 40}


def test_camera_rests_until_the_cart_drags_it_along():
    positions = np.array([0.0, SLACK, SLACK + 0.5, SLACK, -0.5, -SLACK - 0.2])
    np.testing.assert_allclose(camera_positions(positions), [0.0, 0.0, 0.5, 0.5, 0.25, -0.2], atol=1e-12)


def test_cart_and_pole_stay_in_the_picture():
    positions = np.random.default_rng(0).uniform(-2.5, 2.5, 200)
    assert np.abs(positions - camera_positions(positions)).max() + 0.5 < VIEW_WIDTH / 2.0


@pytest.mark.parametrize("states", [np.zeros((0, 4)), np.zeros((3, 3)), np.zeros(4), np.full((2, 4), np.nan)])
def test_bad_states_are_refused(tmp_path, states):
    with pytest.raises(ValueError, match=r"states: .*expected finite \(T, 4\) with T > 0"):
        animate(ROBOT, states, tmp_path / "swing.gif", 20.0)


@pytest.mark.parametrize("rate", [0.0, -1.0, 51.0, np.nan])
def test_bad_rate_is_refused(tmp_path, rate):
    with pytest.raises(ConfigError, match=r"rate: .* Hz is not allowed; expected more than 0 and at most 50 Hz"):
        animate(ROBOT, sweep(2), tmp_path / "swing.gif", rate)
