"""The monitor: fills the terminal view from the graph's topics. It lives in the process of the command line."""

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState

from mbrl_ros.nodes.conversions import from_scalars, own_statuses
from mbrl_ros.nodes.pipeline_node import RELIABLE
from mbrl_ros.terminal import RunView


class Monitor(Node):
    """Listens; never speaks to the graph."""

    def __init__(self, namespace: str, view: RunView, context: rclpy.Context) -> None:
        super().__init__("monitor", namespace=namespace, context=context)
        self.view = view
        self.create_subscription(DiagnosticArray, "/diagnostics", self.on_diagnostics, RELIABLE)
        self.create_subscription(JointState, "mpc_controller/telemetry", self.on_tick, RELIABLE)
        self.create_subscription(JointState, "trial_manager/telemetry", self.on_trial, RELIABLE)

    def on_diagnostics(self, message: DiagnosticArray) -> None:
        """What each node is doing."""
        for name, status in own_statuses(message, self.get_namespace()):
            self.view.nodes[name] = (ord(status.level), status.message)

    def on_tick(self, message: JointState) -> None:
        """Figures of one tick of control."""
        self.view.tick = from_scalars(message)
        self.view.planning_ms.append(1e3 * self.view.tick.get("planning_time", float("nan")))

    def on_trial(self, message: JointState) -> None:
        """A trial is over."""
        self.view.trials.append(from_scalars(message))


class MonitorSession:
    """A monitor with its own ROS context, served whenever `serve` is called."""

    def __init__(self, namespace: str, view: RunView) -> None:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Monitor(namespace, view, self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def serve(self, seconds: float) -> None:
        """Serve what has come in, for at most `seconds` of waiting."""
        self._executor.spin_once(timeout_sec=seconds)

    def others(self, guards: int) -> bool:
        """Whether more than `guards` command guards speak in this ROS domain and namespace."""
        return self._node.count_publishers("applied_command") > guards

    def close(self) -> None:
        """End the session."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()
