"""Listens to the graph and makes scenes of it, outside of the control loop and only while somebody looks."""

from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, UInt8MultiArray
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.errors import MessageError, ModelRejectedError
from mbrl_ros.models.serialization import from_bytes
from mbrl_ros.nodes.conversions import from_observation, from_scalars, from_time, status_values
from mbrl_ros.nodes.pipeline_node import LATCHED, GraphNode
from mbrl_ros.nodes.scene_messages import from_candidates, from_trajectory
from mbrl_ros.robots.kinematics import Kinematics
from mbrl_ros.tasks import TASKS
from mbrl_ros.visualisation.candidates import Candidates
from mbrl_ros.visualisation.scene import Scene, candidate_paths, describe, futures, tube

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # who is slow misses pictures, and nothing else


class SceneSource:
    """What a viewer node knows of the graph.

    Attributes:
        kinematics: of the robot.
        listening: whether it has subscriptions; without them it costs nothing.
        scalars: newest figures of the controller's tick.
        trials: figures of the trials that have ended while it listened.
    """

    def __init__(self, node: GraphNode) -> None:
        """Set up for the node's robot and `graph.ViewConfig`.

        Raises:
            ConfigError: the robot cannot be drawn.
        """
        self._node = node
        config = node.config
        self.kinematics = Kinematics(node.robot, config.link, config.point if config.link else ())
        goal = getattr(TASKS[node.robot.task], "goal_state", None)
        self._goal = None if goal is None else self.kinematics.point(goal)
        self._subscriptions: list[Any] = []
        self._forget()

    @property
    def listening(self) -> bool:
        """See the class."""
        return bool(self._subscriptions)

    def start(self) -> None:
        """Begin to listen."""
        topics = (
            (JointState, "observation", self.on_observation, NEWEST),
            (JointTrajectory, "plan", self.on_plan, NEWEST),
            (Float64MultiArray, "mpc_controller/candidates", self.on_candidates, NEWEST),
            (JointState, "mpc_controller/telemetry", self.on_tick, NEWEST),
            (JointState, "trial_manager/telemetry", self.on_trial_end, QoSProfile(depth=10)),
            (JointState, "mpc_controller/goal", self.on_goal, LATCHED),
            (DiagnosticStatus, "trial", self.on_trial, LATCHED),
            (UInt8MultiArray, self._node.config.model_topic, self.on_model, LATCHED),
        )
        create, received = self._node.create_subscription, self._node.received
        self._subscriptions = [create(kind, topic, received(call, None, ""), qos) for kind, topic, call, qos in topics]

    def stop(self) -> None:
        """Listen no more, and forget what was heard."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self._forget()

    def _forget(self) -> None:
        self._x: np.ndarray | None = None
        self._stamp_ns = self._plan_ns = 0
        self._plan: tuple[np.ndarray, np.ndarray] | None = None
        self._tried: Candidates | None = None
        self._model: Any = None
        self._believed: dict[str, Any] = {}  # what of the scene comes from plan and model
        self._fresh = False  # whether that is of the newest plan
        self._title = "no trial yet"
        self.scalars: dict[str, float] = {}
        self.trials: list[dict[str, float]] = []

    def on_observation(self, message: JointState) -> None:
        """Where the robot is."""
        x = from_observation(message, self._node.robot.joints, self._node.robot.base_states)
        if not np.isfinite(x).all():
            raise MessageError("observation: expected finite numbers")
        self._x, self._stamp_ns = x, from_time(message.header.stamp)

    def on_plan(self, message: JointTrajectory) -> None:
        """What the controller is about to do."""
        robot = self._node.robot
        self._plan = from_trajectory(message, robot.joints, robot.base_states, robot.actuators)
        self._plan_ns, self._fresh = from_time(message.header.stamp), False

    def on_candidates(self, message: Float64MultiArray) -> None:
        """What the planner has tried."""
        layout = self._node.robot.layout
        self._tried, self._fresh = from_candidates(message, layout.nx, layout.nu), False

    def on_tick(self, message: JointState) -> None:
        """Figures of a tick of control."""
        self.scalars = from_scalars(message)

    def on_trial_end(self, message: JointState) -> None:
        """Figures of a trial."""
        self.trials.append(from_scalars(message))

    def on_goal(self, message: JointState) -> None:
        """Where the robot is to be; entries that do not matter are drawn at zero."""
        state, entries = self._node.robot.layout.state, from_scalars(message)
        goal = np.array([entries.get(name, 0.0) for name in state])
        if not np.isfinite(goal).all():
            raise MessageError("goal: expected finite numbers")
        self._goal = self.kinematics.point(goal) if entries else self._goal

    def on_trial(self, message: DiagnosticStatus) -> None:
        """A phase of the trials; a plan is of no interest after its trial."""
        values = status_values(message)
        policy = {"base": "base policy", "mpc": "planning"}.get(values.get("policy", ""), "")
        doing = policy if message.message == "run" else message.message
        self._title = f"trial {values.get('index', '?')}: {doing}"
        self._plan = self._tried = None
        self._fresh = False

    def on_model(self, message: UInt8MultiArray) -> None:
        """What the robot has learned."""
        robot = self._node.robot
        try:
            self._model, _ = from_bytes(bytes(message.data), robot.name, robot.layout)
        except ModelRejectedError as error:
            raise MessageError(str(error)) from None
        self._fresh = False

    def scene(self) -> Scene | None:
        """The picture as of now; None until the robot was seen."""
        if self._x is None:
            return None
        if not self._fresh:
            self._believed, self._fresh = self._beliefs(), True
        kinematics, x = self.kinematics, self._x
        return Scene(
            kinematics.frame,
            self._plan_ns if self._plan else self._stamp_ns,
            x,
            kinematics.point(x),
            goal=self._goal,
            limits={name: kinematics.sweep(name, low, high, x) for name, low, high in kinematics.limits},
            title=self._title,
            state=describe(kinematics, x),
            **self._believed,
        )

    def _beliefs(self) -> dict[str, Any]:
        """Plan, futures, tube and candidates; what there is no model for is left out."""
        if self._plan is None:
            return {}
        states, actions = self._plan
        found: dict[str, Any] = {"plan": self.kinematics.point(states)}
        if self._model is not None:
            paths = futures(self._model, self.kinematics, states, actions, self._node.config.particles)
            found |= {"futures": paths, "tube": tube(paths)}
            if self._tried is not None and self._node.config.candidates:
                found |= {
                    "candidates": candidate_paths(self._model, self.kinematics, self._tried),
                    "costs": self._tried.costs,
                }
        return {name: value for name, value in found.items() if np.all(np.isfinite(finite_part(value)))}


def finite_part(value: Any) -> np.ndarray:
    """The numbers of a part of a scene; a model far from its data may predict what cannot be drawn."""
    return value if isinstance(value, np.ndarray) else value.half_axes
