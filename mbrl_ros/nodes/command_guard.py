"""The command guard node: the only publisher to the actuators and the last word before them."""

import sys
import time

from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.nodes.conversions import from_command, from_time, to_command, to_float_array
from mbrl_ros.nodes.pipeline_node import ERROR, OK, WARN, PipelineNode, run
from mbrl_ros.safety.guard import Decision, Guard, GuardState

WATCHDOG_SHARE = 0.25  # of the control period: how often the watchdog looks


class CommandGuard(PipelineNode):
    """Passes on commands that are armed, fresh, finite and within limits; otherwise the safe action."""

    def __init__(self) -> None:
        super().__init__("command_guard")
        self.guard = Guard(self.groups["guard"], self.robot.u_max, self.robot.dt)
        self.actuators = (
            self.publish_to(Float64MultiArray, "effort_controller/commands") if not self.config.lockstep else None
        )
        self.applied = self.publish_to(JointState, "applied_command")
        self.listen_to(JointState, "command", self.on_command)
        self.create_service(SetBool, "~/arm", self.guarded(self.on_arm))
        self.create_service(Trigger, "~/stop", self.guarded(self.on_stop))
        self.create_service(Trigger, "~/reset", self.guarded(self.on_reset))
        if not self.config.lockstep:
            self.create_wall_timer(WATCHDOG_SHARE * self.robot.dt, self.guarded(self.on_watchdog))

    def now(self) -> float | None:
        """Wall clock in s; None in lockstep, where time waits for the command."""
        return None if self.config.lockstep else time.time()

    def on_command(self, message: JointState) -> None:
        """Judge a command and send what is safe of it."""
        stamp_ns = from_time(message.header.stamp)
        effort = from_command(message, self.robot.actuators)
        self.send(stamp_ns, self.guard.command(self.now(), 1e-9 * stamp_ns, effort))

    def on_watchdog(self) -> None:
        """The safe action when the controller has gone silent."""
        decision = self.guard.tick(self.now())
        if decision is not None:
            self.send(time.time_ns(), decision)

    def send(self, stamp_ns: int, decision: Decision) -> None:
        """Publish to the actuators, which are left to others while disarmed, and say what was sent and why."""
        if self.guard.state is not GuardState.DISARMED:
            self.actuate(decision)
        self.applied.publish(to_command(stamp_ns, self.robot.actuators, decision.effort, decision.flag))
        if decision.reason and self.guard.state is not GuardState.DISARMED:
            self.get_logger().warning(decision.reason, throttle_duration_sec=1.0)

    def actuate(self, decision: Decision) -> None:
        """Publish to the actuators; in lockstep the simulator reads `applied_command`, which carries a stamp."""
        if self.actuators is not None:
            self.actuators.publish(to_float_array(decision.effort))

    def on_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Arm or disarm."""
        if request.data:
            missing = self.unconnected()
            if missing:
                response.success, response.message = False, f"not armed: nobody at {', '.join(missing)}"
            else:
                response.success, response.message = self.guard.arm(self.now())
        else:
            self.actuate(self.guard.disarm())
            response.success, response.message = True, "disarmed"
        return response

    def on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Latch the stop."""
        self.actuate(self.guard.stop("stop service called"))
        response.success, response.message = True, "stopped until ~/reset"
        return response

    def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Release a latched stop; arming is a step of its own."""
        response.success, response.message = self.guard.reset()
        return response

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See PipelineNode."""
        self.doing(self.guard.state.name.lower())
        worried = any(count for flag, count in self.guard.counts.items() if flag not in ("ok", "disarmed"))
        level = ERROR if self.guard.state is GuardState.STOPPED else WARN if worried else OK
        return level, dict(self.guard.counts)

    def on_shutdown(self) -> None:
        """Leave the actuators safe."""
        self.actuate(self.guard.disarm())


def main() -> int:
    """Entry point of the executable."""
    return run(CommandGuard)


if __name__ == "__main__":
    sys.exit(main())
