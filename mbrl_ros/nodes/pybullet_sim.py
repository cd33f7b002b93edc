"""The simulator node: stands in for the hardware, in real time or in lockstep."""

import sys
import time
from collections import deque

import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.errors import ConfigError
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import from_command, from_time, to_joint_state, to_time
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, OK, WARN, PipelineNode, run
from mbrl_ros.robots.dead_time import DeadTime
from mbrl_ros.robots.pybullet_plant import PyBulletPlant

PARTICIPANTS = ("model_learner", "trial_manager")  # whose tick_done a lockstep tick waits for
OUTBOX_PERIOD = 1e-3  # s, how exact the sensing delay is in real time
PAUSE_GAP = 20  # periods that pass at a reset, so that nobody pairs states across it


class PyBulletSim(PipelineNode):
    """Publishes noisy joint states once a control period and applies the effort commands."""

    def __init__(self) -> None:
        super().__init__("pybullet_sim")
        self.dt_ns = round(1e9 * self.robot.dt)
        self.plant = PyBulletPlant(self.robot, gui=self.config.gui)
        self.resets = self.ticks = self.late_ticks = self.silent_ticks = 0
        self.payload_tick = round(self.config.payload_after / self.robot.dt) or None
        self.running = False
        self.stamp_ns = round(1e9 * self.config.start_time)
        self.effort = np.zeros(len(self.robot.actuators))  # newest command
        self.held = self.effort  # what acts in the current period, taken over at its start
        self.dead_time = DeadTime(self.config.actuation_delay, len(self.effort))
        self.outbox: deque[tuple[float, int, JointState]] = deque()  # due, stamp, measurement not yet published
        self.rng = self.new_generator()
        self.sensors = self.publish_to(JointState, "joint_states")
        self.create_service(Trigger, "~/reset", self.guarded(self.on_reset))
        self.create_service(SetBool, "~/run", self.guarded(self.on_run))
        if self.config.lockstep:
            self.missing: set[str] = set()
            self.awaited_ns = 0  # stamp of the measurement that the others work on
            self.sensing_ticks = whole_periods("sensing_delay", self.config.sensing_delay, self.robot.dt)
            self.lead_ns = self.robot.delay_ticks(lockstep=True) * self.dt_ns  # of a command's stamp over it
            self.clock = self.create_publisher(Clock, "/clock", BEST_EFFORT)
            self.listen_to(JointState, "applied_command", self.on_applied)
            self.listen_to(Header, "tick_done", self.on_tick_done)
            self.create_wall_timer(1.0, self.guarded(self.check_progress))
        else:
            self.output = command_output(self.robot)
            self.listen_to(self.output.kind, self.output.topic, self.on_command)
            if self.config.sensing_delay > 0:
                self.create_wall_timer(OUTBOX_PERIOD, self.guarded(self.empty_outbox))
            self.ground_truth = self.create_publisher(JointState, "~/ground_truth", BEST_EFFORT)
            self.next_tick = time.monotonic()
            self.timer = self.create_wall_timer(self.robot.dt, self.guarded(self.on_timer))
        self.doing("paused")

    def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Pause and put the robot at rest in its start position."""
        self.running = False
        self.resets += 1
        self.effort = self.held = np.zeros_like(self.effort)
        self.dead_time.forget()
        self.outbox.clear()
        self.plant.reset(np.array(self.robot.start_position))
        self.rng = self.new_generator()
        self.stamp_ns += PAUSE_GAP * self.dt_ns
        self.doing("paused")
        response.success, response.message = True, f"at rest in the start position, reset {self.resets}"
        return response

    def on_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Let time pass, or hold it."""
        response.success, response.message = True, "running" if request.data else "paused"
        started = request.data and not self.running
        self.running = request.data
        self.doing(response.message)
        if started and self.config.lockstep:
            self.outbox.clear()
            self.begin_tick()
        elif started:
            self.timer.reset()  # or the first tick comes early, and every stamp runs ahead of the clock by as much
            self.stamp_ns = time.time_ns()
            self.publish_sensors(time.monotonic())
            self.next_tick = time.monotonic() + self.robot.dt
        return response

    def new_generator(self) -> np.random.Generator:
        """Generator of the sensor noise until the next reset; a resumed run gets noise of its own."""
        return np.random.default_rng([self.config.seed, self.resets, round(self.config.start_time)])

    def measure(self) -> JointState:
        """One noisy measurement, stamped with the tick."""
        n = len(self.robot.joints)
        noise = self.rng.standard_normal(2 * n) * np.repeat([self.robot.position_noise, self.robot.velocity_noise], n)
        return to_joint_state(self.stamp_ns, self.robot.joints, self.plant.state + noise)

    def publish_sensors(self, tick_s: float) -> None:
        """Real time: the measurement of a tick (by the monotonic clock), published when the sensing delay is over."""
        if self.config.sensing_delay > 0:
            self.outbox.append((tick_s + self.config.sensing_delay, self.stamp_ns, self.measure()))
        else:
            self.sensors.publish(self.measure())

    def empty_outbox(self) -> None:
        """Publish what is due."""
        while self.outbox and self.outbox[0][0] <= time.monotonic():
            self.sensors.publish(self.outbox.popleft()[2])

    def advance(self, end_s: float) -> None:
        """One control period of physics until `end_s`, under the command that was there when it began.

        With an actuation delay, under what acted in each part of it.
        """
        if self.ticks == self.payload_tick:
            self.plant.scale_mass(self.robot.joints[-1], self.config.payload_factor)
            self.get_logger().warning(f"payload: mass of {self.robot.joints[-1]} times {self.config.payload_factor:g}")
        if self.config.actuation_delay > 0:
            for duration, effort in self.dead_time.over(end_s - self.robot.dt, end_s):
                self.plant.step(effort, duration / self.robot.dt)
        else:
            self.plant.step(self.held)
        self.stamp_ns += self.dt_ns
        self.ticks += 1

    # real time

    def on_command(self, message: object) -> None:
        """Hold the command; it acts from the next tick on, as in a bus-synchronous drive, or after its delay."""
        effort = self.output.read(message)
        if effort.shape == self.effort.shape and np.all(np.isfinite(effort)):
            self.effort = np.clip(effort, -self.robot.u_max, self.robot.u_max)
            self.silent_ticks = 0
            self.dead_time.give(time.monotonic(), self.effort)
        else:
            self.get_logger().error(f"command refused: {effort}; expected {self.effort.size} finite numbers")

    def on_timer(self) -> None:
        """One tick of real time; a tick that comes a period late shifts the time base and is counted."""
        if not self.running:
            return
        now = time.monotonic()
        lag = now - self.next_tick
        if lag > self.robot.dt:
            self.late_ticks += 1
            self.stamp_ns += round(1e9 * lag)
            self.next_tick = now
        due = self.next_tick
        self.next_tick += self.robot.dt
        self.silent_ticks += 1
        if self.silent_ticks > self.config.watchdog_ticks:
            self.effort = np.zeros_like(self.effort)
            self.dead_time.give(now, self.effort)
        self.advance(due)
        self.held = self.effort
        self.publish_sensors(due)
        self.ground_truth.publish(to_joint_state(self.stamp_ns, self.robot.joints, self.plant.state))

    # lockstep

    def begin_tick(self) -> None:
        """State out; the tick ends when the command of its stamp and every participant's word are in."""
        self.outbox.append((0.0, self.stamp_ns, self.measure()))
        while len(self.outbox) <= self.sensing_ticks:  # nobody can have seen anything yet
            self.advance(1e-9 * (self.stamp_ns + self.dt_ns))
            self.outbox.append((0.0, self.stamp_ns, self.measure()))
        _, self.awaited_ns, measurement = self.outbox.popleft()
        self.missing = {"command", *PARTICIPANTS}
        self.tick_started = time.monotonic()
        self.clock.publish(Clock(clock=to_time(self.stamp_ns)))
        self.sensors.publish(measurement)

    def on_applied(self, message: JointState) -> None:
        """Take the command of this tick."""
        if self.running and from_time(message.header.stamp) == self.awaited_ns + self.lead_ns:
            self.held = from_command(message, self.robot.actuators)
            self.dead_time.give(1e-9 * self.stamp_ns, self.held)
            self.end_tick("command")

    def on_tick_done(self, message: Header) -> None:
        """A participant has finished this tick."""
        if self.running and from_time(message.stamp) == self.awaited_ns:
            self.end_tick(message.frame_id)

    def end_tick(self, participant: str) -> None:
        """Cross the participant off; step when nobody is missing."""
        if participant in self.missing:
            self.missing.remove(participant)
            if not self.missing:
                self.advance(1e-9 * (self.stamp_ns + self.dt_ns))
                self.begin_tick()

    def check_progress(self) -> None:
        """Lockstep must not hang in silence."""
        if self.running and time.monotonic() - self.tick_started > self.config.step_timeout:
            self.get_logger().fatal(f"no word from {', '.join(sorted(self.missing))} for {self.config.step_timeout} s")
            self.exit_code = 1

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See PipelineNode."""
        return WARN if self.late_ticks else OK, {
            "ticks": self.ticks,
            "late_ticks": self.late_ticks,
            "resets": self.resets,
        }

    def leave(self) -> None:
        """See PipelineNode."""
        self.plant.close()


def whole_periods(name: str, seconds: float, dt: float) -> int:
    """A delay as a number of control periods; ConfigError where it is not a whole one."""
    periods = round(seconds / dt)
    if abs(seconds - periods * dt) > 1e-6:
        raise ConfigError(f"{name}: {seconds} s is not allowed in lockstep; expected a multiple of {dt:g} s")
    return periods


def main() -> int:
    """Entry point of the executable."""
    return run(PyBulletSim)


if __name__ == "__main__":
    sys.exit(main())
