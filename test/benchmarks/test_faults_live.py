"""A small part of the fault matrix on a live graph. Time is counted in ticks of the simulator: a runner may be slow."""

import os
from collections import Counter

import numpy as np
import pytest
from ros_domain import own_domain

pytest.importorskip("rclpy", reason="ROS 2 is not installed")
pytest.importorskip("pybullet", reason="PyBullet is not installed")

from mbrl_ros.benchmarks.faults import runner
from mbrl_ros.benchmarks.faults.catalogue import catalogue

MOST_TICKS = 40  # ticks of 50 ms from the fault to the safe action; on a machine with time to spare there are 3
DUE = ("kill mpc_controller", "command: silent")
OTHERS = ("disk full: model_learner", "observation: nan")


@pytest.fixture(scope="module")
def rows():
    old = {name: os.environ.get(name) for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")}
    os.environ |= {"ROS_DOMAIN_ID": str(own_domain(__file__)), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    rng, found = np.random.default_rng(0), {}
    try:
        for variant in ("direct", "relay"):
            faults = [f for f in catalogue() if f.variant == variant and f.name in (*DUE, *OTHERS)]
            found |= {row.fault: row for row in runner.run_variant(variant, faults, 1, rng)}
    finally:
        for name, value in old.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return found


@pytest.mark.parametrize("fault", [*DUE, *OTHERS])
def test_the_graph_recovers_and_loses_nothing(rows, fault):
    row = rows[fault]
    assert row.recovered, row.problem
    assert row.transitions_lost == 0
    assert "at the actuators" not in row.problem, "only finite commands within the limits"
    assert "died" not in row.problem


@pytest.mark.parametrize("fault", DUE)
def test_the_safe_action_comes(rows, fault):
    assert rows[fault].ticks is not None, rows[fault].problem
    assert rows[fault].ticks <= MOST_TICKS


def test_the_reason_is_published(rows):
    assert Counter(rows["kill mpc_controller"].flags)["timeout"] > 0
    assert "wait in memory" in rows["disk full: model_learner"].reason
    assert rows["command: silent"].reason
