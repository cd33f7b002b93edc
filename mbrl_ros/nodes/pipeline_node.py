"""What every node of the pipeline shares: parameters, QoS, diagnostics, a clean start and a clean end."""

import gc
import os
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

from mbrl_ros.errors import MbrlError, MessageError
from mbrl_ros.graph import GRAPH, NODES
from mbrl_ros.nodes.conversions import STATE, own_statuses, status_name, to_status
from mbrl_ros.nodes.parameters import follow_changes, load_configuration
from mbrl_ros.nodes.streams import NODE_SILENT, Stream, figures, stale
from mbrl_ros.robots.description import load_robot
from mbrl_ros.transport import over_udp

DEPTH = 50
WAITING_FOR = "waiting_for"  # key of the diagnostics under which a node names the topics without another end
LIFECYCLE = "lifecycle"  # key of the diagnostics for the state of the node's life cycle
STREAMS, SILENT = "streams", "silent"  # name of the status of rates and ages, and its key for what is silent
NAMES = {spec.name for spec in GRAPH}
RELIABLE = QoSProfile(depth=DEPTH)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
LOCKSTEP = QoSProfile(depth=DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)

OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


class GraphNode(Node):
    """Base of the nodes: links to the others, diagnostics, and what happens to exceptions.

    Attributes:
        config: the node's configuration.
        groups: its parameter groups by prefix.
        robot: the robot's description; None while there is none.
        exit_code: None while the node is to go on.
        trouble: what is wrong with the node as a whole; empty where nothing.
    """

    what = "figures"  # name of the node's own figures in the diagnostics

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.config: Any = None
        self.groups: dict[str, Any] = {}
        self.robot: Any = None
        self.exit_code: int | None = None
        self.trouble = ""
        self.refused, self.last_refused = 0, ""  # messages that could not be used, and why the last one
        self._doing = "starting"
        self._links: list[tuple[str, Callable[[], int]]] = []
        self._heard: dict[str, Stream] = {}
        self._sent: dict[str, Stream] = {}
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

    def make_publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> Any:
        """A publisher of this kind of node."""
        return self.create_publisher(kind, topic, qos)

    def publish_to(self, kind: type, topic: str, qos: QoSProfile | None = None) -> Any:
        """A publisher that some node of the graph must be listening to before the robot may move."""
        publisher = self.make_publisher(kind, topic, qos or self.link_qos)
        self._links.append((topic, publisher.get_subscription_count))
        return publisher

    def listen_to(
        self, kind: type, topic: str, callback: Callable, qos: QoSProfile | None = None, *, periodic: bool = False
    ) -> Any:
        """A subscription that some node of the graph must be publishing to before the robot may move.

        Args:
            kind: type of the messages.
            topic: name.
            callback: takes a message; its exceptions are logged and end the node.
            qos: quality of service, by default that of the links between nodes.
            periodic: the stream's rate and age are in the diagnostics.
        """
        heard = self._heard.setdefault(topic, Stream()) if periodic else None
        call = self.received(callback, heard, topic if qos is LATCHED else "")
        subscription = self.create_subscription(kind, topic, call, qos or self.link_qos)
        self._links.append((topic, subscription.get_publisher_count))
        return subscription

    def received(self, callback: Callable, heard: Stream | None, latched: str) -> Callable:
        """The callback of a subscription with all that goes with it; `latched` names the topic of a latched one."""

        def note(message: Any) -> None:
            if heard is not None:
                heard.note()
            self.take_in(callback, message)

        return self.guarded(note)

    def take_in(self, callback: Callable, message: Any) -> None:
        """Give a message to its callback; what cannot be used is counted, said and passed over."""
        try:
            callback(message)
        except MessageError as error:
            self.refused += 1
            self.last_refused = str(error)
            self.get_logger().error(f"message refused: {error}", throttle_duration_sec=1.0)

    def note_nodes(self, message: DiagnosticArray) -> list[tuple[str, DiagnosticStatus]]:
        """Count what the other nodes of the graph say as a stream each: one that has died without a word is named.

        Returns their names and states.
        """
        found = [(n, s) for n, s in own_statuses(message, self.get_namespace()) if n in NODES and n != self.get_name()]
        for name in {n for n, _ in found} & NAMES:  # nobody misses a viewer that was closed
            self._heard.setdefault(f"{name} (node)", Stream(NODE_SILENT)).note()
        return found

    def note_sent(self, topic: str) -> None:
        """Count a message of a periodic stream that this node has published."""
        self._sent.setdefault(topic, Stream()).note()

    def guarded(self, callback: Callable) -> Callable:
        """The callback, with any exception logged in full before it ends the node."""

        def call(*args: Any) -> Any:
            try:
                return callback(*args)
            except Exception:
                self.failed()
                return args[-1] if args else None  # of a service: the response as it is

        return call

    def failed(self) -> None:
        """Say in full what exception a callback has ended with, and end the node."""
        self.trouble = f"unexpected error:\n{traceback.format_exc()}"
        self.get_logger().fatal(self.trouble)
        self.crashed()

    def crashed(self) -> None:
        """A callback has failed in a way that nobody has foreseen: the node is to end."""
        self.exit_code = 1

    def unconnected(self) -> list[str]:
        """Topics whose other end is not there yet, and whatever else a node needs before the robot may move."""
        return [topic for topic, count in self._links if count() == 0]

    def doing(self, what: str) -> None:
        """Say what the node is doing, for people."""
        self._doing = what

    @property
    def lifecycle(self) -> str:
        """State of the node's life cycle; plain nodes are active as long as they live."""
        return "active"

    def status(self) -> tuple[bytes, dict[str, object]]:
        """Level and values of the node's figures for the diagnostics; nodes override it."""
        return OK, {}

    def statuses(self) -> dict[str, tuple[bytes, dict[str, object]]]:
        """Level and values of all that the node has to tell, by name."""
        return {self.what: self.status()}

    def publish_diagnostics(self) -> None:
        """Publish what there is to tell of this node, see docs/architecture.md."""
        told = self.statuses() | self._streams()
        level = max((level for level, _ in told.values() if level != STALE), default=OK)
        missing = ", ".join(self.unconnected())
        level = ERROR if self.trouble else max(level, WARN) if missing else level
        message = self.trouble or (f"waiting for {missing}" if missing else self._doing)
        values: dict[str, object] = {LIFECYCLE: self.lifecycle, WAITING_FOR: missing}
        if self.refused:
            values |= {"messages_refused": self.refused, "last_refused": self.last_refused}
        array = DiagnosticArray(status=[self._status(STATE, level, message, values)])
        array.status += [self._status(what, level, self._doing, values) for what, (level, values) in told.items()]
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _status(self, what: str, level: bytes, message: str, values: dict[str, object]) -> DiagnosticStatus:
        """One status, named as REP-107 wants it; of a stale one the message says what is silent."""
        name = status_name(self.get_fully_qualified_name(), what)
        said = str(values.get(SILENT, "")) or message
        return to_status(name, "" if self.robot is None else self.robot.name, level, said, values)

    def _streams(self) -> dict[str, tuple[bytes, dict[str, object]]]:
        """Rates and ages; in lockstep time waits for the nodes, so that silence says nothing."""
        if not (self._heard or self._sent):
            return {}
        now = time.monotonic()
        silent = [] if self.config.lockstep else stale(self._heard, now)
        values = figures(self._heard, now) | figures(self._sent, now)
        return {STREAMS: (STALE if silent else OK, values | ({SILENT: "; ".join(silent)} if silent else {}))}

    def _publish_until_connected(self) -> None:
        self.publish_diagnostics()
        if not self.unconnected():
            self._fast_diagnostics.cancel()

    def bring_up(self) -> None:
        """Whatever is left to do before the node serves callbacks."""

    def leave(self) -> None:
        """Last chance to leave things in order; nodes override it."""


class PipelineNode(GraphNode):
    """A plain node: configured when it is made, active as long as it lives."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.config, self.groups = load_configuration(self, NODES[name])
        follow_changes(self, NODES[name], self.groups, self.reconfigure)
        self.robot = load_robot(self.config.robot)

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """Take up changed parameters, which have been checked; nodes that have built on them extend it."""
        self.config, self.groups = config, groups


STEADY = rclpy.clock.Clock(clock_type=rclpy.clock.ClockType.STEADY_TIME)


def spin_until(node: GraphNode, done: Callable[[], bool], timeout: float = float("inf")) -> bool:
    """Serve callbacks until `done()` is true; False on timeout or when the node is asked to end."""
    end = time.monotonic() + timeout
    executor = node.executor
    assert executor is not None, "spin_until serves a node that run() has given an executor"
    while not done():
        if node.exit_code is not None or time.monotonic() > end:
            return False
        executor.spin_once(timeout_sec=0.1)
    return True


def run(factory: Callable[[], GraphNode], main: Callable[[Any], int | None] | None = None) -> int:
    """Life of a node process: start, serve, end without a traceback on SIGINT or SIGTERM.

    Args:
        factory: makes the node.
        main: what the process does; by default serve callbacks until it is asked to end.

    Returns:
        Exit code: 0 asked to end, 2 a user's mistake, 1 an unexpected error.
    """
    os.environ.update(over_udp(os.environ))  # for nodes that neither our bring-up nor our launch files have started
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    node: GraphNode | None = None
    try:
        node = factory()
        install_signal_handlers(node)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.bring_up()
        gc.collect()
        gc.freeze()  # what is loaded now lives as long as the process: the collector need not walk it in the loop
        try:
            (main or serve)(node)
        finally:  # whatever happened: the actuators are left safe, the files closed
            node.leave()
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


def serve(node: GraphNode) -> None:
    """Serve callbacks until the node is asked to end."""
    spin_until(node, lambda: False)


def ignore_signals() -> None:
    """The process is about to end anyway: a second SIGINT (a terminal's and launch's) must not make it a crash."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def install_signal_handlers(node: GraphNode) -> None:
    """SIGINT and SIGTERM ask the node to end after the callback in progress."""

    def stop(signum: int, frame: object) -> None:
        node.exit_code = node.exit_code or 0

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
