"""How a recording is judged: bounds, the first safe action, the limp drive, the reason."""

import numpy as np
import pytest

from mbrl_ros.benchmarks.faults.catalogue import BESIDE, CONTROL, catalogue, needed
from mbrl_ros.benchmarks.faults.live_graph import BESIDE_GRAPH, LINK, VARIANTS
from mbrl_ros.benchmarks.faults.recording import (
    Recording,
    first_limp,
    first_safe,
    first_still,
    out_of_bounds,
    reason_for,
)
from mbrl_ros.benchmarks.faults.runner import Row, chosen, format_row, swift, without_force, worst
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import GRAPH
from mbrl_ros.resources import share_directory
from mbrl_ros.robots.cartpole_equations import derivative
from mbrl_ros.robots.description import load_robot

DT = 0.05
CARTPOLE = load_robot("cartpole")
EXAMPLES = share_directory() / "config" / "robots" / "examples"
ARM, BASE, JOINT = (load_robot(str(EXAMPLES / f"{name}.yaml")) for name in ("arm", "base", "joint"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((10.0,), ""),
        ((-10.0,), ""),
        ((10.1,), "allowed"),
        ((np.nan,), "allowed"),
        ((-np.inf,), "allowed"),
        ((), "0 values"),
    ],
)
def test_only_finite_commands_within_the_limits_are_in_bounds(values, said):
    found = out_of_bounds([(0.0, (1.0,)), (1.0, values)], [-10.0], [10.0])
    assert (said in found) if said else not found


def test_the_first_safe_action_comes_after_the_fault():
    commands = [(0.0, (0.0,)), (1.0, (3.0,)), (1.2, (0.0,)), (1.3, (2.0,)), (1.5, (0.0,)), (1.6, (0.0,))]
    assert first_safe(commands, 1.0, lasting=False) == pytest.approx(0.2)
    assert first_safe(commands, 1.0, lasting=True) == pytest.approx(0.5), "moving on in between does not count"
    assert first_safe(commands[:2], 1.0, lasting=False) is None
    assert first_safe(commands[:4], 1.0, lasting=True) is None


def test_each_side_of_a_range_counts():
    assert not out_of_bounds([(0.0, (0.3, -1.0))], [0.2, -1.5], [2.4, 1.5])
    assert "0.1" in out_of_bounds([(0.0, (0.1, -1.0))], [0.2, -1.5], [2.4, 1.5])
    assert "1.6" in out_of_bounds([(0.0, (0.3, 1.6))], [0.2, -1.5], [2.4, 1.5])


def test_a_held_position_is_the_safe_action_where_positions_are_commanded():
    """Zero is a position like any other there, and a way on."""
    values = [(0.1, 0.5), (0.0, 0.0), (0.2, 0.5), (0.2, 0.5), (0.3, 0.5), (0.35, 0.5), (0.35, 0.5), (0.35, 0.5)]
    commands = [(0.1 * i, v) for i, v in enumerate(values)]
    assert first_safe(commands, 0.05, lasting=False, held=()) == pytest.approx(0.15)
    assert first_safe(commands, 0.05, lasting=True, held=()) == pytest.approx(0.45)
    assert first_safe(commands, 0.05, lasting=False, held={(0.0, 0.0)}) == pytest.approx(0.05), "the guard holds it"
    assert first_safe(commands, 0.05, lasting=False) == pytest.approx(0.05), "where efforts are commanded zero is"
    assert first_safe([(0.1 * i, (0.1 * i,)) for i in range(9)], 0.0, lasting=True, held=()) is None


def test_a_robot_stands_still_when_all_that_moves_is_slow_for_a_while():
    def seen(velocities):
        return [(DT * i, 0.0, np.array([5.0, 5.0, 0.001, v])) for i, v in enumerate(velocities)]

    assert first_still(seen([1.0, 0.0, -0.5, 0.01, -0.01, 0.0, 0.0, 0.0]), 0.01) == pytest.approx(3 * DT - 0.01)
    assert first_still(seen([1.0, 0.0, 0.0, 0.0, 0.0, -0.5]), 0.0) is None
    assert first_still(seen([0.03] * 9), 0.0) is None


def test_who_stands_still_already_is_not_waited_for():
    assert not swift(Recording())
    for velocity, moves in ((0.5, True), (-0.5, True), (0.03, False)):
        truth = [(0.0, 0.0, np.array([3.0, 3.0, 0.9, 0.9])), (1.0, 1.0, np.array([3.0, 3.0, 0.0, velocity]))]
        assert swift(Recording(truth=truth)) == moves


def motion(forces):
    """Time, stamp and state of a cart-pole under a force a period, by small Euler steps."""
    x, truth = np.array([0.0, 3.0, 0.5, 0.2]), []
    for i, force in enumerate([*forces, 0.0]):
        truth.append((i * DT + 0.003, i * DT, x.copy()))
        for _ in range(5000):
            x = x + DT / 5000 * np.array(derivative(x, (force,)))
    return truth


def test_a_limp_drive_shows_in_the_motion():
    truth = motion([5.0] * 4 + [0.0] * 8)
    assert first_limp(truth, without_force, 0.1) == pytest.approx(4 * DT + 0.003 - 0.1)
    assert first_limp(motion([5.0] * 4 + [0.0] * 8 + [-1.0] * 3), without_force, 0.1) is not None
    assert first_limp(motion([5.0, -1.0] * 6), without_force, 0.1) is None
    lossy = [truth[i] for i in (0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12)]
    assert first_limp(lossy, without_force, 0.1) == pytest.approx(4 * DT + 0.003 - 0.1), "a lost message is no force"


def test_the_reason_is_new_and_the_words_count_in_their_order():
    said = [(0.0, "guard: no command"), (2.0, "guard: timeout: 3"), (3.0, "guard: reason: no command for 2.1 periods")]
    assert reason_for(said, {}, 1.0, "no command|timeout") == said[2][1]
    assert reason_for(said[:1], {"timeout": 3}, 1.0, "no command|timeout") == "flag timeout"
    assert reason_for(said[:1], {"ok": 3}, 1.0, "no command|timeout") == ""
    assert reason_for(said, {"ok": 3}, 1.0, "") == ""


def test_a_recording_forgets_and_counts():
    seen = Recording(applied=[(0.0, "ok"), (1.0, "ok"), (2.0, "timeout"), (3.0, "late")])
    assert (seen.passed_since(1.0), seen.flags(1.0, 2.0)) == (2, {"ok": 1, "timeout": 1})
    seen.forget(2.0)
    assert seen.flags(0.0) == {"timeout": 1, "late": 1}


def test_the_worst_of_the_repeats_is_told():
    rows = [
        Row("f", safe=True, control_periods=2.0, time_to_safe_s=0.1, recovered=True),
        Row("f", safe=True, control_periods=2.5, time_to_safe_s=0.125, recovered=True, transitions_lost=1),
        Row("f", safe=False, problem="why", recovered=True),
    ]
    row = worst(rows[:2])
    assert (row.safe, row.control_periods, row.transitions_lost, row.repeats) == (True, 2.5, 1, 2)
    assert not worst(rows).safe
    assert "NO" in format_row(worst(rows))
    assert "why" in format_row(worst(rows))


def test_the_catalogue_has_what_was_asked_for():
    names = [fault.name for fault in catalogue(CARTPOLE)]
    assert len(set(names)) == len(names)
    assert {f.variant for f in catalogue(CARTPOLE)} == set(VARIANTS)
    for node in (*(spec.name for spec in GRAPH), LINK, *BESIDE_GRAPH):
        assert f"kill {node}" in names
    for topic in ("joint_states", *CONTROL, *BESIDE):
        for kind in ("silent", "delayed", "duplicated", "out of order", "ten times"):
            assert f"{topic}: {kind}" in names
    for fault in ("model: older", "disk full: model_learner", "every core busy", "joint_states: stamps -10 s"):
        assert fault in names
    for kind in ("nan", "infinity", "sizes", "names", "numbers"):
        assert {f"{topic}: {kind}" for topic in ("joint_states", *CONTROL)} <= set(names)


def test_the_safe_action_is_due_where_the_robot_may_not_move():
    due = {fault.name for fault in catalogue(CARTPOLE) if fault.periods}
    assert {"kill mpc_controller", "command: nan", "observation: silent", "stop service"} <= due
    assert not {"kill model_learner", "trial: silent", "plan: nan", "every core busy"} & due


def test_faults_are_chosen_by_a_part_of_their_names():
    assert [f.name for f in chosen(["other robot", "model: older"], CARTPOLE)] == ["model: other robot", "model: older"]
    with pytest.raises(ConfigError, match="no fault has nonsense in its name; there are: kill state_estimator"):
        chosen(["nonsense"], CARTPOLE)


def test_the_matrix_of_another_robot_breaks_its_own_sensors():
    names = {f.name: f for f in catalogue(BASE)}
    odom, imu = "diff_drive_controller/odom", "imu/data"
    assert {f"{odom}: nan", f"{odom}: silent", f"{imu}: names", f"{imu}: stamps -10 s", "kill command_guard"} <= {
        *names
    }
    assert not any(name.startswith(("joint_states", "plan")) for name in names), "it has none"
    assert {"observation: stamps +0.4 s", "command: stamps -0.4 s"} <= {*names}, "4 periods of 0.1 s"
    assert not names[f"{imu}: silent"].periods, "the other sensor goes on"
    assert needed(BASE) == ["observation", "command"]
    assert needed(ARM) == ["joint_states", "observation", "command"]
    assert {f.name: f for f in catalogue(ARM)}["joint_states: silent"].periods == 3.0


def test_a_drive_without_force_is_judged_where_the_motion_tells_it():
    drives = [{f.name for f in catalogue(robot) if f.drive} for robot in (CARTPOLE, ARM, BASE, JOINT)]
    assert drives == [{"kill command_guard", f"kill {LINK}"}] * 3 + [set()]
