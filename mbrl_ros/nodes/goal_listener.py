"""The controller's goal topics: a goal by message takes the same path as a change of the task's parameters."""

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState

from mbrl_ros.errors import ConfigError, MessageError
from mbrl_ros.nodes.conversions import from_pose_goal, to_scalars
from mbrl_ros.nodes.pipeline_node import LATCHED, GraphNode
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.inverse_kinematics import ANGLE, PoseSearch
from mbrl_ros.robots.kinematics import ODOM, Kinematics
from mbrl_ros.robots.urdf import pose, read_urdf
from mbrl_ros.tasks import TASKS
from mbrl_ros.tasks.goals import POSITION, goal_parameters, joint_target, pose_target

if TYPE_CHECKING:
    from mbrl_ros.nodes.mpc_controller import MpcController

SEARCH_PERIOD = 0.005  # s from one round of a search to the next: a round is short, so that no tick waits for it


class GoalListener:
    """Takes goals from `goal` and `joint_goal`; what is in force is on `~/goal`, latched."""

    def __init__(self, node: "MpcController") -> None:
        """Listen for the goals of a controller that is being set up."""
        self.node = node
        robot = node.robot
        self.frame = ODOM if robot.urdf is None or robot.base != "none" else read_urdf(robot.urdf).root
        self.arm = arm_kinematics(robot, node.config.goal_link, node.config.goal_point)
        self.search: PoseSearch | None = None
        self.searching: Any = None  # the timer of the search
        self.said: dict[str, float] | None = None
        self.in_force = node.create_publisher(JointState, "~/goal", LATCHED)
        for kind, topic, take in ((PoseStamped, "goal", self.on_pose), (JointState, "joint_goal", self.on_joints)):
            # As a parameter, a goal may be changed while the node is not active.
            node.create_subscription(kind, topic, GraphNode.received(node, take, None, ""), 10)

    @property
    def task(self) -> Any:
        """The task as it is now."""
        return TASKS[self.node.robot.task](self.node.groups["task"])

    def on_pose(self, message: PoseStamped) -> None:
        """Where the base is to be, or the point of interest of an arm or of a robot whose task says how."""
        position, angles = from_pose_goal(message, self.frame)
        if self.arm is None:
            self.take(lambda: pose_target(self.task, self.node.robot, position, angles))
            return
        try:
            self.search = PoseSearch(self.arm, pose(position, angles), self.state_of_goal())
        except ConfigError as error:
            raise MessageError(str(error)) from None
        if self.searching is None:
            self.searching = self.node.create_wall_timer(SEARCH_PERIOD, self.node.guarded(self.look_further))

    def state_of_goal(self) -> np.ndarray:
        """State (nx,) that the goal in force asks for; what it leaves open is as at the start."""
        robot, entries = self.node.robot, self.entries()
        return np.array([entries.get(n, x) for n, x in zip(robot.layout.state, robot.initial_state, strict=True)])

    def look_further(self) -> None:
        """A round of the search for joint positions; at its end they become the goal, or the pose is refused."""
        if self.search is None or not self.search.step():
            return
        search, self.search = self.search, None
        self.node.destroy_timer(self.searching)
        self.searching = None
        self.node.take_in(self.take_pose, search)

    def take_pose(self, search: PoseSearch) -> None:
        """Make what a search has found the goal.

        Raises:
            MessageError: it has found nothing, or that was refused.
        """
        try:
            found = search.result()
        except ConfigError as error:
            raise MessageError(str(error)) from None
        self.take(lambda: {f"{name}{POSITION}": position for name, position in found.joints.items()})
        if found.angle > ANGLE:
            self.node.get_logger().info(f"goal: turned {found.angle:.2g} rad from the pose that was asked for")

    def on_joints(self, message: JointState) -> None:
        """Where joints are to be, by name."""
        position, velocity = np.array(message.position), np.array(message.velocity)
        self.take(lambda: joint_target(self.node.robot, message.name, position, velocity))

    def take(self, find: Any) -> None:
        """Make a target the goal, from the next tick on.

        Raises:
            MessageError: it was refused; the goal stays as it is.
        """
        node = self.node
        try:
            values = goal_parameters(self.task, node.robot, find())
        except ConfigError as error:
            raise MessageError(str(error)) from None
        result = node.set_parameters_atomically([Parameter(f"task.{name}", value=v) for name, v in values.items()])
        if not result.successful:
            raise MessageError(result.reason)
        node.get_logger().info(f"goal: {self.text()}")

    def entries(self) -> dict[str, float]:
        """The goal by entry of the state; empty where the task has none."""
        task = self.task
        return task.goal_entries(self.node.robot.layout.state) if hasattr(task, "goal_entries") else {}

    def text(self) -> str:
        """The goal for people."""
        return ", ".join(f"{name} {value:g}" for name, value in self.entries().items()) or f"{self.node.robot.task}'s"

    def publish(self) -> None:
        """Say what is in force, where that is news."""
        if (entries := self.entries()) != self.said:
            self.said = entries
            self.in_force.publish(to_scalars(time.time_ns(), entries))


def arm_kinematics(robot: RobotDescription, link: str, point: tuple[float, ...]) -> Kinematics | None:
    """Kinematics of an arm, whose joints have to be found for a pose; None of a robot that takes poses as they are.

    Raises:
        ConfigError: there is no such link, the point is none, or the robot is no arm.
    """
    task = TASKS[robot.task]
    is_arm = robot.base == "none" and robot.urdf is not None and hasattr(task, "goal_parameters")
    if is_arm and not hasattr(task, "goal_of_point"):
        try:
            return Kinematics(robot, link, point if link else ())
        except ConfigError as error:
            raise ConfigError(f"goal_link, goal_point: {error}") from None
    if link:
        raise ConfigError(
            f"goal_link: '{link}' is not allowed for {robot.name}; expected none: it takes a pose as it is"
        )
    return None
