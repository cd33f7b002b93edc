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
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.description import load_robot

EXAMPLES = share_directory() / "config" / "robots" / "examples"
MOST_TICKS = 40  # ticks of 50 ms from the fault to the safe action; on a machine with time to spare there are 3
DUE = ("kill mpc_controller", "command: silent")
OTHERS = ("disk full: model_learner", "observation: nan")


def rows_of(faults, robot="cartpole"):
    """Rows of the faults by name, in the order of the variants, in a domain of this file."""
    old = {name: os.environ.get(name) for name in ("ROS_DOMAIN_ID", "ROS_AUTOMATIC_DISCOVERY_RANGE")}
    os.environ |= {"ROS_DOMAIN_ID": str(own_domain(__file__)), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    rng, found = np.random.default_rng(0), {}
    try:
        for variant in ("direct", "relay"):
            of_variant = [f for f in catalogue(load_robot(robot)) if f.variant == variant and f.name in faults]
            found |= {row.fault: row for row in runner.run_variant(variant, of_variant, 1, rng, robot)}
    finally:
        for name, value in old.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return found


@pytest.fixture(scope="module")
def rows():
    return rows_of((*DUE, *OTHERS))


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


@pytest.mark.parametrize(("robot", "fault"), [("arm", "kill mpc_controller"), ("base", "observation: silent")])
def test_robots_that_take_positions_and_twists_are_made_safe(robot, fault):
    """The arm holds a position, the base stops."""
    row = rows_of((fault,), str(EXAMPLES / f"{robot}.yaml"))[fault]
    assert row.recovered, row.problem
    assert row.transitions_lost == 0
    assert row.ticks is not None, row.problem
    assert row.ticks <= MOST_TICKS
