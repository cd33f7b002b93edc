"""What the estimator's configuration refuses, and the page that describes it."""

from pathlib import Path

import pytest

from mbrl_ros.errors import ConfigError
from mbrl_ros.estimation.base import SOURCES, BaseEstimator
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.parameter_tables import prefixed, render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "estimation.md"
ODOM = {"odometry_topic": "odom"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"joint_topics": ""}, "joint_topics: ''"),
        ({"joint_topics": "a, a"}, "each only once"),
        ({"joint_topics": "joint states"}, "'joint states' is not allowed; expected a ROS topic"),
        ({"imu_topic": "1mu", "base": "omni"} | ODOM, "imu_topic: '1mu'"),
        ({"imu_topic": "imu"}, "base: 'none' is not allowed with imu_topic; expected one of: diff_drive"),
        ({"base": "omni"}, "needs odometry_topic or pose_topic"),
        ({"base": "six_dof"} | ODOM, "needs imu_topic"),
        ({"base": "boat"}, "one of: none, diff_drive, omni, six_dof"),
        ({"rate": -1.0}, "rate: -1.0"),
    ],
)
def test_mistakes_are_named(values, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        FilterConfig(**values)


@pytest.mark.parametrize("states", ["base_z", "base_x, base_x"])
def test_unknown_base_states_are_named(states):
    with pytest.raises(ConfigError, match=r"base_states: .* expected, each once: base_x, base_y, base_yaw"):
        BaseEstimator(FilterConfig(base="omni", base_states=states, **ODOM))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"base": "omni"} | ODOM, ["odometry_pose", "odometry_twist"]),
        ({"base": "omni", "odometry_use": "twist"} | ODOM, ["odometry_twist"]),
        (
            {"base": "omni", "odometry_use": "pose", "pose_topic": "p", "imu_topic": "i"} | ODOM,
            ["odometry_pose", "pose", "imu"],
        ),
        (
            {"base": "omni", "pose_topic": "p", "imu_topic": "i", "imu_orientation": True},
            ["pose", "imu", "imu_orientation"],
        ),
    ],
)
def test_sources_follow_from_the_topics(values, expected):
    assert FilterConfig(**values).base_sources == expected
    assert set(expected) <= set(SOURCES)


@pytest.mark.parametrize(
    ("values", "age"), [({}, 0.0), ({"rate": 50.0}, 0.03), ({"rate": 50.0, "fresh_for": 0.1}, 0.1)]
)
def test_what_counts_as_fresh(values, age):
    assert FilterConfig(**values).freshness == pytest.approx(age)


def test_the_page_has_the_table_of_the_code():
    assert render(prefixed("filter", FilterConfig)) in PAGE.read_text()
