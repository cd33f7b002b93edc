"""Quaternions against scipy's rotations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mbrl_ros.estimation import rotation

RNG = np.random.default_rng(0)
VECTORS = [*RNG.normal(0, 1, (20, 3)), np.zeros(3), np.array([1e-9, 0, 0]), np.array([0, 3.1, 0.0])]


def ours(r):
    return rotation.from_ros(r.as_quat())


def equal(p, q, tolerance=1e-12):
    return min(np.abs(p - q).max(), np.abs(p + q).max()) < tolerance


@pytest.mark.parametrize("v", VECTORS)
def test_exponential_logarithm_and_matrix(v):
    r = Rotation.from_rotvec(v)
    q = rotation.exponential(v)
    assert equal(q, ours(r))
    np.testing.assert_allclose(rotation.logarithm(q), r.as_rotvec(), atol=1e-12)
    np.testing.assert_allclose(rotation.logarithm(-q), r.as_rotvec(), atol=1e-12)
    np.testing.assert_allclose(rotation.matrix(q), r.as_matrix(), atol=1e-12)
    roll, pitch, yaw = rotation.roll_pitch_yaw(q)
    np.testing.assert_allclose(Rotation.from_euler("xyz", [roll, pitch, yaw]).as_matrix(), r.as_matrix(), atol=1e-9)
    assert rotation.yaw_of(q) == yaw


def test_product_and_inverse():
    for a, b in RNG.normal(0, 1, (10, 2, 3)):
        p, q = Rotation.from_rotvec(a), Rotation.from_rotvec(b)
        assert equal(rotation.product(ours(p), ours(q)), ours(p * q))
        assert equal(rotation.conjugate(ours(p)), ours(p.inv()))
        np.testing.assert_allclose(rotation.skew(a) @ b, np.cross(a, b), atol=1e-12)


def test_levelling_turns_the_specific_force_upright():
    for v in RNG.normal(0, 1, (10, 3)):
        q = rotation.level(9.81 * v / np.linalg.norm(v))
        np.testing.assert_allclose(rotation.matrix(q) @ v, [0, 0, np.linalg.norm(v)], atol=1e-9)
        assert rotation.roll_pitch_yaw(q)[2] == pytest.approx(0.0, abs=1e-9)
