"""Forward kinematics beside PyBullet's, on the robots of the package and on a URDF of every kind of joint."""

from dataclasses import replace

import numpy as np
import pybullet
import pytest

from mbrl_ros.errors import MbrlError
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.robots.sensors import Sensor

ARM = """<robot name="arm">
  <link name="base"><visual><geometry><box size="0.2 0.2 0.1"/></geometry></visual></link>
  <joint name="turn" type="revolute"><origin xyz="0.1 -0.2 0.3" rpy="0.3 -0.5 0.7"/><parent link="base"/>
    <child link="upper"/><axis xyz="0.2 1 -0.4"/><limit lower="-2" upper="2" effort="1" velocity="1"/></joint>
  <link name="upper"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
    <visual><geometry><sphere radius="0.05"/></geometry></visual></link>
  <joint name="mount" type="fixed"><origin xyz="0 0 0.4" rpy="1 2 3"/><parent link="upper"/>
    <child link="plate"/></joint>
  <link name="plate"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
  </link>
  <joint name="slide" type="prismatic"><origin xyz="-0.1 0 0.2"/><parent link="plate"/><child link="tool"/>
    <axis xyz="0.6 0.8 0"/><limit lower="-1" upper="1" effort="1" velocity="1"/></joint>
  <link name="tool"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
    <visual><origin xyz="0 0 0.1"/><geometry><cylinder radius="0.02" length="0.3"/></geometry></visual></link>
</robot>"""


def arm(tmp_path, text=ARM, **values):
    (tmp_path / "arm.urdf").write_text(text)
    given = {
        "joints": ("turn", "slide"),
        "actuators": ("turn", "slide"),
        "effort_limit": (1.0, 1.0),
        "position_limit": ((-2.0, 1.0), 0.5),
        "velocity_limit": (1.0, 1.0),
        "urdf": tmp_path / "arm.urdf",
    } | values
    return RobotDescription("arm", "cartpole_swingup", 20.0, "effort", 3.0, **given)


def bullet_poses(robot, x):
    """Pose of every link frame by PyBullet."""
    client = pybullet.connect(pybullet.DIRECT)
    try:
        body = pybullet.loadURDF(str(robot.urdf), useFixedBase=True, physicsClientId=client)
        result = {}
        infos = [pybullet.getJointInfo(body, j, physicsClientId=client) for j in range(pybullet.getNumJoints(body))]
        for info in infos:
            if info[1].decode() in robot.joints:
                position = x[robot.joints.index(info[1].decode())]
                pybullet.resetJointState(body, info[0], position, physicsClientId=client)
        for info in infos:
            state = pybullet.getLinkState(body, info[0], computeForwardKinematics=True, physicsClientId=client)
            pose = np.eye(4)
            pose[:3, 3], pose[:3, :3] = (
                state[4],
                np.reshape(pybullet.getMatrixFromQuaternion(state[5]), (3, 3)),
            )
            result[info[12].decode()] = pose
        return result
    finally:
        pybullet.disconnect(client)


@pytest.mark.parametrize("name", ["arm", "cartpole"])
def test_every_link_is_where_pybullet_has_it(tmp_path, name):
    robot = arm(tmp_path) if name == "arm" else load_robot(name)
    kinematics, rng = Kinematics(robot), np.random.default_rng(3)
    for _ in range(10):
        x = rng.uniform(-0.9, 0.9, 2 * len(robot.joints))
        ours = kinematics.poses(x)
        for link, expected in bullet_poses(robot, x).items():
            np.testing.assert_allclose(ours[link], expected, atol=1e-6)  # PyBullet's quaternions are rounded


def test_many_states_at_once_are_the_single_ones(tmp_path):
    kinematics, rng = Kinematics(arm(tmp_path)), np.random.default_rng(0)
    x = rng.normal(size=(3, 5, 4))
    points = kinematics.point(x)
    assert points.shape == (3, 5, 3)
    np.testing.assert_allclose(points[1, 2], kinematics.point(x[1, 2]))


def test_the_point_of_interest_of_the_cart_pole_is_the_tip_of_the_pole():
    kinematics = Kinematics(load_robot("cartpole"))
    p, theta = 0.7, 0.4
    tip = [p + 0.5 * np.sin(theta), -0.09, 0.5 * np.cos(theta)]  # positive angles tip it towards +x
    np.testing.assert_allclose(kinematics.point(np.array([p, theta, 9.0, 9.0])), tip, atol=1e-12)
    assert (kinematics.frame, kinematics.link) == ("world", "pole")


def test_link_and_point_can_be_chosen(tmp_path):
    robot = arm(tmp_path)
    assert np.allclose(Kinematics(robot).offset, [0, 0, 0.25]), "the far face of the tool"
    chosen = Kinematics(robot, "upper", (0.1, 0.2, 0.3))
    pose = chosen.poses(np.array([0.5, 0.0, 0.0, 0.0]))["upper"]
    np.testing.assert_allclose(chosen.point(np.array([0.5, 0.0, 0.0, 0.0])), (pose @ [0.1, 0.2, 0.3, 1.0])[:3])


def test_a_mobile_base_moves_in_odom():
    robot = RobotDescription(
        "car",
        "cartpole_swingup",
        20.0,
        "twist",
        3.0,
        base="diff_drive",
        twist_limit=(1.0, 1.0),
        sensors=(Sensor("odom", "Odometry"),),
    )
    kinematics = Kinematics(robot)
    pose = kinematics.poses(np.array([1.0, 2.0, np.pi / 2, 0.0, 0.0]))["base_link"]
    assert kinematics.frame == "odom"
    np.testing.assert_allclose(pose[:3, 3], [1.0, 2.0, 0.0])
    np.testing.assert_allclose(pose[:3, 0], [0.0, 1.0, 0.0], atol=1e-12, err_msg="x forward, yaw left: REP-103")


def test_a_joint_that_mimics_another_follows_it(tmp_path):
    text = ARM.replace(
        '<child link="tool"/>', '<child link="tool"/><mimic joint="turn" multiplier="-0.5" offset="0.1"/>'
    )
    own = {
        "joints": ("turn",),
        "actuators": ("turn",),
        "effort_limit": (1.0,),
        "position_limit": (),
        "velocity_limit": (),
    }
    follower = Kinematics(arm(tmp_path, text, **own), "tool")
    free = Kinematics(arm(tmp_path), "tool")
    x = np.array([0.6, 0.0])
    np.testing.assert_allclose(follower.point(x), free.point(np.array([0.6, -0.5 * 0.6 + 0.1, 0.0, 0.0])))


def test_limits_are_swept_from_end_to_end(tmp_path):
    kinematics = Kinematics(arm(tmp_path))
    assert kinematics.limits == (("turn", -2.0, 1.0), ("slide", -0.5, 0.5))
    x = np.array([0.3, 0.2, 0.0, 0.0])
    slide = kinematics.sweep("slide", -0.5, 0.5, x)
    assert np.linalg.norm(slide[-1] - slide[0]) == pytest.approx(1.0)
    np.testing.assert_allclose(kinematics.sweep("turn", -2.0, 1.0, x)[0], kinematics.point(np.array([-2.0, 0.2, 0, 0])))
    assert [name for name, *_ in Kinematics(load_robot("cartpole")).limits] == ["cart_slider"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("revolute", "floating"), "joint turn: type 'floating' cannot be drawn; expected one of: revolute"),
        (('xyz="0.1 -0.2 0.3"', 'xyz="0.1 -0.2"'), "'0.1 -0.2' is not allowed; expected three numbers"),
        (('xyz="0.2 1 -0.4"', 'xyz="0 0 0"'), "joint turn: axis 0 0 0 is not allowed"),
        (("</robot>", ""), "not XML"),
        (('<child link="upper"/>', '<child link="elbow"/>'), "one tree of links|no link 'elbow'"),
        (('name="slide"', 'name="glide"'), "no joint 'slide' in the URDF; it has: turn, mount, glide"),
    ],
)
def test_what_is_wrong_with_a_urdf_is_named(tmp_path, change, message):
    with pytest.raises(MbrlError, match=message):
        Kinematics(arm(tmp_path, ARM.replace(*change)))


def test_an_unknown_link_a_bad_point_and_a_robot_without_shape_are_named(tmp_path):
    robot = arm(tmp_path)
    with pytest.raises(MbrlError, match="unknown link 'hand'; choose one of: base"):
        Kinematics(robot, "hand")
    with pytest.raises(MbrlError, match=r"point: \[1.0\] is not allowed"):
        Kinematics(robot, "", (1.0,))
    with pytest.raises(MbrlError, match="nothing to draw"):
        Kinematics(replace(robot, urdf=None))
