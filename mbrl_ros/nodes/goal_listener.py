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
from mbrl_ros.robots.kinematics import ODOM
from mbrl_ros.robots.urdf import read_urdf
from mbrl_ros.tasks import TASKS
from mbrl_ros.tasks.goals import goal_parameters, joint_target, pose_target

if TYPE_CHECKING:
    from mbrl_ros.nodes.mpc_controller import MpcController


class GoalListener:
    """Takes goals from `goal` and `joint_goal`; what is in force is on `~/goal`, latched."""

    def __init__(self, node: "MpcController") -> None:
        """Listen for the goals of a controller that is being set up."""
        self.node = node
        robot = node.robot
        self.frame = ODOM if robot.urdf is None or robot.base != "none" else read_urdf(robot.urdf).root
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
        """Where the base is to be, or the point of interest of a robot whose task says how."""
        position, angles = from_pose_goal(message, self.frame)
        self.take(lambda: pose_target(self.task, self.node.robot, position, angles))

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
