"""Joints and base together: sources, ages, silence, and garbage that must never become an observation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.estimator import Estimator

NAN = math.nan
BASE = {"base": "diff_drive", "odometry_topic": "odom", "pose_topic": "pose", "imu_topic": "imu"}


def make(**values):
    return Estimator(FilterConfig(**values), 2, 0.01, 0.01)


def test_two_topics_of_half_the_joints_each_make_one_state():
    estimator = make(joint_topics="left, right", fresh_for=0.03)
    for k in range(20):
        for i, source in enumerate(("left", "right")):
            z = np.full(2, NAN)
            z[i] = 1.0 + i
            assert estimator.measure_joints(0.05 * k + 0.02 * i, source, z, np.full(2, NAN), 0.0) == ""
    observation = estimator.observe(0.05 * 19 + 0.02)
    assert observation.valid and not observation.bridged
    np.testing.assert_allclose(observation.position, [1.0, 2.0], atol=1e-6)
    assert estimator.observe(0.05 * 19 + 0.04).bridged, "left is now 40 ms old"


@pytest.mark.parametrize(("fresh_for", "bridged"), [(0.0, True), (0.06, False)])
def test_fresh_for_decides_what_is_bridged(fresh_for, bridged):
    estimator = make(fresh_for=fresh_for)
    for k in range(5):
        estimator.measure_joints(0.05 * k, "joint_states", np.zeros(2), np.zeros(2), 0.0)
    estimator.measure_joints(0.25, "joint_states", np.array([0.0, NAN]), np.array([0.0, NAN]), 0.0)
    observation = estimator.observe(0.25)
    assert observation.valid and observation.bridged == bridged


def test_joints_and_base_at_one_stamp():
    estimator = make(base_states="base_vx,base_x", **BASE)
    for k in range(5):
        estimator.measure_joints(0.05 * k, "joint_states", np.ones(2), np.zeros(2), 0.0)
        pose = [0.05 * k, 0, 0, 0, 0, 0, 1]
        estimator.measure_base(0.05 * k + 0.01, "odometry_pose", pose, np.zeros((6, 6)), 0.0)
        estimator.measure_base(0.05 * k + 0.01, "odometry_twist", [1.0, 0, 0, 0, 0, 0], np.zeros((6, 6)), 0.0)
    observation = estimator.observe(0.26)
    assert observation.valid and observation.bridged
    assert estimator.base_names == ["base_vx", "base_x"]
    np.testing.assert_allclose(observation.base, [1.0, 0.25], atol=0.06)
    np.testing.assert_allclose(observation.position, 1.0, atol=1e-3)
    late = estimator.observe(0.38)
    assert not late.valid and "no recent measurement: joint [0, 1]" in late.reason
    assert estimator.observe(1.0).reason.endswith("base: no recent pose or twist")


def test_ages_are_of_the_monotonic_clock():
    estimator = make(joint_topics="a,b")
    estimator.measure_joints(1e6, "a", np.zeros(2), np.zeros(2), 50.0)
    assert estimator.sources["a"].age_s(50.3) == pytest.approx(0.3)
    assert estimator.sources["b"].age_s(50.3) == math.inf
    assert estimator.silent(50.1) == ["b silent for inf s"]
    assert estimator.silent(50.3) == ["a silent for 0.30 s", "b silent for inf s"]


def test_what_was_late_or_not_used_is_counted_with_the_reason():
    estimator = make(late_window=0.2)
    rest = np.zeros(2), np.zeros(2), 0.0
    for stamp in (1.0, 1.1, 1.05, 1.1, 0.5):
        estimator.measure_joints(stamp, "joint_states", *rest)
    problem = estimator.measure_joints(1.2, "joint_states", np.array([NAN, math.inf]), np.full(2, NAN), 0.0)
    source = estimator.sources["joint_states"]
    assert (source.received, source.late, source.dropped) == (6, 1, 3)
    assert problem == "" and source.reason == "no finite number of any joint"
    assert estimator.observe(1.2).bridged and "position not measured: joint [0, 1]" in estimator.observe(1.2).reason


def test_a_stamp_far_behind_the_measurements_is_not_estimated():
    estimator = make(late_window=0.1)
    for k in range(5):
        estimator.measure_joints(10.0 + 0.05 * k, "joint_states", np.zeros(2), np.zeros(2), 0.0)
    assert estimator.observe(10.15).valid
    behind = estimator.observe(5.0)
    assert not behind.valid and "5.2 s ahead: do the clocks agree?" in behind.reason


NASTY = st.one_of(
    st.sampled_from([0.0, NAN, math.inf, -math.inf, 1e308, -1e308, 1e-308, 1e9, 1e160, -1e12, 2.5]),
    st.floats(-10, 10),
    st.floats(),
)
STAMPS = st.one_of(st.floats(0, 1), st.sampled_from([NAN, math.inf, -math.inf, 1e308, -1e308, 1e11, -1e11, 1e9, 0.0]))
KINDS = ["joint_states", "odometry_pose", "odometry_twist", "imu", "imu_orientation", "pose"]
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        STAMPS,
        st.lists(NASTY, min_size=4, max_size=8),
        st.one_of(st.just([]), st.lists(NASTY, min_size=36, max_size=36), st.lists(NASTY, min_size=9, max_size=9)),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)
LENGTHS = {"odometry_pose": 7, "odometry_twist": 6, "imu": 6, "imu_orientation": 4, "pose": 7}


def feed(estimator, messages):
    """Send the messages, valid ones of a running clock between them, and look at every stamp."""
    for k, (kind, stamp, numbers, covariance, sane) in enumerate(messages):
        at = 0.02 * k if sane else stamp
        if kind == "joint_states":
            z = np.array(numbers[:4])
            estimator.measure_joints(at, kind, z[:2], z[2:], 0.02 * k)
        else:
            value = np.resize(numbers, LENGTHS[kind]) if sane else np.array(numbers)
            n = math.isqrt(len(covariance))
            estimator.measure_base(at, kind, value, np.reshape(covariance, (n, n)), 0.02 * k)
        for asked in (at, 0.02 * k + 0.05, estimator.newest):
            yield estimator.observe(asked)


def check_finite(observation):
    if observation.valid:
        numbers = np.concatenate([observation.position, observation.velocity, observation.base])
        assert np.isfinite(numbers).all(), observation
    assert isinstance(observation.reason, str)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("base", ["diff_drive", "omni", "six_dof"])
@pytest.mark.parametrize("noise", [0.01, 0.0])
@settings(max_examples=40, deadline=None)
@given(messages=MESSAGES)
def test_garbage_never_raises_and_never_becomes_a_number_that_is_none(base, noise, messages):
    cfg = FilterConfig(**BASE | {"base": base}, imu_orientation=True, rejections_to_restart=2)
    for observation in feed(Estimator(cfg, 2, noise, noise), messages):
        check_finite(observation)


@pytest.mark.parametrize("base", ["diff_drive", "six_dof"])
@settings(max_examples=15, deadline=None)
@given(messages=MESSAGES)
def test_after_any_garbage_good_measurements_make_a_good_estimate(base, messages):
    estimator = Estimator(FilterConfig(**BASE | {"base": base}), 2, 0.01, 0.01)
    for _ in feed(estimator, [m for m in messages if m[0] != "imu_orientation"]):
        pass
    for k in range(60):
        stamp = 100.0 + 0.05 * k
        estimator.measure_joints(stamp, "joint_states", np.array([1.0, -2.0]), np.zeros(2), 0.0)
        estimator.measure_base(stamp, "imu", [0, 0, 0, 0, 0, 9.80665], np.zeros(0), 0.0)
        estimator.measure_base(stamp, "pose", [3.0, 4.0, 0, 0, 0, 0, 1], np.zeros(0), 0.0)
        estimator.measure_base(stamp, "odometry_twist", np.zeros(6), np.zeros(0), 0.0)
    observation = estimator.observe(stamp)
    assert observation.valid, observation.reason
    np.testing.assert_allclose(observation.position, [1.0, -2.0], atol=1e-3)
    np.testing.assert_allclose(observation.base[:2], [3.0, 4.0], atol=0.1)
