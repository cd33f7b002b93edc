"""Watches a graph from outside for `mbrl_ros bench faults` and `bench soak`: it listens and never speaks."""

import contextlib
import threading
import time
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from mbrl_ros.benchmarks.faults.recording import SAFE, Recording
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import from_command, from_joint_state, from_time, status_values
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, LATCHED, RELIABLE
from mbrl_ros.robots.description import RobotDescription


class FaultObserver(Node):
    """Notes what reaches the actuators and what is said, each with the monotonic time of its reception.

    Attributes:
        recording: what it has noted.
        values: newest values of each status of the diagnostics, by the status' name.
    """

    def __init__(self, robot: RobotDescription, context: rclpy.Context) -> None:
        super().__init__("fault_observer", context=context)
        self.robot, self.recording = robot, Recording()
        self.values: dict[str, dict[str, str]] = {}
        listen = self.create_subscription
        self.output = command_output(robot)
        listen(self.output.kind, self.output.topic, self.on_actuators, RELIABLE)
        listen(JointState, "applied_command", self.on_applied, RELIABLE)
        listen(DiagnosticArray, "/diagnostics", self.on_diagnostics, RELIABLE)
        listen(DiagnosticStatus, "trial", self.on_trial, LATCHED)
        listen(JointState, "pybullet_sim/ground_truth", self.on_truth, BEST_EFFORT)

    def on_actuators(self, message: Any) -> None:
        """A command has reached the actuators."""
        self.recording.actuators.append((time.monotonic(), tuple(self.output.read(message).tolist())))

    def on_applied(self, message: JointState) -> None:
        """The guard says what it has sent, and why."""
        now, flag, robot = time.monotonic(), message.header.frame_id, self.robot
        self.recording.applied.append((now, flag))
        if flag in SAFE:
            values = from_command(message, robot.actuators, robot.command_interface)
            self.recording.held.append((now, tuple(values.tolist())))

    def on_diagnostics(self, message: DiagnosticArray) -> None:
        """What the nodes say of themselves."""
        now, said = time.monotonic(), self.recording.said
        for status in message.status:
            values = status_values(status)
            self.values[status.name] = values
            said.append((now, f"{status.name}: {status.message}"))
            said += [(now, f"{status.name}: {key}: {value}") for key, value in values.items() if value]
            if "not_stored_yet" in values:
                stored = int(values["transitions"]) - int(values["not_stored_yet"])
                self.recording.acknowledged = max(self.recording.acknowledged, stored)

    def on_trial(self, message: DiagnosticStatus) -> None:
        """A trial begins or ends."""
        if message.message == "run":
            self.recording.trial_began = time.monotonic()
        self.recording.phase = message.message

    def on_truth(self, message: JointState) -> None:
        """Where the simulated robot is."""
        position, velocity = from_joint_state(message, self.robot.joints or self.robot.actuators)
        stamp = 1e-9 * from_time(message.header.stamp)
        self.recording.truth.append((time.monotonic(), stamp, np.concatenate([position, velocity])))


class Served:
    """Nodes of this process, served by a thread of their own."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context, signal_handler_options=SignalHandlerOptions.NO)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes: list[Node] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def add(self, node: Any) -> Any:
        """Serve a node, too."""
        self._executor.add_node(node)
        self._nodes.append(node)
        return node

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and the nodes."""
        self.context.try_shutdown()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        for node in self._nodes:
            node.destroy_node()

    def _serve(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
