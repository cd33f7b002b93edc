"""How a recording is judged: bounds, the first safe action, the limp drive, the reason."""

import numpy as np
import pytest

from mbrl_ros.benchmarks.faults.catalogue import BESIDE, CONTROL, catalogue
from mbrl_ros.benchmarks.faults.live_graph import LINK, VARIANTS
from mbrl_ros.benchmarks.faults.recording import Recording, first_limp, first_safe, out_of_bounds, reason_for
from mbrl_ros.benchmarks.faults.runner import Row, chosen, format_row, without_force, worst
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import GRAPH
from mbrl_ros.robots.cartpole_equations import derivative

DT = 0.05


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
    found = out_of_bounds([(0.0, (1.0,)), (1.0, values)], [10.0])
    assert (said in found) if said else not found


def test_the_first_safe_action_comes_after_the_fault():
    commands = [(0.0, (0.0,)), (1.0, (3.0,)), (1.2, (0.0,)), (1.3, (2.0,)), (1.5, (0.0,)), (1.6, (0.0,))]
    assert first_safe(commands, 1.0, lasting=False) == pytest.approx(0.2)
    assert first_safe(commands, 1.0, lasting=True) == pytest.approx(0.5), "moving on in between does not count"
    assert first_safe(commands[:2], 1.0, lasting=False) is None
    assert first_safe(commands[:4], 1.0, lasting=True) is None


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
    names = [fault.name for fault in catalogue()]
    assert len(set(names)) == len(names)
    assert {f.variant for f in catalogue()} == set(VARIANTS)
    for node in (*(spec.name for spec in GRAPH), LINK):
        assert f"kill {node}" in names
    for topic in (*CONTROL, *BESIDE):
        for kind in ("silent", "delayed", "duplicated", "out of order", "ten times"):
            assert f"{topic}: {kind}" in names
    for fault in ("model: older", "disk full: model_learner", "every core busy", "joint_states: stamps -10 s"):
        assert fault in names
    for kind in ("nan", "infinity", "sizes", "names", "numbers"):
        assert {f"{topic}: {kind}" for topic in CONTROL} <= set(names)


def test_the_safe_action_is_due_where_the_robot_may_not_move():
    due = {fault.name for fault in catalogue() if fault.periods}
    assert {"kill mpc_controller", "command: nan", "observation: silent", "stop service"} <= due
    assert not {"kill model_learner", "trial: silent", "plan: nan", "every core busy"} & due


def test_faults_are_chosen_by_a_part_of_their_names():
    assert [f.name for f in chosen(["other robot", "model: older"])] == ["model: other robot", "model: older"]
    with pytest.raises(ConfigError, match="no fault has nonsense in its name; there are: kill state_estimator"):
        chosen(["nonsense"])
