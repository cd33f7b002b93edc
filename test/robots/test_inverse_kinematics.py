"""Inverse kinematics: beside closed forms, scipy and forward kinematics; what is out of reach is refused."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.inverse_kinematics import ANGLE, DISTANCE, POLISH, ROUNDS, PoseSearch, chain
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.robots.urdf import pose

JOINT = """<joint name="{0}" type="{5}"><origin xyz="{1}"/><parent link="{2}"/><child link="{3}"/><axis xyz="{4}"/>
<limit lower="-3" upper="3" effort="1" velocity="1"/>{6}</joint><link name="{3}"/>"""
UPPER, FORE = 0.3, 0.24  # m


def arm(tmp_path, joints, limits, names=None, **point):
    """A chain of joints (name, origin, axis, kind, mimic), each on the link before it."""
    links = ["base", *(f"link_{name}" for name, *_ in joints)]
    body = "".join(
        JOINT.format(name, origin, links[k], links[k + 1], axis, kind, mimic)
        for k, (name, origin, axis, kind, mimic) in enumerate(joints)
    )
    path = tmp_path / "arm.urdf"
    path.write_text(f'<robot name="arm"><link name="base"/>{body}</robot>')
    names, ones = names or tuple(name for name, *_ in joints), (1.0,) * len(limits)
    robot = RobotDescription(
        "arm", "reach", 20.0, "effort", 3.0, joints=names, actuators=names, urdf=path,
        position_limit=tuple(limits), velocity_limit=ones, effort_limit=ones,
    )  # fmt: skip
    return Kinematics(robot, **point)


def turning(name, origin, axis="0 0 1", kind="revolute", mimic=""):
    return name, origin, axis, kind, mimic


def planar(tmp_path, elbow=(-2.6, 2.6), shoulder=(-2.0, 2.0)):
    """Two links in the plane, the point of interest at the end of the second."""
    joints = [turning("shoulder", "0 0 0"), turning("elbow", f"{UPPER} 0 0")]
    return arm(tmp_path, joints, [shoulder, elbow], link="link_elbow", point=(FORE, 0.0, 0.0))


def six_joints(tmp_path):
    origins = ("0 0 0.3", "0.05 0 0.1", "0 0 0.4", "0 0 0.3", "0 0 0.1", "0 0 0.08")
    axes = ("0 0 1", "0 1 0", "0 1 0", "0 0 1", "0 1 0", "0 0 1")
    joints = [turning(f"j{k}", *both) for k, both in enumerate(zip(origins, axes, strict=True))]
    return arm(tmp_path, joints, [3.0, 2.0, 2.5, 3.0, 2.0, 3.0])


def search(kinematics, goal, near=None):
    found = PoseSearch(kinematics, goal, np.zeros(kinematics.robot.layout.nx) if near is None else near)
    for _ in range(ROUNDS + POLISH - 1):
        assert not found.step()
    assert found.step()
    return found


def solve(kinematics, goal, near=None):
    """Positions found (n,), after a check that they are within the limits and bring the point where it says."""
    reached = search(kinematics, goal, near).result()
    robot = kinematics.robot
    q = np.array([reached.joints[name] for name in robot.joints])
    assert np.all((robot.position_low <= q) & (q <= robot.position_high))
    there = kinematics.pose(np.concatenate([q, np.zeros(len(q))]))
    assert np.linalg.norm(there[:3, 3] - goal[:3, 3]) == pytest.approx(reached.distance, abs=1e-12)
    assert reached.distance <= DISTANCE
    return q, there, reached


def at(x, y, yaw=0.0):
    return pose(np.array([x, y, 0.0]), np.array([0.0, 0.0, yaw]))


def elbows(x, y):
    """Both ways of the planar arm, by the law of cosines."""
    bend = np.arccos((x**2 + y**2 - UPPER**2 - FORE**2) / (2 * UPPER * FORE))
    ways = np.array([bend, -bend])
    return np.stack([np.arctan2(y, x) - np.arctan2(FORE * np.sin(ways), UPPER + FORE * np.cos(ways)), ways], axis=1)


@pytest.mark.parametrize("way", [0, 1])
def test_two_links_are_where_the_law_of_cosines_has_them_and_turned_as_asked_if_they_can(tmp_path, way):
    expected = elbows(0.3, 0.2)[way]
    q, there, reached = solve(planar(tmp_path), at(0.3, 0.2, expected.sum()))
    np.testing.assert_allclose(q, expected, atol=1e-6)
    np.testing.assert_allclose(there, at(0.3, 0.2, expected.sum()), atol=1e-6)
    assert reached.angle < 1e-6


def test_of_two_ways_that_turn_alike_the_nearer_one_is_taken(tmp_path):
    yaw = elbows(0.3, 0.2).sum(axis=1).mean()  # in the middle between them
    for way in elbows(0.3, 0.2):
        q, _, reached = solve(planar(tmp_path), at(0.3, 0.2, yaw), np.concatenate([way + 0.1, np.zeros(2)]))
        np.testing.assert_allclose(q, way, atol=1e-6)
        assert reached.angle == pytest.approx(abs(way.sum() - yaw), abs=1e-6), "as far as two joints can"


def test_a_way_beyond_the_limits_is_none(tmp_path):
    up = elbows(0.3, 0.2)[0]
    kinematics = planar(tmp_path, elbow=(0.2, 2.6))
    q, *_ = solve(kinematics, at(0.3, 0.2, elbows(0.3, 0.2)[1].sum()))
    np.testing.assert_allclose(q, up, atol=1e-6)
    with pytest.raises(ConfigError, match=r"\[0.3, 0.2, 0\] is out of reach of link_elbow; .* m away"):
        search(planar(tmp_path, elbow=(0.2, up[1] - 0.2)), at(0.3, 0.2)).result()


@pytest.mark.parametrize(
    ("x", "y", "elbow", "distance"),
    [
        (0.9, 0.0, (-2.6, 2.6), 0.9 - UPPER - FORE),  # too far
        (0.0, 0.02, (-2.6, 2.6), None),  # too near: the elbow does not bend that far
        (0.2, -0.5, (0.2, 2.6), None),
        (-0.5, 0.1, (-1.0, 1.0), None),  # behind
    ],
)
def test_how_far_away_it_stays_is_said(tmp_path, x, y, elbow, distance):
    kinematics = planar(tmp_path, elbow)

    def miss(q):
        return kinematics.point(np.concatenate([q, np.zeros(2)]))[:2] - [x, y]

    low, high = kinematics.robot.position_low, kinematics.robot.position_high
    starts = np.random.default_rng(3).uniform(low, high, (8, 2))
    best = min(np.sqrt(2 * least_squares(miss, q, bounds=(low, high)).cost) for q in starts)
    assert distance is None or best == pytest.approx(distance, abs=1e-6)
    with pytest.raises(ConfigError) as refused:
        search(kinematics, at(x, y)).result()
    said = float(str(refused.value).split("found is ")[1].split(" m")[0])
    assert said == pytest.approx(best, rel=0.02)


def test_of_fewer_joints_the_nearest_place_is_said_however_they_are_turned(tmp_path):
    """The elbow may bend to one side alone; the way that turns best is not the one that comes nearest."""
    kinematics = planar(tmp_path, (1.5, 2.6), (-0.5, 0.5))
    found = search(kinematics, at(0.5, 0.0, 3.0))
    distances = np.linalg.norm(
        kinematics.point(np.hstack([found.q, np.zeros_like(found.q)]))[:, :2] - [0.5, 0.0], axis=1
    )
    corner = np.linalg.norm(kinematics.point(np.array([-0.5, 1.5, 0.0, 0.0]))[:2] - [0.5, 0.0])
    assert corner == pytest.approx(distances.min(), abs=1e-6)
    with pytest.raises(ConfigError, match=f"found is {corner:.3g} m away"):
        found.result()


def test_three_links_in_the_plane_come_to_the_place_and_turn_as_asked(tmp_path):
    joints = [turning("a", "0 0 0"), turning("b", "0.3 0 0"), turning("c", "0.2 0 0")]
    kinematics = arm(tmp_path, joints, [2.5] * 3, link="link_c", point=(0.1, 0.0, 0.0))
    for yaw in (-1.0, 0.5, 2.0):
        _, there, reached = solve(kinematics, at(0.25, 0.2, yaw))
        np.testing.assert_allclose(there[:3, 3], [0.25, 0.2, 0.0], atol=1e-6)
        assert reached.angle < ANGLE


def test_six_joints_reach_any_pose_that_they_can_take(tmp_path):
    kinematics, rng = six_joints(tmp_path), np.random.default_rng(7)
    for _ in range(8):
        q = rng.uniform(kinematics.robot.position_low, kinematics.robot.position_high)
        goal = kinematics.pose(np.concatenate([q, np.zeros(6)]))
        _, there, reached = solve(kinematics, goal)
        np.testing.assert_allclose(there, goal, atol=1e-3)
        assert reached.distance < 2e-4 and reached.angle < 1e-3


def test_six_joints_must_turn_as_asked(tmp_path):
    """At its full height the hand points up; that it should point down there is refused, though the place is right."""
    kinematics = six_joints(tmp_path)
    top = kinematics.pose(np.zeros(12))
    solve(kinematics, top)
    down = pose(top[:3, 3], np.array([np.pi, 0.0, 0.0]))
    with pytest.raises(ConfigError, match=r"nearest pose found is .* m and .* rad away"):
        search(kinematics, down).result()


def test_joints_that_slide_turn_without_end_or_mimic(tmp_path):
    mimic = '<mimic joint="a" multiplier="-0.5" offset="0.1"/>'
    joints = [
        turning("a", "0 0 0", kind="continuous"),
        turning("b", "0.3 0 0", kind="revolute", mimic=mimic),
        turning("c", "0.1 0 0", "1 0 0", "prismatic"),
    ]
    kinematics = arm(tmp_path, joints, [np.inf, (-0.2, 0.4)], ("a", "c"))
    assert chain(kinematics) == [0, 1]
    goal = kinematics.pose(np.array([2.8, 0.25, 0.0, 0.0]))
    q, *_ = solve(kinematics, goal)
    np.testing.assert_allclose(q, [2.8, 0.25], atol=1e-6)


def test_a_joint_that_moves_the_point_only_through_one_that_mimics_it(tmp_path):
    """The point is on the finger that follows the other finger."""
    kinematics = arm(tmp_path, [turning("b", "0.3 0 0", mimic='<mimic joint="a" multiplier="2"/>')], [1.0], ("b",))
    text = kinematics.robot.urdf.read_text()
    other = JOINT.format("a", "0 0 0", "base", "link_a", "0 0 1", "revolute", "")
    kinematics.robot.urdf.write_text(text.replace("</robot>", f"{other}</robot>"))
    robot = replace(kinematics.robot, joints=("a",), actuators=("a",))
    kinematics = Kinematics(robot, "link_b", (0.1, 0.0, 0.0))
    found = search(kinematics, at(0.3 + 0.1 * np.cos(0.8), 0.1 * np.sin(0.8))).result()
    assert found.joints == pytest.approx({"a": 0.4}, abs=1e-6)


def test_joints_beyond_the_point_stay_out_of_it(tmp_path):
    joints = [turning("a", "0 0 0"), turning("b", "0.3 0 0"), turning("finger", "0.1 0 0")]
    kinematics = arm(tmp_path, joints, [2.5] * 3, link="link_b", point=(0.1, 0.0, 0.0))
    found = search(kinematics, kinematics.pose(np.array([0.5, 0.7, 0.0, 0.0, 0.0, 0.0]))).result()
    assert found.joints == pytest.approx({"a": 0.5, "b": 0.7}, abs=1e-6)
    fixed = arm(tmp_path, joints, [2.5] * 3, link="base")
    with pytest.raises(ConfigError, match="no joint of arm moves base"):
        PoseSearch(fixed, np.eye(4), np.zeros(6))
