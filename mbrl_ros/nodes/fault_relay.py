"""Breaks topics for `mbrl_ros bench faults`: passes them on with a disturbance, or publishes beside their owner."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import String, UInt8MultiArray, UInt64
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.benchmarks.faults.disturbances import Disturbance
from mbrl_ros.benchmarks.faults.topics import original, relayed
from mbrl_ros.errors import MbrlError
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import to_time
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, LATCHED, RELIABLE
from mbrl_ros.robots.description import RobotDescription

FLUSH_PERIOD = 5e-3  # s, how exact a delay is
ANSWER = 20.0  # s, longest wait for the thread that serves the stranger
NO_END = 2**63  # ns, of a flood that goes on
FLOOD_SHARE = 0.4  # of a control period between two foreign messages


SENSORS = {"JointState": JointState, "Odometry": Odometry, "PoseStamped": PoseStamped, "Imu": Imu}
BETWEEN_NODES: dict[str, tuple[type, QoSProfile]] = {  # type and quality of service of the owner
    "observation": (JointState, RELIABLE),
    "command": (JointState, RELIABLE),
    "applied_command": (JointState, RELIABLE),
    "dynamics_model": (UInt8MultiArray, LATCHED),
    "plan": (JointTrajectory, RELIABLE),
    "trial": (DiagnosticStatus, LATCHED),
    "trial_ready": (String, LATCHED),
    "mpc_controller/model_version": (UInt64, LATCHED),
    "mpc_controller/telemetry": (JointState, RELIABLE),
    "model_learner/telemetry": (JointState, RELIABLE),
    "/diagnostics": (DiagnosticArray, RELIABLE),
}


def inputs(robot: RobotDescription) -> dict[str, tuple[type, QoSProfile]]:
    """Inputs of the nodes of a robot's graph: type and quality of service of the owner."""
    sensors = {sensor.topic: (SENSORS[sensor.type], RELIABLE) for sensor in robot.sensors}
    return sensors | BETWEEN_NODES | {"guarded_commands": (command_output(robot).kind, RELIABLE)}


class FaultRelay(Node):
    """Passes relayed topics on as a disturbance says, at once where there is none."""

    def __init__(self, robot: RobotDescription, context: rclpy.Context) -> None:
        super().__init__("fault_relay", context=context)
        self._disturbances: dict[str, Disturbance] = {}
        self._due: list[tuple[float, int, str, Any]] = []  # a heap: moment, order, topic, message
        self._order = itertools.count()
        self._lock = threading.Lock()
        self._relays = {}
        topics = inputs(robot)
        for name in relayed(robot):
            kind, qos = topics[name]
            self._relays[name] = self.create_publisher(kind, name, qos)
            self.create_subscription(kind, original(name), partial(self.on_message, name), qos)
        self._timer = self.create_timer(FLUSH_PERIOD, self.flush)

    def connected(self, topic: str) -> bool:
        """Whether somebody hears what is passed on."""
        return bool(self._relays[topic].get_subscription_count())

    def disturb(self, topic: str, disturbance: Disturbance) -> None:
        """Disturb a topic from now on."""
        with self._lock:
            self._disturbances[topic] = disturbance

    def heal(self, topic: str) -> None:
        """Pass the topic on as it is; what is under way still arrives."""
        with self._lock:
            disturbance, now = self._disturbances.pop(topic), time.monotonic()
            self._plan(topic, disturbance.end(now))

    def on_message(self, topic: str, message: Any) -> None:
        """A message of its owner."""
        with self._lock:
            disturbance, now = self._disturbances.get(topic), time.monotonic()
            self._plan(topic, [(now, message)] if disturbance is None else disturbance.take(message, now))
        self.flush()

    def flush(self) -> None:
        """Publish what is due."""
        with self._lock:
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, topic, message = heapq.heappop(self._due)
                self._relays[topic].publish(message)
            if not self._due:
                self._timer.cancel()  # nothing is late: nobody need look, which would cost time on a busy machine

    def _plan(self, topic: str, passed: Sequence[tuple[float, Any]]) -> None:
        for moment, message in passed:
            heapq.heappush(self._due, (moment, next(self._order), topic, message))
        if passed and self._timer.is_canceled():
            self._timer.reset()


class Stranger(Node):
    """Publishes on topics that are not its own; it knows the newest genuine message of each."""

    def __init__(self, robot: RobotDescription, context: rclpy.Context) -> None:
        super().__init__("stranger", context=context)
        self._topics, self._period = inputs(robot), FLOOD_SHARE * robot.dt
        self.samples: dict[str, Any] = {}
        self._flood: Any = None
        self._flood_ns = (1, 0)  # from when to when it spoke, by the clock
        self.sent = 0
        for name, (kind, qos) in self._topics.items():
            heard = LATCHED if qos is LATCHED else BEST_EFFORT
            self.create_subscription(kind, name, self._listener(name), heard)

    def _listener(self, topic: str) -> Any:
        """Callback with a signature from which rclpy sees that it takes a message and its times."""

        def listen(message: Any, info: Any) -> None:
            self.note(topic, message, info)

        return listen

    def note(self, topic: str, message: Any, info: Any) -> None:
        """Keep a genuine message; its own and others of the time of a flood are none, however late they come."""
        first, last = self._flood_ns
        if not first <= info["source_timestamp"] <= last:
            self.samples[topic] = message

    def begin(self, topic: str, messages: Sequence[Any], fresh: bool) -> None:
        """Publish these messages again and again on a topic; fresh: with the stamps of now."""
        self.sent, (kind, qos) = 0, self._topics[topic]
        self._flood_ns = time.time_ns(), NO_END

        def speak() -> None:
            publisher, turns = self.create_publisher(kind, topic, qos), itertools.cycle(messages)
            self._flood = publisher, self.create_timer(self._period, lambda: self._send(publisher, turns, fresh))

        self._in_its_thread(speak)

    def end(self) -> None:
        """Fall silent and leave the topic."""

        def leave() -> None:
            publisher, timer = self._flood
            self.destroy_timer(timer)
            self.destroy_publisher(publisher)
            self._flood, self._flood_ns = None, (self._flood_ns[0], time.time_ns())

        self._in_its_thread(leave)

    def _in_its_thread(self, work: Callable[[], None]) -> None:
        """Have the executor do it: what is destroyed while its thread waits for it ends that thread."""
        executor = self.executor
        assert executor is not None, "the stranger is served"
        task, end = executor.create_task(work), time.monotonic() + ANSWER
        while not task.done():
            if time.monotonic() > end:
                raise MbrlError(f"stranger: nobody serves it, for {ANSWER:g} s")
            time.sleep(1e-3)

    def _send(self, publisher: Any, turns: Any, fresh: bool) -> None:
        if publisher.get_subscription_count():
            message = next(turns)
            if fresh and hasattr(message, "header"):
                message.header.stamp = to_time(time.time_ns())
            publisher.publish(message)
            self.sent += 1


class Operator(Node):
    """Calls the guard's services."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("fault_operator", context=context)
        self._called = {name: self.create_client(Trigger, f"command_guard/{name}") for name in ("stop", "reset")}

    def call(self, name: str) -> None:
        """Ask for ``stop`` or ``reset``; the answer is not waited for."""
        self._called[name].call_async(Trigger.Request())
