"""Runs the controller on the recorded observations and models: the same commands?

Each tick plans with the model version, the observation and the random numbers that the recorded one had, and with what
the ticks before it have left behind. Where a deadline cut the planning short, the replay stops after as many rounds, so
that what the planner remembers stays the same.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_ros.control.adaptation import Adapter
from mbrl_ros.control.controller import Controller, periods_missed
from mbrl_ros.control.problem import make_problem
from mbrl_ros.data.pairing import TransitionPairer
from mbrl_ros.planners import planner_class
from mbrl_ros.planners.base import Deadline, Plan, Problem
from mbrl_ros.planners.changing_horizon import ChangingHorizon
from mbrl_ros.policies.smooth_random import SmoothRandom
from mbrl_ros.replay.differences import Differences, compare, spread
from mbrl_ros.replay.recording import Phase, Recording, Stamped
from mbrl_ros.robots.description import RobotDescription

LATEST_NS = 2**63 - 1
REFINEMENTS = 3  # times that a planner may ask after its rounds
Configured = tuple[Any, dict[str, Any]]  # `graph.ControllerConfig` and its groups


@dataclass(frozen=True)
class PlannerResult:
    """How the replayed commands differ from the recorded ones.

    Attributes:
        base: ticks of the base policy, compared, too.
        planned: ticks that planned, those that were cut short left out.
        cut: stamps in ns of ticks that the deadline cut short; they are not part of `differences`.
        cut_differences: of those ticks.
        lost: stamps of ticks whose observation or model the bag lacks.
        ending: stamps of ticks at the very end, of which a recording that was killed has the command only.
        differences: of the commands, by the stamp of the tick's observation.
    """

    base: int
    planned: int
    cut: list[int]
    cut_differences: Differences
    lost: list[int]
    ending: list[int]
    differences: Differences

    @property
    def agrees(self) -> bool:
        """Whether no command differs by more than the tolerance."""
        return not (self.lost or self.differences.beyond)


class RecordedRounds(Deadline):
    """Allows as many rounds as there were; None allows all."""

    def __init__(self, rounds: int | None) -> None:
        super().__init__()
        self._left = rounds

    def allows_round(self) -> bool:
        """See `Deadline`."""
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0


@dataclass(frozen=True)
class Cut:
    """A tick that the deadline cut short.

    Attributes:
        rounds: that its plan has finished.
        action: its command (nu,).
        allowed: rounds that the deadline allowed; None in a recording from before they were told.
    """

    rounds: int
    action: np.ndarray
    allowed: int | None = None


def cut_of(figures: Mapping[str, float], action: np.ndarray) -> Cut:
    """What the figures of a tick and its command (nu,) say of where it was cut short."""
    allowed = figures.get("rounds_allowed")
    return Cut(int(figures["rounds"]), action, None if allowed is None else int(allowed))


class RecordedPlanner(ChangingHorizon):
    """The planner as the controller's node has it, with the time that the recorded one had.

    Old recordings do not say how often the planner was allowed to go on: its plan's rounds do not count what refines
    it at the end. There a cut plan is tried with as many rounds and with a few more; the first that gives the recorded
    command is the one.

    Attributes:
        cut: where the next plan was cut short; None where it was not.
    """

    cut: Cut | None = None

    def plan(
        self, problem: Problem, x0: np.ndarray, state: Any, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, Any]:
        """See `Planner.plan`."""
        if self.cut is None:
            return super().plan(problem, x0, state, rng, RecordedRounds(None))
        if self.cut.allowed is not None:
            return super().plan(problem, x0, state, rng, RecordedRounds(self.cut.allowed))
        first = None
        for rounds in (*range(self.cut.rounds, self.cut.rounds + REFINEMENTS + 1), None):
            tried = super().plan(problem, x0, copy.deepcopy(state), copy.deepcopy(rng), RecordedRounds(rounds))
            if np.allclose(tried[0].actions[0], self.cut.action, rtol=1e-9, atol=1e-12):
                return tried
            first = first or tried
        assert first is not None
        return first


def replay_planner(
    recording: Recording,
    robot: RobotDescription,
    configured: Callable[[int], Configured],
    *,
    lockstep: bool,
    tolerance: float,
) -> PlannerResult:
    """Plan anew and compare the commands.

    Args:
        recording: what was recorded.
        robot: whose.
        configured: time in ns -> the controller's parameters then.
        lockstep: whether the run was in lockstep.
        tolerance: as a share of each command's range.
    """
    replay = PlannerReplay(recording, robot, configured, lockstep)
    for phase, commands in by_trial(recording):
        replay.run_trial(phase, commands)
    size = robot.layout.nu
    unit = robot.u_max - robot.u_min
    recorded = replay.recorded
    unit = np.where(np.isfinite(unit), unit, spread(list(recorded.values()), size))
    cut = {s for s in replay.cut if s in replay.made}

    def differences(stamps: set[int]) -> Differences:
        theirs, ours = ({s: values[s] for s in stamps} for values in (recorded, replay.made))
        return compare(robot.actuators, theirs, ours, unit, tolerance)

    return PlannerResult(
        base=len(replay.base),
        planned=len(replay.made.keys() - cut - replay.base),
        cut=sorted(cut),
        cut_differences=differences(cut),
        lost=sorted(replay.lost),
        ending=sorted(replay.ending),
        differences=differences(replay.made.keys() - cut),
    )


def by_trial(recording: Recording) -> list[tuple[Phase, list[Stamped]]]:
    """Each beginning of a trial with the commands that were sent until the next phase."""
    ends = [phase.time_ns for phase in recording.phases[1:]] + [np.inf]
    return [
        (phase, [c for c in recording.commands if phase.time_ns <= c.time_ns < end])
        for phase, end in zip(recording.phases, ends, strict=True)
        if phase.phase == "run"
    ]


class PlannerReplay:
    """The controller's node without ROS.

    Attributes:
        recorded: stamp in ns of the observation -> command (nu,) that was recorded.
        made: the same of the replay.
        base: stamps of ticks of the base policy.
        cut: stamps of ticks that the deadline cut short.
        lost: stamps of ticks that cannot be replayed.
        ending: stamps of ticks after the last observation, or in a planned trial after the last figures.
    """

    def __init__(
        self, recording: Recording, robot: RobotDescription, configured: Callable[[int], Configured], lockstep: bool
    ) -> None:
        self.recording, self.robot, self.configured = recording, robot, configured
        self.lockstep, self.delay_ticks = lockstep, robot.delay_ticks(lockstep)
        self.dt_ns = round(1e9 * robot.dt)
        self.observed = {o.stamp_ns: o for o in recording.observations}
        self.applied = sorted(recording.applied, key=lambda a: a.stamp_ns)
        self.config, self.groups = configured(0)
        self.controller = self.new_controller()
        self.adapter = Adapter(self.groups["adaptation"], robot.dt)
        self.pairer = TransitionPairer(self.dt_ns, 0)
        self.version = 0
        self.recorded: dict[int, np.ndarray] = {}
        self.made: dict[int, np.ndarray] = {}
        self.base: set[int] = set()
        self.cut: set[int] = set()
        self.lost: set[int] = set()
        self.ending: set[int] = set()

    def new_controller(self) -> Controller:
        """The controller as its node sets it up."""
        problem = make_problem(self.config, self.groups, self.robot)
        return Controller(self.new_planner(), problem, self.delay_ticks, float("inf"), self.config.mode)

    def new_planner(self) -> RecordedPlanner:
        """The planner that the parameters name."""
        return RecordedPlanner(planner_class(self.config.planner)(self.groups[self.config.planner]))

    def run_trial(self, phase: Phase, commands: list[Stamped]) -> None:
        """One trial: the controller begins anew."""
        self.controller.reset(anew=phase.policy == "base")
        rng = np.random.default_rng([self.config.seed, phase.index])
        low, high = self.robot.u_min, self.robot.u_max
        policy = SmoothRandom(self.groups["policy"], low, high, self.robot.trial_steps, rng)
        before_ns: int | None = None
        for tick, command in enumerate(commands):
            stamp_ns = command.stamp_ns - self.delay_ticks * self.dt_ns
            self.follow_changes(self.taken_up(command, stamp_ns))
            if stamp_ns > self.end_of(phase):
                self.ending.add(stamp_ns)
                continue
            self.recorded[stamp_ns] = command.values
            self.controller.pass_over(periods_missed(before_ns, stamp_ns, self.dt_ns))
            before_ns = stamp_ns
            if stamp_ns not in self.recording.ticks:
                self.adapt(stamp_ns)
                self.base.add(stamp_ns)
                self.made[stamp_ns] = policy.action(tick)
                self.controller.note_sent(self.made[stamp_ns])
            else:
                self.plan(stamp_ns, phase.index, tick)

    def taken_up(self, command: Stamped, stamp_ns: int) -> int:
        """When the tick `stamp_ns` of a command began, in ns: what was sent when it was due was planned before."""
        age = self.recording.ticks.get(stamp_ns, {}).get("observation_age")
        if self.lockstep or age is None:
            return command.time_ns
        return min(command.time_ns, stamp_ns + round(1e9 * age))

    def end_of(self, phase: Phase) -> int:
        """Stamp of the last tick of which there is all that a replay needs."""
        ticks = self.recording.ticks if phase.policy == "mpc" else {}
        return min(max(self.observed, default=0), max(ticks, default=LATEST_NS))

    def plan(self, stamp_ns: int, trial: int, tick: int) -> None:
        """One tick that plans."""
        figures = self.recording.ticks[stamp_ns]
        version = int(figures["model_version"])
        if stamp_ns not in self.observed or version not in self.recording.models:
            self.lost.add(stamp_ns)
            return
        self.use(version)
        self.adapt(stamp_ns)
        missed = figures.get("deadline_missed", 0.0) == 1.0
        planner = self.controller.planner
        assert isinstance(planner, RecordedPlanner)
        planner.cut = cut_of(figures, self.recorded[stamp_ns]) if missed else None
        rng = np.random.default_rng([self.config.seed, trial, tick])
        self.made[stamp_ns] = self.controller.tick(self.observed[stamp_ns].values, rng).action
        if missed:
            self.cut.add(stamp_ns)

    def use(self, version: int) -> None:
        """Take up the model that the recorded tick has used."""
        if version != self.version:
            model = self.recording.models[version].model
            self.controller.use(self.adapter.use(self.prepared(model)))
            self.version = version

    def prepared(self, model: Any) -> Any:
        """The model as the parameters of this moment want it used."""
        return model.with_threads(self.config.threads).with_propagation(self.config.propagation)

    def follow_changes(self, time_ns: int) -> None:
        """Take up parameters that were changed before a command was sent."""
        config, groups = self.configured(time_ns)
        if (config, groups) == (self.config, self.groups):
            return
        self.config, self.groups = config, groups
        dynamics: Any = self.controller.problem.dynamics
        self.controller.planner = self.new_planner()
        self.controller.problem = make_problem(config, groups, self.robot)
        self.controller.use(dynamics if dynamics is None else self.prepared(dynamics))

    def adapt(self, stamp_ns: int) -> None:
        """Use the model that the transitions before this tick make likely."""
        if not self.adapter.enabled:
            return
        pairs = []
        while self.applied and self.applied[0].stamp_ns < stamp_ns:
            command = self.applied.pop(0)
            pairs += self.pairer.apply(command.stamp_ns, command.values, command.remark)
        observed = self.observed.get(stamp_ns)
        if observed is not None and not observed.remark:
            pairs += self.pairer.observe(stamp_ns, observed.values)
        model = self.adapter.take(pairs)
        if model is not None:
            self.controller.use(self.prepared(model))
