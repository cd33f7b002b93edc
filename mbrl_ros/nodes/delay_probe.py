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
from mbrl_ros.estimation.base_messages import from_twist
from mbrl_ros.nodes.conversions import from_command, from_joint_state, from_time, to_command
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, RELIABLE
from mbrl_ros.robots.description import RobotDescription

FIRST = 5.0  # s, how long the first measurement is waited for
REST = 0.4  # s of rest before and after the motion
TWIST_COLUMNS = (0, 5)  # linear x and angular z in a twist
WAITS = (0.4, 1.0)  # periods from a command to the next: in step with the sensors, delays could not be told apart
PASSED = ("ok", "limited", "late")  # flags of commands that have reached the robot
BRIDGED = ("timeout", "stale", "disarmed")  # flags of what the guard sent by itself, which does no harm here


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
        self._applied: dict[int, tuple[str, np.ndarray]] = {}  # what the guard did and sent, by stamp
        self._measured: list[tuple[float, np.ndarray, np.ndarray]] = []

    def age(self, seconds: float) -> float:
        """Median age in s of the measurements when they come, looked at for a while.

        Raises:
            DelayError: none came.
        """
        if not self.serve(FIRST, lambda: bool(self.ages_s)):
            raise DelayError("no measurements from the robot")
        self.serve(seconds)
        return float(np.median(self.ages_s))

    def close(self) -> None:
        """Disarm and end."""
        if not self._context.ok():
            return
        try:
            if self._arm.service_is_ready():
                self._call(False)
        finally:
            self.node.destroy_node()
            self._context.try_shutdown()

    def _on_applied(self, message: JointState) -> None:
        sent = from_command(message, self.robot.actuators, self.robot.command_interface)
        self._applied[from_time(message.header.stamp)] = message.header.frame_id, sent

    def _on_joints(self, message: JointState) -> None:
        if set(self.robot.joints) & set(message.name):  # a gripper may publish on the same topic
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
        robot = self.robot
        columns = [robot.joints.index(a) for a in robot.actuators if a in robot.joints]
        if not self.serve(FIRST, lambda: bool(self._measured)):
            raise DelayError("no measurements from the robot")
        rest = self._place(columns) if robot.command_interface == "position" else np.zeros(robot.layout.nu)
        self._measured.clear()
        self._applied.clear()
        sent: dict[int, float] = {}  # time of publication by stamp
        start, rng = time.monotonic() + REST, np.random.default_rng()
        while (now := time.monotonic()) < start + length_s + REST:
            command = rest.copy()
            command[actuator] += amplitude * square_wave(now - start, length_s, half_period_s)
            now_ns = time.time_ns()
            stamp_ns = now_ns + round(1e9 * robot.dt)
            self._commands.publish(to_command(stamp_ns, robot.actuators, command, "", robot.command_interface))
            sent[stamp_ns] = 1e-9 * now_ns
            wait = robot.dt * rng.uniform(*WAITS)
            self.serve(max(0.0, wait - (time.monotonic() - now)))
        self._call(False)
        times, values = self._acted(sent, actuator)
        if len(self._measured) < 2:
            raise DelayError("the robot's measurements have stopped")
        stamps, positions, velocities = zip(*sorted(self._measured, key=lambda m: m[0]), strict=True)
        moved = actuator if robot.command_interface == "twist" else columns[actuator]
        return Recording(
            times, values - rest[actuator], np.array(stamps), np.array(positions), np.array(velocities), moved
        )

    def _place(self, columns: list[int]) -> np.ndarray:
        """Where the joints of these columns were last measured."""
        for _, position, _ in reversed(self._measured):
            if np.isfinite(position[columns]).all():
                return position[columns]
        raise DelayError("where the joints are is not measured")

    def _acted(self, sent: dict[int, float], actuator: int) -> tuple[np.ndarray, np.ndarray]:
        """Times in s and what was really sent to the actuator from then on.

        Commands count from their publication. Where the guard had to bridge, because this process was too slow, what it
        sent counts from then.
        """
        first_ns, events = min(sent), []
        for stamp_ns, (flag, values) in self._applied.items():
            if flag in PASSED and stamp_ns in sent:
                events.append((sent[stamp_ns], values[actuator]))
            elif flag in BRIDGED and 1e-9 * stamp_ns > sent[first_ns]:
                events.append((1e-9 * stamp_ns, values[actuator]))
            elif flag not in BRIDGED:
                raise DelayError(f"the guard sent something else (flag {flag}); see docs/safety.md")
        if not events:
            raise DelayError("the guard passed nothing on; see its log")
        times, values = np.array(sorted(events)).T
        return times, values
