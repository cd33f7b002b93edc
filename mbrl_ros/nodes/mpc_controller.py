"""The controller node: observation in, command and plan out, once a control period."""

import sys
import time
from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Float64MultiArray, String, UInt8MultiArray, UInt64
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.control.adaptation import Adapter
from mbrl_ros.control.controller import LONGEST_GAP, Controller, Tick, periods_missed
from mbrl_ros.control.problem import make_problem
from mbrl_ros.data.pairing import Pair, TransitionPairer
from mbrl_ros.errors import ConfigError, MessageError, ModelRejectedError
from mbrl_ros.models import model_class
from mbrl_ros.models.serialization import ModelHeader, check_size, from_bytes
from mbrl_ros.nodes.conversions import (
    NANOSECONDS,
    from_command,
    from_observation,
    from_time,
    to_command,
    to_scalars,
    to_table,
    to_trajectory,
)
from mbrl_ros.nodes.due_sender import DueSender
from mbrl_ros.nodes.goal_listener import GoalListener
from mbrl_ros.nodes.managed_node import ManagedNode
from mbrl_ros.nodes.managed_parameters import Problems
from mbrl_ros.nodes.pipeline_node import ERROR, LATCHED, OK, WARN, run
from mbrl_ros.nodes.scene_messages import to_candidates
from mbrl_ros.nodes.trial_phase import WORDS, from_phase
from mbrl_ros.planners import planner_class
from mbrl_ros.planners.changing_horizon import ChangingHorizon
from mbrl_ros.policies.smooth_random import SmoothRandom
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.visualisation.candidates import CandidateLog

LATEST_NS = (2**31 - 1) * NANOSECONDS  # what a ROS time can hold
OVERTIME = 1.0  # s beyond the length of a trial after which the controller ends it by itself
LATE_PERIODS = 1.0  # an observation older than this when its turn comes is skipped: its command would be late
AHEAD_PERIODS = 1.0  # an observation that is further ahead is of another clock: its command would be held too long
WAY = 0.002  # s that a command takes to the guard and on

TICKS_KEPT = 200  # ticks over which the planning time is reported


class MpcController(ManagedNode):
    """Runs the base policy until there is a model, then plans through the newest one."""

    what = "planning"

    def __init__(self) -> None:
        super().__init__("mpc_controller")

    def examine(self, problems: Problems) -> None:
        """See ManagedNode."""
        if self.robot is not None and "task" in self.groups:
            with problems:
                make_problem(self.config, self.groups, self.robot)
        if self.robot is not None and self.config.hold_commands and not self.config.lockstep:
            with problems:
                check_delay(self.robot)

    def set_up(self) -> None:
        """See ManagedNode."""
        cfg, robot = self.config, self.robot
        self.dt_ns = round(1e9 * robot.dt)
        self.delay_ticks = robot.delay_ticks(cfg.lockstep)
        problem = make_problem(cfg, self.groups, robot)
        planner = new_planner(cfg, self.groups)
        self.controller = Controller(planner, problem, self.delay_ticks, self.budget(cfg), cfg.mode)
        self.version = self.trial = self.ticks = self.misses = self.rejected = self.skipped = 0
        self.acted_ns = 0  # length of the trial so far
        self.seen_ns: int | None = None  # stamp of its newest observation
        self.ticked_ns: int | None = None  # stamp of the last one that was answered by a command
        self.acting, self.policy = (
            False,
            SmoothRandom(self.groups["policy"], robot.u_min, robot.u_max, 1, np.random.default_rng(0)),
        )
        self.base = True
        self.adapter = Adapter(self.groups["adaptation"], robot.dt)
        self.pairer = TransitionPairer(self.dt_ns, 0)
        self.applied_ns = 0  # stamp of the newest command that was applied
        self.planning_s: deque[float] = deque(maxlen=TICKS_KEPT)
        self.waiting: JointState | None = None  # lockstep: observation whose last command has yet to be heard of
        self.commands = self.publish_to(JointState, "command")
        self.due = DueSender(self.send) if cfg.hold_commands and not cfg.lockstep else None
        if self.due is not None:
            self.at_cleanup.callback(self.due.close)
        self.plans = self.make_publisher(JointTrajectory, "plan", 10)
        self.telemetry = self.publish_to(JointState, "~/telemetry")
        self.scalars = {
            n: self.make_publisher(Float64, f"~/{n}", 10)
            for n in (
                "planning_time",
                "cost",
                "spread",
                "deadline_misses",
                "entropy",
                "disagreement",
                "observation_age",
            )
        }
        self.plan_uncertainty = self.make_publisher(Float64MultiArray, "~/plan_uncertainty", 10)
        self.candidates, self.tried = self.make_publisher(Float64MultiArray, "~/candidates", 1), CandidateLog()
        self.model_version = self.publish_to(UInt64, "~/model_version", LATCHED)
        self.ready = self.publish_to(String, "trial_ready", WORDS)
        self.goal = GoalListener(self)
        self.listen_to(UInt8MultiArray, cfg.model_topic, self.on_model, LATCHED)
        self.listen_to(DiagnosticStatus, "trial", self.on_trial, LATCHED)
        self.listen_to(JointState, "observation", self.on_observation, periodic=True)
        if self.adapter.enabled:
            self.listen_to(JointState, "applied_command", self.on_applied, periodic=True)
        self.warm_up()

    def begin(self) -> None:
        """See ManagedNode; the plan of before a rest is of no use, a trial that was going on still is."""
        self.controller.reset()
        self.waiting = self.ticked_ns = None
        self.goal.publish()
        if not self.acting:
            self.doing("waiting for a trial")

    def rest(self) -> None:
        """See ManagedNode; commands that wait for their moment stay here."""
        if self.due is not None:
            self.due.clear()

    def budget(self, config: Any) -> float:
        """Planning time in s; lockstep has none."""
        return float("inf") if config.lockstep else config.budget * self.robot.dt

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """See ManagedNode; the next tick plans for the new problem, from where the last one has ended."""
        problem = make_problem(config, groups, self.robot)  # nothing changes where this refuses
        super().reconfigure(config, groups)
        self.controller.planner = new_planner(config, groups)
        dynamics = self.prepared(self.controller.problem.dynamics)
        self.controller.problem = problem
        self.controller.use(dynamics)
        self.controller.budget = self.budget(config)
        self.goal.publish()

    def on_model(self, message: UInt8MultiArray) -> None:
        """Check a model now, use it between two ticks; a damaged or older one is refused and the last one stays."""
        try:
            model, header = self.checked_model(message)
        except ModelRejectedError as error:
            self.rejected += 1
            self.get_logger().error(f"model rejected, version {self.version} stays in use: {error}")
            return
        self.controller.use(self.adapter.use(self.prepared(model)))
        self.version = header.version
        self.model_version.publish(UInt64(data=self.version))

    def checked_model(self, message: UInt8MultiArray) -> tuple[Any, ModelHeader]:
        """The model of a message.

        Raises:
            ModelRejectedError: see `from_bytes`, or it is older than the one in use. That one again is taken: it is
                what a learner sends that was killed before it could write down which version it had sent last.
        """
        check_size(len(message.data))
        model, header = from_bytes(bytes(message.data), self.robot.name, self.robot.layout)
        if header.version < self.version:
            raise ModelRejectedError(f"the model has version {header.version}, older than {self.version} in use")
        return model, header

    def prepared(self, model: Any) -> Any:
        """The model as this node's parameters want it used."""
        return model.with_threads(self.config.threads).with_propagation(self.config.propagation)

    def warm_up(self) -> None:
        """Compile and load all that a tick needs, before the robot moves: plan through a model with random weights."""
        cls, rng = model_class(self.config.model), np.random.default_rng(0)
        self.controller.use(self.prepared(cls.example(self.robot.layout, cls.config_class(), rng)))
        x = self.robot.initial_state
        for _ in range(2):
            self.controller.tick(x, rng)
        self.controller.reset(anew=True)

    def on_trial(self, message: DiagnosticStatus) -> None:
        """Take up a phase of the trials and say so."""
        announced = from_phase(message)
        self.trial, self.acting = announced.index, announced.phase == "run"
        self.waiting = None
        self.rest()
        if self.acting:
            self.ticks, self.acted_ns, self.seen_ns, self.ticked_ns = 0, 0, None, None
            self.base = announced.policy == "base"
            self.controller.reset(anew=self.base)  # the base policy begins where the robot knows nothing
            rng = np.random.default_rng([self.config.seed, self.trial])
            low, high = self.robot.u_min, self.robot.u_max
            self.policy = SmoothRandom(self.groups["policy"], low, high, self.robot.trial_steps, rng)
        self.doing(f"trial {self.trial}: {'base policy' if self.base else 'planning'}" if self.acting else "idle")
        self.ready.publish(String(data=f"{self.get_name()} {self.trial} {announced.phase}"))

    def overdue(self) -> bool:
        """Whether the trial should be over: who was to end it may be gone, and the robot must not go on for ever."""
        if self.acted_ns < round(1e9 * (self.robot.trial_steps * self.robot.dt + OVERTIME)):
            return False
        self.acting = False
        self.rest()  # what it would have sent next is of the trial, too
        self.doing(f"trial {self.trial} is overdue: nobody has ended it, the controller has")
        self.get_logger().error(self._doing)
        self.publish_diagnostics()
        return True

    def note_time(self, stamp_ns: int) -> None:
        """Time of the trial by the observations' stamps: it passes where a busy machine skips ticks, too."""
        gap = 0 if self.seen_ns is None else stamp_ns - self.seen_ns
        self.acted_ns += gap if 0 <= gap <= 1e9 * LONGEST_GAP else self.dt_ns
        self.seen_ns = stamp_ns

    def on_observation(self, message: JointState) -> None:
        """One tick of control."""
        if not self.acting:
            return
        stamp_ns = from_time(message.header.stamp)
        if self.waiting is not message:
            self.note_time(stamp_ns)
        if self.overdue():
            return
        self.came = time.monotonic()
        self.age_ns = 0 if self.config.lockstep else time.time_ns() - stamp_ns
        if self.age_ns > LATE_PERIODS * self.dt_ns + self.robot.sensing_ns:
            self.skipped += 1  # a newer observation is waiting
            return
        if self.due is not None and self.age_ns < -AHEAD_PERIODS * self.dt_ns:
            raise MessageError(f"observation: its stamp is {-1e-9 * self.age_ns:.3f} s ahead; do the clocks agree?")
        x = from_observation(message, self.robot.joints, self.robot.base_states)
        if not (0 <= stamp_ns <= LATEST_NS - self.delay_ticks * self.dt_ns and np.all(np.isfinite(x))):
            raise MessageError(
                f"observation: {x.tolist()} at {1e-9 * stamp_ns:g} s; expected finite numbers and a time"
            )
        if self.adapter.enabled and self.waiting is None:
            self.adapt([] if message.header.frame_id else self.pairer.observe(stamp_ns, x))
            if self.config.lockstep and self.ticks and self.applied_ns < stamp_ns - self.dt_ns:
                self.waiting = message  # or it would be left to chance which transitions this tick knows
                return
        self.waiting = None
        act_ns = stamp_ns + self.delay_ticks * self.dt_ns
        self.controller.pass_over(periods_missed(self.ticked_ns, stamp_ns, self.dt_ns))
        self.ticked_ns = stamp_ns
        if self.base or self.version == 0:
            action, tick = self.policy.action(self.ticks), None
            self.controller.note_sent(action)
        else:
            self.watch_candidates()
            tick = self.controller.tick(x, np.random.default_rng([self.config.seed, self.trial, self.ticks]))
            action = tick.action
        self.command(to_command(act_ns, self.robot.actuators, action, interface=self.robot.command_interface))
        self.ticks += 1
        if tick is not None:
            self.publish_candidates()
            self.publish_tick(stamp_ns, act_ns, tick)

    def command(self, message: JointState) -> None:
        """Send the command of a tick so that it acts from its stamp on.

        Most robots act on what they get as soon as they can, so they must not get it sooner than their delay says; the
        simulated ones wait for their tick by themselves.
        """
        if self.due is None:
            self.send(message)
            return
        dead_time = self.robot.delay.actuation_s if self.robot.delay else 0.0
        # By the clock that nobody sets: by the other one a command could be held for hours, and then be in time again.
        planned = time.monotonic() - self.came
        self.due.put(1e-9 * (self.delay_ticks * self.dt_ns - self.age_ns) - planned - dead_time - WAY, message)

    def send(self, message: JointState) -> None:
        """Publish a command."""
        self.commands.publish(message)
        self.note_sent("command")

    def watch_candidates(self) -> None:
        """Have the planner tell what it tries while somebody wants to know; otherwise nothing is kept."""
        watcher = self.tried if self.candidates.get_subscription_count() else None
        if self.controller.problem.on_evaluated is not watcher:
            self.controller.problem = replace(self.controller.problem, on_evaluated=watcher)

    def publish_candidates(self) -> None:
        """Publish some of what this tick has tried, after the command."""
        if self.controller.problem.on_evaluated is not None and (tried := self.tried.take()) is not None:
            self.candidates.publish(to_candidates(tried))

    def on_applied(self, message: JointState) -> None:
        """Learn what was really applied: it completes a transition."""
        self.applied_ns = from_time(message.header.stamp)
        u = from_command(message, self.robot.actuators, self.robot.command_interface)
        self.adapt(self.pairer.apply(self.applied_ns, u, message.header.frame_id))
        if self.waiting is not None:
            self.on_observation(self.waiting)

    def adapt(self, pairs: list[Pair]) -> None:
        """Use the model that the newest transitions make likely."""
        model = self.adapter.take(pairs)
        if model is not None:
            self.controller.use(self.prepared(model))  # parameters may have changed since its fit

    def publish_tick(self, stamp_ns: int, act_ns: int, tick: Tick) -> None:
        """Publish the plan and the figures of a tick, after the command."""
        self.misses += tick.missed
        self.planning_s.append(tick.seconds)
        model: Any = self.controller.problem.dynamics
        known = model.uncertainty(tick.states[:-1], tick.actions)
        values = {
            "planning_time": tick.seconds,
            "cost": tick.plan.cost,
            "spread": tick.spread,
            "entropy": known.entropy[0],
            "disagreement": known.disagreement[0],
            "aleatoric_std": np.sqrt(known.aleatoric[0].mean()),
            "epistemic_std": np.sqrt(known.epistemic[0].mean()),
            "deadline_missed": float(tick.missed),
            "cut_short": float(tick.missed and not tick.plan.complete),
            "deadline_misses": float(self.misses),
            "rounds": float(tick.plan.rounds),
            "rounds_allowed": float(tick.allowed),
            "model_version": float(self.version),
            "observation_age": 1e-9 * self.age_ns,
        }
        self.telemetry.publish(to_scalars(stamp_ns, values))
        for name, publisher in self.scalars.items():
            publisher.publish(Float64(data=values[name]))
        columns = {
            "entropy": known.entropy,
            "disagreement": known.disagreement,
            **self.per_entry("aleatoric_std", known.aleatoric),
            **self.per_entry("epistemic_std", known.epistemic),
        }
        self.plan_uncertainty.publish(to_table(columns))
        robot = self.robot
        states, actions = tick.states, tick.actions
        self.plans.publish(
            to_trajectory(act_ns, robot.dt, robot.joints, states, robot.actuators, actions, robot.base_states)
        )

    def per_entry(self, what: str, variance: np.ndarray) -> dict[str, np.ndarray]:
        """Standard deviations from variances (H, ny), by the names of the learned entries."""
        names = [self.robot.layout.state[i] for i in self.robot.layout.learned]
        return {f"{what}/{name}": np.sqrt(column) for name, column in zip(names, variance.T, strict=True)}

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        level = ERROR if self.rejected else WARN if self.misses or self.skipped else OK
        p50, p99 = np.percentile(self.planning_s, [50, 99]) if self.planning_s else (np.nan, np.nan)
        return level, {
            "model_version": self.version,
            "deadline_misses": self.misses,
            "planning_ms_p50": f"{1e3 * p50:.2f}",
            "planning_ms_p99": f"{1e3 * p99:.2f}",
            "budget_ms": f"{1e3 * self.controller.budget:.2f}",
            "observations_skipped": self.skipped,
            "models_rejected": self.rejected,
            "goal": self.goal.text(),
        }


def new_planner(config: Any, groups: dict[str, Any]) -> ChangingHorizon:
    """The planner that the parameters name; what a planner remembers is kept by the controller."""
    return ChangingHorizon(planner_class(config.planner)(groups[config.planner]))


def check_delay(robot: RobotDescription) -> None:
    """Commands can be held only where one knows how long they need to act.

    Raises:
        ConfigError: the robot's YAML does not say it.
    """
    if robot.delay is None:
        raise ConfigError(
            f"hold_commands: true is not allowed for {robot.name}, whose delay is not stated; "
            "expected false, or a delay as `mbrl_ros identify delay` finds it"
        )


def main() -> int:
    """Entry point of the executable."""
    return run(MpcController)


if __name__ == "__main__":
    sys.exit(main())
