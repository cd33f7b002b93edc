"""What every node of the pipeline shares: parameters, QoS, diagnostics, a clean start and a clean end."""

import gc
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import NODES
from mbrl_ros.nodes.conversions import to_status
from mbrl_ros.nodes.parameters import follow_changes, load_configuration
from mbrl_ros.robots.description import load_robot

DEPTH = 50
WAITING_FOR = "waiting_for"  # key of the diagnostics under which a node names the topics without another end
RELIABLE = QoSProfile(depth=DEPTH)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LOCKSTEP = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class PipelineNode(Node):
    """Base of the nodes.

    Attributes:
        config: the node's configuration.
        groups: its parameter groups by prefix.
        robot: the robot's description.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.config, self.groups = load_configuration(self, NODES[name])
        follow_changes(self, NODES[name], self.groups, self.reconfigure)
        self.robot = load_robot(self.config.robot)
        self.exit_code: int | None = None
        self._doing = "starting"
        self._links: list[tuple[str, Callable[[], int]]] = []
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", RELIABLE)
        self._fast_diagnostics = self.create_wall_timer(0.1, self._publish_until_connected)
        self._slow_diagnostics = self.create_wall_timer(1.0, self.publish_diagnostics)

    @property
    def sensor_qos(self) -> QoSProfile:
        """Sensor streams: best effort, as drivers publish them; in lockstep nothing may be lost."""
        return LOCKSTEP if self.config.lockstep else BEST_EFFORT

    @property
    def link_qos(self) -> QoSProfile:
        """Links between the nodes.

        In lockstep a subscription that is matched late still gets what was sent: the two ends of a link learn of
        each other one after the other, and the first tick would wait for ever for a node that missed it.
        """
        return LOCKSTEP if self.config.lockstep else RELIABLE

    def create_wall_timer(self, period: float, callback: Callable[[], None]) -> Any:
        """A timer on the steady clock, whatever use_sim_time says."""
        return self.create_timer(period, callback, clock=STEADY)

    def publish_to(self, kind: type, topic: str, qos: QoSProfile | None = None) -> Any:
        """A publisher that some node of the graph must be listening to before the robot may move."""
        publisher = self.create_publisher(kind, topic, qos or self.link_qos)
        self._links.append((topic, publisher.get_subscription_count))
        return publisher

    def listen_to(self, kind: type, topic: str, callback: Callable, qos: QoSProfile | None = None) -> Any:
        """A subscription that some node of the graph must be publishing to before the robot may move."""
        subscription = self.create_subscription(kind, topic, self.guarded(callback), qos or self.link_qos)
        self._links.append((topic, subscription.get_publisher_count))
        return subscription

    def guarded(self, callback: Callable) -> Callable:
        """The callback, with any exception logged in full before it ends the node."""

        def call(*args: Any) -> Any:
            try:
                return callback(*args)
            except Exception:
                self.get_logger().fatal(f"unexpected error:\n{traceback.format_exc()}")
                self.exit_code = 1
                return None

        return call

    def unconnected(self) -> list[str]:
        """Topics whose other end is not there yet, and whatever else a node needs before the robot may move."""
        return [topic for topic, count in self._links if count() == 0]

    def doing(self, what: str) -> None:
        """Say what the node is doing, for people."""
        self._doing = what

    def status(self) -> tuple[bytes, dict[str, object]]:
        """Level and values for the diagnostics; nodes override it."""
        return OK, {}

    def publish_diagnostics(self) -> None:
        """Publish this node's status: WARN until it is connected."""
        level, values = self.status()
        missing = ", ".join(self.unconnected())
        if missing:
            level = max(level, WARN)
        message = f"waiting for {missing}" if missing else self._doing
        values = {**values, WAITING_FOR: missing}
        array = DiagnosticArray(
            status=[to_status(self.get_fully_qualified_name(), self.robot.name, level, message, values)]
        )
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _publish_until_connected(self) -> None:
        self.publish_diagnostics()
        if not self.unconnected():
            self._fast_diagnostics.cancel()

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """Take up changed parameters, which have been checked; nodes that have built on them extend it."""
        self.config, self.groups = config, groups

    def on_shutdown(self) -> None:
        """Last chance to leave things in order; nodes override it."""


STEADY = rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)


def spin_until(node: PipelineNode, done: Callable[[], bool], timeout: float = float("inf")) -> bool:
    """Serve callbacks until `done()` is true; False on timeout or when the node is asked to end."""
    end = time.monotonic() + timeout
    executor = node.executor
    assert executor is not None, "spin_until serves a node that run() has given an executor"
    while not done():
        if node.exit_code is not None or time.monotonic() > end:
            return False
        executor.spin_once(timeout_sec=0.1)
    return True


def run(factory: Callable[[], PipelineNode], main: Callable[[Any], int | None] | None = None) -> int:
    """Life of a node process: start, serve, end without a traceback on SIGINT or SIGTERM.

    Args:
        factory: makes the node.
        main: what the process does; by default serve callbacks until it is asked to end.

    Returns:
        Exit code: 0 asked to end, 2 a user's mistake, 1 an unexpected error.
    """
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    node: PipelineNode | None = None
    try:
        node = factory()
        install_signal_handlers(node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        gc.collect()
        gc.freeze()  # what is loaded now lives as long as the process: the collector need not walk it in the loop
        try:
            (main or serve)(node)
        finally:  # whatever happened: the actuators are left safe, the files closed
            node.on_shutdown()
        return node.exit_code or 0
    except MbrlError as error:
        print(error, file=sys.stderr)
        return 2
    except (ExternalShutdownException, KeyboardInterrupt):  # the latter while the node is being made
        return 0
    finally:
        ignore_signals()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def serve(node: PipelineNode) -> None:
    """Serve callbacks until the node is asked to end."""
    spin_until(node, lambda: False)


def ignore_signals() -> None:
    """The process is about to end anyway: a second SIGINT (a terminal's and launch's) must not make it a crash."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def install_signal_handlers(node: PipelineNode) -> None:
    """SIGINT and SIGTERM ask the node to end after the callback in progress."""

    def stop(signum: int, frame: object) -> None:
        node.exit_code = node.exit_code or 0

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
