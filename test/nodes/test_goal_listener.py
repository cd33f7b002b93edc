"""A pose as the goal of an arm: joint positions are searched for between the ticks, and become the task's goal."""

import time
from pathlib import Path

import numpy as np
import pytest
from ros_domain import own_domain

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import PoseStamped

from mbrl_ros.errors import ConfigError
from mbrl_ros.nodes.mpc_controller import MpcController
from mbrl_ros.robots.description import load_robot
from mbrl_ros.robots.inverse_kinematics import POLISH, ROUNDS
from mbrl_ros.robots.kinematics import Kinematics

ARM = str(Path(__file__).resolve().parents[2] / "config" / "robots" / "examples" / "arm.yaml")
KINEMATICS = Kinematics(load_robot(ARM))
AT_FIRST = [0.8, 1.2, 0.0, 0.0]


@pytest.fixture
def make(monkeypatch):
    """Makes a controller."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    nodes = []

    def start(**given):
        given |= {"lockstep": "true", "planner": "random_shooting", "horizon": 2, "task.goal": f"{AT_FIRST}"}
        arguments = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        rclpy.init(args=["--ros-args", *arguments], domain_id=own_domain(__file__))
        nodes.append(MpcController())
        nodes[-1].bring_up()
        return nodes[-1]

    yield start
    for node in nodes:
        node.leave()
        node.destroy_node()
    rclpy.try_shutdown()


def send(node, x, y, yaw=0.0, frame=""):
    """A pose comes in, as through the subscription."""
    message = PoseStamped()
    message.header.frame_id = frame
    message.pose.position.x, message.pose.position.y = x, y
    message.pose.orientation.z, message.pose.orientation.w = np.sin(0.5 * yaw), np.cos(0.5 * yaw)
    node.take_in(node.goal.on_pose, message)


def search(node):
    """Spin until the search is over; returns the goal then."""
    end = time.monotonic() + 60.0
    while node.goal.search is not None:
        assert time.monotonic() < end
        rclpy.spin_once(node, timeout_sec=0.1)
    return list(node.groups["task"].goal)


def tip(goal):
    return KINEMATICS.point(np.array(goal))[:2]


def test_a_pose_becomes_joint_positions_that_bring_the_tip_there(make, monkeypatch):
    node = make(robot=ARM)
    timers = len(list(node.timers))
    send(node, 0.35, 0.25, frame="base")
    assert list(node.groups["task"].goal) == AT_FIRST, "not yet: a round at a time"
    assert node.goal.search.near.tolist() == AT_FIRST, "of several ways the nearest to the goal in force"
    said = []
    monkeypatch.setattr(node.get_logger(), "info", said.append)
    goal = search(node)
    np.testing.assert_allclose(tip(goal), [0.35, 0.25], atol=1e-5)
    turned = goal[0] + goal[1]  # about z, as both joints are; asked for was none
    assert [f"turned {abs(turned):.2g} rad from the pose" in line for line in said] == [False, True], said
    assert goal[2:] == [0.0, 0.0] and node.last_refused == ""
    assert len(list(node.timers)) == timers, "nothing goes on"
    assert node.goal.entries()["shoulder/position"] == goal[0], "it is in force"

    send(node, 0.1, 0.3)
    send(node, 0.2, 0.4)  # before the first is found
    np.testing.assert_allclose(tip(search(node)), [0.2, 0.4], atol=1e-5)


def test_a_pose_out_of_reach_is_refused_with_how_far_and_the_goal_stays(make):
    node = make(robot=ARM)
    send(node, 0.6, 0.0)
    assert search(node) == AT_FIRST
    length = np.linalg.norm(KINEMATICS.point(np.array([0.0, 0.2, 0.0, 0.0])))  # the elbow bends by 0.2 at least
    said = node.last_refused
    assert "goal: [0.6, 0, 0] is out of reach of forearm; the nearest pose found is" in said
    assert float(said.split("found is ")[1].split(" m")[0]) == pytest.approx(0.6 - length, rel=0.02)
    send(node, 0.3, 0.2, frame="map")
    assert "frame_id 'map' is not allowed; expected 'base'" in node.last_refused and node.goal.search is None


def test_the_point_that_the_pose_is_of_can_be_chosen(make):
    node = make(robot=ARM, goal_link="forearm", goal_point="[0.1, 0.05, 0.0]")
    send(node, 0.3, 0.2)
    kinematics = Kinematics(load_robot(ARM), "forearm", (0.1, 0.05, 0.0))
    np.testing.assert_allclose(kinematics.point(np.array(search(node)))[:2], [0.3, 0.2], atol=1e-5)


def test_an_elbow_as_the_point_moves_the_shoulder_alone(make):
    node = make(robot=ARM, goal_link="upper_arm", goal_point="[0.3, 0.0, 0.0]")
    send(node, 0.3 * np.cos(0.4), 0.3 * np.sin(0.4))
    assert search(node) == pytest.approx([0.4, *AT_FIRST[1:]], abs=1e-6), "the elbow keeps its goal"


def test_while_it_searches_a_round_is_all_that_a_tick_may_wait_for(make):
    node = make(robot=ARM)
    send(node, 0.35, 0.25)
    rounds = []
    while node.goal.search is not None:
        rounds.append(node.goal.search.rounds)
        rclpy.spin_once(node, timeout_sec=0.1)
    assert set(np.diff(rounds)) <= {0, 1} and max(rounds) == ROUNDS + POLISH - 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"robot": ARM, "goal_link": "hand"}, "goal_link, goal_point: unknown link 'hand'"),
        ({"robot": ARM, "goal_link": "forearm", "goal_point": "[0.1]"}, r"goal_link, goal_point: point: \[0.1\]"),
        ({"robot": "cartpole", "goal_link": "pole"}, "goal_link: 'pole' is not allowed for cartpole; expected none"),
    ],
)
def test_a_link_that_cannot_be_is_said_before_anything_moves(make, given, said):
    with pytest.raises(ConfigError, match=said):
        make(**given)
