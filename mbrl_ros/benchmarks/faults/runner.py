"""``mbrl_ros bench faults``: runs the matrix on the live graph, one row a fault, the worst of its repeats."""

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mbrl_ros.benchmarks.faults.actions import Flood, Kill, Scene, wait_for
from mbrl_ros.benchmarks.faults.catalogue import Fault, catalogue
from mbrl_ros.benchmarks.faults.live_graph import LiveGraph, is_kinematic
from mbrl_ros.benchmarks.faults.recording import (
    PASSED,
    STILL,
    Recording,
    first_limp,
    first_safe,
    first_still,
    out_of_bounds,
    reason_for,
)
from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.transport import dds_environment

DOMAIN = 79  # ROS domain of the graph where none is given
START_TIMEOUT = 120.0  # s until the robot moves for the first time, and in its window for the next fault
RECOVERY_TIMEOUT = 60.0  # s from the end of a fault; a trial without a simulator is given up after 17 s
SETTLED = 0.3  # s before a fault in which the guard passes on every command
MOVING = 8  # commands passed on within the last second before a fault
RECOVERED = 10  # commands passed on after it
SWIFT = 5.0  # times the speed of standing still: how a robot must move before its drive loses the guard
LOOK_BACK = 3.0  # s in which what the diagnostics said is nothing new
RANDOM = 0.3  # s, spread of the moment of a fault beside what waiting brings


@dataclass
class Row:
    """What one fault led to.

    Attributes:
        fault: its name.
        safe: only finite commands within the limits, the safe action in time and its reason published where due.
        time_to_safe_s: from the fault to the first safe action at the actuators; None where none is due, or none came.
        control_periods: the same in control periods.
        ticks: the same in ticks of the simulator that were heard of meanwhile: on a machine that stands still both do.
        recovered: commands pass and transitions are stored again, and no other process has ended.
        transitions_lost: that the learner had acknowledged and the store has not.
        reason: what was published.
        load: of the machine (one minute) when the fault began.
        allowed_periods: within which the safe action was due; 0: none was.
        recovery_s: from the end of the fault until the robot moved again and was learned from.
        flags: of the guard during the fault.
        problem: what is wrong, in words; empty where nothing is.
    """

    fault: str
    safe: bool = False
    time_to_safe_s: float | None = None
    control_periods: float | None = None
    ticks: int | None = None
    recovered: bool = False
    transitions_lost: int = 0
    reason: str = ""
    load: float = 0.0
    allowed_periods: float = 0.0
    recovery_s: float | None = None
    flags: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    repeats: int = 1


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Run the faults, print a row each, write JSON where asked; 1 where one was not safe or lost something."""
    robot = load_robot(arguments.robot)
    faults = chosen(arguments.only, robot)
    if arguments.list:
        print("\n".join(fault.name for fault in faults))
        return 0
    print(HEADER, flush=True)
    rows: list[Row] = []
    rng = np.random.default_rng(arguments.seed)
    for variant, group in itertools.groupby(faults, key=lambda f: f.variant):
        for row in run_variant(variant, list(group), arguments.repeats, rng, arguments.robot):
            rows.append(row)
            print(format_row(row), flush=True)
            if arguments.json is not None:
                arguments.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    bad = [row.fault for row in rows if not row.safe or not row.recovered or row.transitions_lost]
    print(
        f"{len(rows) - len(bad)} of {len(rows)} faults: safe, recovered, nothing lost"
        + "".join(f"\n  {b}" for b in bad)
    )
    return 1 if bad else 0


def chosen(only: Sequence[str] | None, robot: RobotDescription) -> list[Fault]:
    """The faults of a robot whose name has one of the words in it.

    Raises:
        ConfigError: there is none; lists all.
    """
    faults = catalogue(robot)
    found = [f for f in faults if not only or any(word in f.name for word in only)]
    if not found:
        raise ConfigError(
            f"no fault has {' or '.join(only or ())} in its name; there are: {', '.join(f.name for f in faults)}"
        )
    return found


def run_variant(
    variant: str, faults: Sequence[Fault], repeats: int, rng: np.random.Generator, robot: str = "cartpole"
) -> Iterator[Row]:
    """The rows of the faults of one variant of a robot's graph."""
    left = list(faults)
    while left:
        with stage(variant, robot) as (scene, observer):
            while left:
                rows = [one_row(left[0], scene, observer, rng) for _ in range(repeats)]
                del left[0]
                yield worst(rows)
                if not rows[-1].recovered:
                    break  # the next faults get a graph that works


@contextmanager
def stage(variant: str, robot: str) -> Iterator[tuple[Scene, "Recording"]]:
    """A graph whose robot is moving, and the nodes that break and watch it."""
    os.environ.update({"ROS_DOMAIN_ID": str(DOMAIN)} | dds_environment(os.environ))
    from mbrl_ros.nodes.fault_observer import FaultObserver, Served
    from mbrl_ros.nodes.fault_relay import FaultRelay, Operator, Stranger

    with tempfile.TemporaryDirectory(prefix="mbrl_ros_faults_") as folder:
        graph = LiveGraph(variant, Path(folder), robot)
        breaking, watching = Served(), Served()
        try:
            observer = watching.add(FaultObserver(graph.robot, watching.context))
            relay = breaking.add(FaultRelay(graph.robot, breaking.context)) if variant == "relay" else None
            stranger = breaking.add(Stranger(graph.robot, breaking.context)) if variant != "relay" else None
            operator = breaking.add(Operator(breaking.context))
            for served in (breaking, watching):
                served.start()
            yield Scene(graph, relay, stranger, operator), observer.recording
        finally:
            graph.stop()
            for served in (breaking, watching):
                served.close()


def one_row(fault: Fault, scene: Scene, seen: Recording, rng: np.random.Generator) -> Row:
    """One fault from the robot's motion before it to its motion after it."""
    row = Row(fault.name, allowed_periods=fault.periods)
    moment = time.monotonic() + rng.uniform(0.0, RANDOM)
    if not wait_for(lambda: time.monotonic() > moment and in_window(fault, seen), START_TIMEOUT):
        row.problem = f"the robot did not move before the fault; dead: {scene.graph.dead()}"
        return row
    seen.forget(time.monotonic() - LOOK_BACK)
    before, row.load = scene.graph.stored(), round(os.getloadavg()[0], 1)
    began = time.monotonic()
    fault.action.begin(scene)
    time.sleep(fault.seconds)
    died = {name: how for name, how in scene.graph.dead().items() if name != getattr(fault.action, "node", "")}
    ended = time.monotonic()
    still_latched = not fault.latched or seen.passed_since(ended - 0.5) == 0
    fault.action.end(scene)
    judge(row, fault, scene, seen, began, ended)
    recover(row, fault, scene, seen, time.monotonic())
    died |= scene.graph.dead()
    lost = before - scene.graph.stored()
    row.transitions_lost = len(lost) + max(0, seen.acknowledged - len(scene.graph.stored()))
    row.recovered &= not died and still_latched
    row.problem = "; ".join(
        filter(None, [row.problem, f"died: {died}" if died else "", "" if still_latched else "it did not stay stopped"])
    )
    return row


def in_window(fault: Fault, seen: Recording) -> bool:
    """Whether the robot moves and its trial is at the right point."""
    age = time.monotonic() - seen.trial_began
    low, high = fault.window
    now = time.monotonic()
    undisturbed = set(seen.flags(now - SETTLED)) <= {*PASSED}
    if fault.drive and not swift(seen):
        return False  # its standing still would tell nothing
    return seen.phase == "run" and low <= age <= high and undisturbed and seen.passed_since(now - 1.0) >= MOVING


def swift(seen: Recording) -> bool:
    """Whether some joint, or the base, is well above what counts as standing still."""
    x = seen.truth[-1][2] if seen.truth else np.zeros(2)
    return bool(np.any(np.abs(x[len(x) // 2 :]) > SWIFT * STILL))


def judge(row: Row, fault: Fault, scene: Scene, seen: Recording, began: float, ended: float) -> None:
    """Hold what was seen during the fault against what is expected."""
    robot = scene.graph.robot
    commands = list(seen.actuators)
    texts = {text for t, text in list(seen.said) if t < began}
    news = [(t, text) for t, text in list(seen.said) if text not in texts]
    row.flags = seen.flags(began, ended)
    row.reason = reason_for(news, row.flags, began, fault.said)
    during = [command for command in commands if command[0] < ended]
    if fault.drive and is_kinematic(robot):
        seconds = first_still(list(seen.truth), began)
    elif fault.drive:
        seconds = first_limp(list(seen.truth), without_force, began)
    else:
        held = {values for _, values in list(seen.held)} if robot.command_interface == "position" else None
        seconds = first_safe(during, began, fault.lasting, held)
    if fault.periods and seconds is not None:
        row.time_to_safe_s, row.control_periods = round(seconds, 4), round(seconds / robot.dt, 2)
        row.ticks = sum(began <= t <= began + seconds for t, _, _ in list(seen.truth))
    problems = [beyond_range(commands, robot)]
    if fault.periods and row.control_periods is None:
        problems.append("no safe action came")
    elif fault.periods and row.control_periods is not None and row.control_periods > fault.periods:
        problems.append(f"the safe action came after {row.control_periods} periods; allowed are {fault.periods:g}")
    if isinstance(fault.action, Flood) and not scene.stranger.sent:
        problems.append("no damaged message was sent")
    if fault.said and not row.reason:
        problems.append(f"nothing was published with '{fault.said}' in it")
    row.problem = "; ".join(filter(None, problems))
    row.safe = not row.problem


def beyond_range(commands: Sequence[tuple[float, tuple[float, ...]]], robot: RobotDescription) -> str:
    """See `out_of_bounds`, for what a robot may be sent."""
    return out_of_bounds(commands, robot.u_min.tolist(), robot.u_max.tolist())


def without_force(x: np.ndarray, seconds: float, steps: int = 20) -> np.ndarray:
    """The cart-pole after some time in which nothing pushes it (Runge-Kutta of order 4)."""
    h = seconds / steps

    def f(y: np.ndarray) -> np.ndarray:
        return np.array(derivative(y, (0.0,)))

    for _ in range(steps):
        a = f(x)
        b = f(x + 0.5 * h * a)
        c = f(x + 0.5 * h * b)
        x = x + h / 6.0 * (a + 2.0 * b + 2.0 * c + f(x + h * c))
    return x


def recover(row: Row, fault: Fault, scene: Scene, seen: Recording, healed: float) -> None:
    """Wait until commands pass again and are learned from; without a trial manager, in a trial of the new one."""
    stored = len(scene.graph.stored())
    new_trial = fault.action == Kill("trial_manager")

    def again() -> bool:
        since = seen.trial_began if new_trial else healed
        return since >= healed and seen.passed_since(since) >= RECOVERED and len(scene.graph.stored()) > stored

    row.recovered = wait_for(lambda: again() or bool(scene.graph.dead()), RECOVERY_TIMEOUT) and again()
    row.recovery_s = round(time.monotonic() - healed, 2) if row.recovered else None
    row.safe &= not (beyond := beyond_range(list(seen.actuators), scene.graph.robot))
    row.problem = "; ".join(filter(None, dict.fromkeys([row.problem, beyond])))


def worst(rows: Sequence[Row]) -> Row:
    """One row for the repeats of a fault: the slowest, and whatever went wrong in any of them."""
    slowest = max(rows, key=lambda r: (bool(r.problem), r.control_periods or 0.0))
    slowest.safe, slowest.recovered = all(r.safe for r in rows), all(r.recovered for r in rows)
    slowest.transitions_lost, slowest.repeats = sum(r.transitions_lost for r in rows), len(rows)
    slowest.recovery_s = max((r.recovery_s for r in rows if r.recovery_s is not None), default=None)
    return slowest


HEADER = f"{'fault':36}  {'safe':4}  {'ms':>6}  {'periods':>7}  {'recovered':>10}  {'lost':>4}  {'load':>4}  reason"


def format_row(row: Row) -> str:
    """One row as text."""
    ms = "-" if row.time_to_safe_s is None else f"{1e3 * row.time_to_safe_s:.0f}"
    periods = "-" if row.control_periods is None else f"{row.control_periods:.2f}"
    recovered = f"{row.recovery_s:.1f} s" if row.recovered and row.recovery_s is not None else "no"
    said = " ".join((row.problem or row.reason).split())[:110]
    return (
        f"{row.fault:36}  {'yes' if row.safe else 'NO':4}  {ms:>6}  {periods:>7}  {recovered:>10}  "
        f"{row.transitions_lost:>4}  {row.load:>4.1f}  {said}"
    )
