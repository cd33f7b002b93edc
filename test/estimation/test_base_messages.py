"""What the sensors of a base say, as arrays: what is not measured is NaN."""

from types import SimpleNamespace

import numpy as np
import pytest

from mbrl_ros.estimation.base_messages import from_imu, from_imu_orientation


def vector(x, y, z):
    return SimpleNamespace(x=x, y=y, z=z)


def imu(rate=0.1, acceleration=0.2, orientation=0.3):
    """A message whose covariances begin with these numbers."""
    return SimpleNamespace(
        angular_velocity=vector(1.0, 2.0, 3.0),
        linear_acceleration=vector(4.0, 5.0, 6.0),
        orientation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0),
        angular_velocity_covariance=[rate, *range(8)],
        linear_acceleration_covariance=[acceleration, *range(8)],
        orientation_covariance=[orientation, *range(8)],
    )


@pytest.mark.parametrize("given, missing", [({}, []), ({"rate": -1.0}, [0, 1, 2]), ({"acceleration": -1.0}, [3, 4, 5])])
def test_a_covariance_that_begins_with_minus_one_says_that_nothing_is_measured(given, missing):
    value, covariance = from_imu(imu(**given))
    expected = np.arange(1.0, 7.0)
    expected[missing] = np.nan
    np.testing.assert_array_equal(value, expected)
    assert covariance[1, 2] == covariance[4, 5] == 4 and not covariance[:3, 3:].any(), "row by row, none across"


def test_an_orientation_that_is_not_measured():
    assert from_imu_orientation(imu())[0].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert np.isnan(from_imu_orientation(imu(orientation=-1.0))[0]).all()
