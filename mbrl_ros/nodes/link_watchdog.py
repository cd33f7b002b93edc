"""The link watchdog node: runs on the robot's computer, between the guard's topic and the controller's.

``ros2 run mbrl_ros link_watchdog`` there, and the guard with ``-r TOPIC:=guarded_commands``, where TOPIC is the robot's
command topic. Messages are of the type that the robot's YAML names.
"""

import sys
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState

from mbrl_ros.graph import LINK
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import from_joint_state
from mbrl_ros.nodes.managed_node import ManagedNode
from mbrl_ros.nodes.managed_parameters import Problems
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, OK, WARN, run
from mbrl_ros.safety.limits import Limits, limits_of
from mbrl_ros.safety.link_watchdog import GUARDED, LinkConfig, LinkWatchdog
from mbrl_ros.safety.safe_action import SafeAction

TICK_SHARE = 0.25  # of the control period: how often the watchdog looks


class LinkWatchdogNode(ManagedNode):
    """Repeats the guard's commands; the safe action when the guard, its computer or the network is gone."""

    what = "link"

    def __init__(self) -> None:
        super().__init__(LINK.name)

    def new_watchdog(self) -> LinkWatchdog:
        """A watchdog from the parameters."""
        return LinkWatchdog(self.config, *self.limits_and_safe_action(self.config), self.robot.dt)

    def limits_and_safe_action(self, config: LinkConfig) -> tuple[Limits, SafeAction]:
        """What the settings make of the robot's limits, never more than these."""
        limits = limits_of(self.robot, config)
        return limits, SafeAction(config, limits, self.robot.angles)

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """See ManagedNode; other limits act from the next command on."""
        made = self.limits_and_safe_action(config)  # nothing changes where this refuses
        super().reconfigure(config, groups)
        self.watchdog.change_limits(config, *made)

    def examine(self, problems: Problems) -> None:
        """See ManagedNode."""
        if self.robot is not None:
            with problems:
                self.new_watchdog()

    def set_up(self) -> None:
        """See ManagedNode."""
        self.watchdog = self.new_watchdog()
        self.output = command_output(self.robot)
        self.commands = self.publish_to(self.output.kind, self.output.topic)
        self.listen_to(self.output.kind, GUARDED, self.on_command, periodic=True)
        for topic in [s.topic for s in self.robot.sensors if s.type == "JointState"]:
            self.listen_to(JointState, topic, self.on_joint_states, BEST_EFFORT, periodic=True)
        self.create_wall_timer(TICK_SHARE * self.robot.dt, self.guarded(self.on_tick))

    def on_command(self, message: Any) -> None:
        """Pass the guard's command on."""
        wish = self.output.read(message)
        command = self.watchdog.command(time.monotonic_ns(), wish)
        if command is None:
            self.get_logger().error(
                f"refused: {wish[:8].tolist()} are not {len(self.robot.actuators)} finite number(s)",
                throttle_duration_sec=1.0,
            )
        self.send(command)

    def send(self, command: np.ndarray | None) -> None:
        """Publish a command (nu,), stamped now where its message has a stamp."""
        if command is not None:
            self.commands.publish(self.output.write(time.time_ns(), command))

    def on_joint_states(self, message: JointState) -> None:
        """Where the joints are, for safe actions that need it."""
        self.watchdog.observe(time.monotonic_ns(), *from_joint_state(message, self.robot.joints))

    def on_tick(self) -> None:
        """The safe action while the guard is silent."""
        command = self.watchdog.tick(time.monotonic_ns())
        self.send(command)
        if command is not None:
            self.get_logger().warning(f"safe action: {self.watchdog.reason}", throttle_duration_sec=1.0)

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        watchdog = self.watchdog
        self.doing(f"safe action: {watchdog.reason}" if watchdog.reason else "passing commands on")
        worried = watchdog.counts["refused"] or watchdog.counts["safe"]
        return WARN if worried else OK, {**watchdog.counts, "reason": watchdog.reason}

    def rest(self) -> None:
        """See ManagedNode: leave the actuators with what may stand for ever."""
        self.send(self.watchdog.farewell())


def main() -> int:
    """Entry point of the executable."""
    return run(LinkWatchdogNode)


if __name__ == "__main__":
    sys.exit(main())
