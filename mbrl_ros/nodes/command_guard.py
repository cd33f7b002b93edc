"""The command guard node: the only publisher to the actuators and the last word before them. See docs/safety.md."""

import sys
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Empty
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import from_command, from_joint_state, from_time, to_command
from mbrl_ros.nodes.managed_node import ManagedNode
from mbrl_ros.nodes.managed_parameters import Problems
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, ERROR, OK, WARN, run
from mbrl_ros.safety.arming import Moment
from mbrl_ros.safety.decision import Decision, GuardState
from mbrl_ros.safety.guard import Guard
from mbrl_ros.safety.guard_config import GuardConfig
from mbrl_ros.safety.limits import Limits, limits_of
from mbrl_ros.safety.safe_action import SafeAction

WATCHDOG_SHARE = 0.25  # of the control period: how often the watchdog looks
PERIOD_TOLERANCE = 0.01  # share of the control period by which the period of a plan may differ


class CommandGuard(ManagedNode):
    """Passes on commands that are armed, fresh, finite and within limits; otherwise the ladder of the guard."""

    what = "guard"
    guard: Guard

    def __init__(self) -> None:
        super().__init__("command_guard")

    def new_guard(self) -> Guard:
        """A guard from the parameters; it is disarmed."""
        config = self.groups["guard"]
        return Guard(config, *self.limits_and_safe_action(config), self.robot.dt)

    def limits_and_safe_action(self, config: GuardConfig) -> tuple[Limits, SafeAction]:
        """What the settings make of the robot's limits, never more than these."""
        limits = limits_of(self.robot, config)
        return limits, SafeAction(config, limits, self.robot.angles)

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """See ManagedNode; other limits act from the next command on."""
        made = self.limits_and_safe_action(groups["guard"])  # nothing changes where this refuses
        super().reconfigure(config, groups)
        self.guard.change_limits(groups["guard"], *made)

    def examine(self, problems: Problems) -> None:
        """See ManagedNode."""
        if self.robot is not None:
            with problems:
                self.new_guard()

    def set_up(self) -> None:
        """See ManagedNode; a stop stays latched."""
        config, before = self.groups["guard"], getattr(self, "guard", None)
        self.guard = self.new_guard()
        if before is not None and before.state is GuardState.STOPPED:
            self.guard.stop(self.now(), before.stop_reason)
        self.output = command_output(self.robot)
        self.actuators = self.publish_to(self.output.kind, self.output.topic) if not self.config.lockstep else None
        self.applied = self.publish_to(JointState, "applied_command")
        self.listen_to(JointState, "command", self.on_command, periodic=True)
        self.listen_to(JointState, "observation", self.on_observation, periodic=True)
        if config.plan_periods:
            self.listen_to(JointTrajectory, "plan", self.on_plan)
        if config.heartbeat_timeout:
            self.create_subscription(Empty, "heartbeat", self.received(self.on_heartbeat, None, ""), BEST_EFFORT)
        self.create_service(SetBool, "~/arm", self.guarded(self.on_arm))
        self.create_service(Trigger, "~/stop", self.guarded(self.on_stop))
        self.create_service(Trigger, "~/reset", self.guarded(self.on_reset))
        if not self.config.lockstep:
            self.create_wall_timer(WATCHDOG_SHARE * self.robot.dt, self.guarded(self.on_watchdog))

    def begin(self) -> None:
        """See ManagedNode; the controller's silence until now is no failure."""
        self.doing(self.guard.state.name.lower())

    def rest(self) -> None:
        """See ManagedNode: the safe action, then disarmed; a stop stays latched."""
        guard = self.guard
        stopped, reason = guard.state is GuardState.STOPPED, guard.stop_reason
        self.send_at_once(guard.farewell(self.now()))
        if stopped:
            guard.stop(self.now(), reason)

    def now(self) -> Moment | None:
        """The moment by both clocks; None in lockstep, where time waits for the command."""
        return None if self.config.lockstep else Moment(time.monotonic_ns(), time.time_ns())

    def on_command(self, message: JointState) -> None:
        """Judge a command and send what is safe of it."""
        wish = from_command(message, self.robot.actuators, self.robot.command_interface)
        self.send(self.guard.command(self.now(), from_time(message.header.stamp), wish))

    def on_observation(self, message: JointState) -> None:
        """Look at where the robot is."""
        position, velocity = from_joint_state(message, self.robot.entries)
        stamp_ns, measured = from_time(message.header.stamp), not message.header.frame_id
        self.send_at_once(self.guard.observe(self.now(), stamp_ns, position, velocity, measured))

    def on_plan(self, message: JointTrajectory) -> None:
        """Keep the plan for the case that the controller fails."""
        self.guard.plan(self.now(), from_time(message.header.stamp), self.plan_actions(message))

    def on_heartbeat(self, _: Empty) -> None:
        """The deadman's switch is held."""
        self.guard.heartbeat(self.now())

    def on_watchdog(self) -> None:
        """What is due when the controller has gone silent."""
        self.send(self.guard.tick(self.now()))

    def plan_actions(self, message: JointTrajectory) -> list[list[float]]:
        """Actions of a plan, one row a control period; empty where its joints or its period are not ours."""
        names, points = list(message.joint_names), message.points
        if not points or any(a not in names or len(points[0].effort) != len(names) for a in self.robot.actuators):
            return []
        if len(points) > 1:
            step = 1e-9 * (from_time(points[1].time_from_start) - from_time(points[0].time_from_start))
            if abs(step - self.robot.dt) > PERIOD_TOLERANCE * self.robot.dt:
                return []
        columns = [names.index(a) for a in self.robot.actuators]
        return [[p.effort[c] if c < len(p.effort) else np.nan for c in columns] for p in points]

    def send(self, decision: Decision | None) -> None:
        """Publish to the actuators, which are left to others while disarmed, and say what was sent and why."""
        if decision is None:
            return
        self.actuate(decision)
        robot = self.robot
        applied = to_command(
            decision.stamp_ns, robot.actuators, decision.command, decision.flag, robot.command_interface
        )
        self.applied.publish(applied)
        self.note_sent("applied_command")
        if decision.reason and decision.to_actuators:
            self.get_logger().warning(decision.reason, throttle_duration_sec=1.0)

    def actuate(self, decision: Decision | None) -> None:
        """Publish to the actuators; in lockstep the simulator reads `applied_command`, which carries a stamp."""
        if self.actuators is not None and decision is not None and decision.to_actuators:
            self.actuators.publish(self.output.write(time.time_ns(), decision.command))

    def send_at_once(self, decision: Decision | None) -> None:
        """Publish what answers no command; in lockstep the next command gets the answer."""
        if not self.config.lockstep:
            self.send(decision)

    def on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Arm or disarm."""
        if not self.active:
            response.success = not request.data  # what is not active is not armed, either
            response.message = f"not armed: {self.get_name()} is {self.lifecycle}"
        elif request.data:
            nobody = self.unconnected()
            missing = (f"nobody at {', '.join(nobody)}",) if nobody else ()
            response.success, response.message = self.guard.arm(self.now(), missing)
        else:
            self.send_at_once(self.guard.disarm(self.now()))
            response.success, response.message = True, "disarmed"
        return response

    def on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Latch the stop."""
        self.send_at_once(self.guard.stop(self.now(), "stop service called"))
        response.success, response.message = True, "stopped until ~/reset"
        return response

    def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Release a latched stop; arming is a step of its own.

        What was sent last may be damping, which must not stand when nobody looks after it any more.
        """
        response.success, response.message = self.guard.reset()
        if response.success:
            self.send_at_once(self.guard.disarm(self.now()))
        return response

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        guard, now = self.guard, self.now()
        self.doing(guard.state.name.lower())
        worried = any(count for flag, count in guard.counts.items() if flag not in ("ok", "disarmed"))
        level = ERROR if guard.state is GuardState.STOPPED else WARN if worried else OK
        values: dict[str, Any] = {
            "guard_state": guard.state.name.lower(),  # `state` is a flag that is counted
            **guard.counts,
            **guard.figures,
            "reason": guard.reason,
        }
        if guard.state is not GuardState.ARMED:
            values["against_arming"] = "; ".join(guard.obstacles(now))
        return level, values


def main() -> int:
    """Entry point of the executable."""
    return run(CommandGuard)


if __name__ == "__main__":
    sys.exit(main())
