"""The delay probe: moves one actuator a little, through the guard, and records when the sensors show it.

It takes the controller's place; lives in the process of the command line.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from mbrl_ros.control.delay_identification import DelayError, Recording, square_wave
from mbrl_ros.nodes.conversions import from_joint_state, from_time, from_twist, to_command
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, RELIABLE
from mbrl_ros.robots.description import RobotDescription

REST = 0.4  # s of rest before and after the motion
TWIST_COLUMNS = (0, 5)  # linear x and angular z in a twist
WAITS = (0.4, 1.0)  # periods from a command to the next: in step with the sensors, delays could not be told apart
PASSED = ("ok", "limited")  # flags of commands that have reached the robot as they were sent


class DelayProbe:
    """A node with a ROS context of its own, served while it works."""

    def __init__(self, robot: RobotDescription, namespace: str) -> None:
        """Connect; nothing moves yet."""
        self.robot = robot
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node("delay_probe", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._commands = self.node.create_publisher(JointState, "command", RELIABLE)
        self._arm = self.node.create_client(SetBool, "command_guard/arm")
        self.node.create_subscription(JointState, "applied_command", self._on_applied, RELIABLE)
        for sensor in robot.sensors:
            if robot.command_interface == "twist" and sensor.type == "Odometry":
                self.node.create_subscription(Odometry, sensor.topic, self._on_odometry, BEST_EFFORT)
            elif robot.command_interface != "twist" and sensor.type == "JointState":
                self.node.create_subscription(JointState, sensor.topic, self._on_joints, BEST_EFFORT)
        self.ages_s: list[float] = []  # from stamp to arrival, of every measurement
        self._flags: dict[int, str] = {}  # what the guard did, by stamp
        self._measured: list[tuple[float, np.ndarray, np.ndarray]] = []

    def close(self) -> None:
        """Disarm and end."""
        try:
            if self._arm.service_is_ready():
                self._call(False)
        finally:
            self.node.destroy_node()
            self._context.try_shutdown()

    def _on_applied(self, message: JointState) -> None:
        self._flags[from_time(message.header.stamp)] = message.header.frame_id

    def _on_joints(self, message: JointState) -> None:
        self._note(message, *from_joint_state(message, self.robot.joints))

    def _on_odometry(self, message: Odometry) -> None:
        self._note(message, np.zeros(0), from_twist(message.twist.twist)[list(TWIST_COLUMNS)])

    def _note(self, message: Any, position: np.ndarray, velocity: np.ndarray) -> None:
        stamp_s = 1e-9 * from_time(message.header.stamp)
        self.ages_s.append(time.time() - stamp_s)
        self._measured.append((stamp_s, position, velocity))

    def serve(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        """Serve callbacks for a while, or until `done()`."""
        end = time.monotonic() + seconds
        while not (finished := done()) and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=min(0.002, seconds))
        return finished

    def arm(self, timeout_s: float) -> None:
        """Arm the guard, trying again until it has nothing against it.

        Raises:
            DelayError: it still refuses; says all its reasons.
        """
        if not self.serve(timeout_s, self._arm.service_is_ready):
            raise DelayError("no answer from command_guard/arm; see its log")
        end, answer = time.monotonic() + timeout_s, ""
        while time.monotonic() < end:
            armed, answer = self._call(True)
            if armed:
                return
            self.serve(0.2)
        raise DelayError(f"the guard refuses: {answer}")

    def _call(self, arm: bool) -> tuple[bool, str]:
        future = self._arm.call_async(SetBool.Request(data=arm))
        if not self.serve(5.0, future.done):
            return False, "no answer"
        return future.result().success, future.result().message

    def excite(self, actuator: int, amplitude: float, length_s: float, half_period_s: float) -> Recording:
        """Move one actuator by a square wave around rest, or around where it is, and record.

        Args:
            actuator: its number.
            amplitude: of the command, in its unit.
            length_s: of the motion.
            half_period_s: of the wave.

        Raises:
            DelayError: no measurements came, or the guard let something else pass.
        """
        robot, columns = (
            self.robot,
            [self.robot.joints.index(a) for a in self.robot.actuators if a in self.robot.joints],
        )
        if not self.serve(2.0, lambda: bool(self._measured)):
            raise DelayError("no measurements from the robot")
        rest = self._measured[-1][1][columns] if robot.command_interface == "position" else np.zeros(robot.layout.nu)
        if not np.isfinite(rest).all():
            raise DelayError("where the joints are is not measured")
        self._measured.clear()
        self._flags.clear()
        sent, start, rng = [], time.monotonic() + REST, np.random.default_rng()
        while (now := time.monotonic()) < start + length_s + REST:
            command = rest.copy()
            command[actuator] += amplitude * square_wave(now - start, length_s, half_period_s)
            stamp_ns = time.time_ns()
            message = to_command(
                stamp_ns + round(1e9 * robot.dt), robot.actuators, command, "", robot.command_interface
            )
            self._commands.publish(message)
            sent.append((1e-9 * stamp_ns, command[actuator] - rest[actuator]))
            wait = robot.dt * rng.uniform(*WAITS)
            self.serve(max(0.0, wait - (time.monotonic() - now)))
        self._call(False)
        first_ns = round(1e9 * sent[0][0])
        refused = [
            flag for stamp, flag in self._flags.items() if stamp > first_ns and flag not in (*PASSED, "disarmed")
        ]
        if refused:
            raise DelayError(f"the guard sent something else (flag {refused[0]}); see docs/safety.md")
        stamps, positions, velocities = zip(*sorted(self._measured, key=lambda m: m[0]), strict=True)
        moved = actuator if robot.command_interface == "twist" else columns[actuator]
        times, values = np.array(sent).T
        return Recording(times, values, np.array(stamps), np.array(positions), np.array(velocities), moved)
