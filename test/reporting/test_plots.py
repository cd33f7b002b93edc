"""What the figures show: values, units, limits, references. They are looked at by people, too."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex

from mbrl_ros.reporting import plots
from mbrl_ros.reporting.prediction import one_step, open_loop_segments
from mbrl_ros.robots.description import load_robot

PNG = b"\x89PNG\r\n\x1a\n"


def labels(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def upright(line) -> bool:
    return len(set(line.get_xdata())) == 1


def test_learning_curve_shows_every_trial_where_it_was_and_the_published_records(runs):
    trials = [
        runs.result_of(0, runs.simulate(0)),
        runs.result_of(1, runs.simulate(1), ended_early="track end", cost=11.0),
        runs.result_of(2, runs.simulate(2), solved=True, cost=22.0),
        runs.result_of(3, runs.simulate(3), solved=True, cost=33.0),
    ]
    figure = plots.learning_curve(runs.summarise(*trials))
    cost, time = figure.axes
    points = sorted(tuple(p) for c in cost.collections for p in c.get_offsets().tolist())
    assert points == [(t.experience_before_s, t.cost) for t in trials]
    points = sorted(tuple(p) for c in time.collections for p in c.get_offsets().tolist())
    assert points == [(t.experience_before_s, t.time_on_target_s) for t in trials]
    lines = {line.get_label(): line.get_xdata()[0] for line in cost.lines if upright(line)}
    assert lines == {
        "PILCO, real hardware: 17.5 s": 17.5,
        "MC-PILCO, simulation: about 18 s": 18.0,
        "this run: 6.0 s": 6,
    }
    assert set(labels(figure)) == {"base policy", "ended early", "solved", *lines}
    assert cost.get_ylim()[0] == time.get_ylim()[0] == 0.0
    assert 3.0 < time.get_ylim()[1] < 4.0  # a whole trial, so that a tenth of a second looks like one
    assert time.get_xlim()[0] < 0.0 and time.get_xlim()[1] > 18.0
    assert "(s)" in time.get_xlabel() and "(s)" in time.get_title(loc="left")


def test_other_tasks_have_no_published_records(runs):
    figure = plots.learning_curve(runs.summarise(runs.result_of(0, runs.simulate(0)), task="other"))
    assert labels(figure) == ["base policy"]


def test_kinds_of_trials_look_different():
    looks = [(look["marker"], look["facecolor"], look["edgecolor"]) for look in plots.MARKERS.values()]
    assert len(set(looks)) == len(looks) == 4


def test_trial_figure_has_a_panel_for_each_entry_with_its_unit_limits_and_target(runs):
    arrays, robot = runs.simulate(1), runs.robot
    target = (np.array([-0.5, -0.26, -np.inf, -np.inf]), np.array([0.5, 0.26, np.inf, np.inf]))
    models = {v: runs.random_ensemble(robot.layout, v) for v in (1, 2)}
    rng = np.random.default_rng(0)
    figure = plots.trial_figure(
        arrays, robot, target, one_step(models, arrays, rng), open_loop_segments(models, arrays, rng)
    )
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [t.split(" ", 1)[1] for t in titles] == ["(m)", "(rad)", "(m/s)", "(rad/s)", "(N)"]
    assert figure.axes[-1].get_xlabel() == "time in the trial (s)"
    for i, ax in enumerate(figure.axes[:4]):
        observed = next(line for line in ax.lines if line.get_label() == "observed")
        np.testing.assert_array_equal(observed.get_ydata(), arrays.x[:, i])
        assert observed.get_xdata()[[0, -1]] == pytest.approx([0.0, 3.0], abs=1e-6)
        low, high = ax.get_ylim()
        assert low < arrays.x[:, i].min() and high > arrays.x[:, i].max()
        assert sum(line.get_label().startswith("open loop") for line in ax.lines) == 3
        assert len(ax.collections) == 4  # a band for each of the three segments and one for one step ahead
    ends = sorted({float(line.get_ydata()[0]) for line in figure.axes[4].lines if line.get_label() == "limit"})
    assert ends == [-10.0, 10.0]
    assert [len(ax.patches) > 0 for ax in figure.axes] == [True, True, False, False, False]
    assert figure.axes[0].get_ylim()[0] < -0.5 and figure.axes[0].get_ylim()[1] > 0.5


def test_target_of_an_angle_lies_at_every_turn(runs):
    arrays = runs.simulate(0)
    x = arrays.x.copy()
    x[:, 1] = np.linspace(-7.0, 7.0, len(x))
    target = (np.array([-0.5, -0.2, -1.0, -1.0]), np.array([0.5, 0.2, 1.0, 1.0]))
    ax = plots.trial_figure(replace(arrays, x=x), runs.robot, target, None, []).axes[1]
    bottoms = sorted(patch.get_y() for patch in ax.patches)
    shown = [b for b in bottoms if ax.get_ylim()[0] < b < ax.get_ylim()[1]]
    np.testing.assert_allclose(shown, [-2 * np.pi - 0.2, -0.2, 2 * np.pi - 0.2])


def test_prediction_that_runs_away_does_not_set_the_axis(runs):
    arrays = runs.simulate(1)
    models = {v: runs.random_ensemble(runs.robot.layout, v) for v in (1, 2)}
    segments = open_loop_segments(models, arrays, np.random.default_rng(0))
    wild = [replace(s, mean=1e9 * s.mean, high=1e9 * s.high) for s in segments]
    calm = plots.trial_figure(arrays, runs.robot, None, None, [])
    figure = plots.trial_figure(arrays, runs.robot, None, None, wild)
    assert [ax.get_ylim() for ax in figure.axes] == [ax.get_ylim() for ax in calm.axes]


def test_unit_of_a_joint_that_turns_within_limits_is_read_from_the_urdf(tmp_path, runs):
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(
        '<robot name="arm"><joint name="elbow" type="revolute"/><joint name="rail" type="prismatic"/></robot>'
    )
    robot = replace(runs.robot, urdf=urdf)
    assert [plots.unit_of(robot, f"elbow/{q}") for q in ("position", "velocity", "effort")] == ["rad", "rad/s", "N m"]
    assert [plots.unit_of(robot, f"rail/{q}") for q in ("position", "velocity", "effort")] == ["m", "m/s", "N"]
    assert plots.unit_of(replace(robot, urdf=tmp_path / "none.urdf"), "elbow/position") == "m"
    assert plots.unit_of(load_robot("cartpole"), "pole_hinge/position") == "rad"


@pytest.mark.parametrize(
    "count, text", [(0, "0"), (1, "π"), (-1, "\N{MINUS SIGN}π"), (2, "2π"), (-3, "\N{MINUS SIGN}3π")]
)
def test_multiples_of_pi(count, text):
    assert plots.multiple_of_pi(count) == text


def test_planning_time_counts_every_tick_and_marks_the_deadline():
    seconds = np.array([0.004, 0.011, 0.012, 0.4, 0.06])
    missed = seconds > 0.05
    figure = plots.planning_time(seconds, missed, 0.05, lockstep=False)
    (ax,) = figure.axes
    heights = {to_hex(p.get_facecolor()): 0.0 for p in ax.patches}
    for patch in ax.patches:
        heights[to_hex(patch.get_facecolor())] += patch.get_height()
    assert heights == {plots.PREDICTED: 3.0, plots.LIMIT: 2.0}
    (line,) = (line for line in ax.lines if upright(line))
    assert line.get_xdata()[0] == pytest.approx(50.0)
    assert labels(figure) == ["in time: 3 ticks", "deadline missed: 2 ticks", "deadline: 50 ms"]
    assert "(ms" in ax.get_xlabel()
    figure = plots.planning_time(seconds, np.zeros(5, bool), 0.02, lockstep=True)
    assert labels(figure) == ["planned: 5 ticks", "control period, no deadline in lockstep: 20 ms"]


def test_model_error_shows_both_errors_over_experience(runs):
    trials = [runs.result_of(i, runs.simulate(i)) for i in range(4)]
    (ax,) = plots.model_error(runs.summarise(*trials)).axes
    values = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_array_equal(values["one step ahead"], [t.one_step_error for t in trials])
    np.testing.assert_array_equal(values["open loop over the horizon"], [t.multi_step_error for t in trials])
    assert "standard deviations" in ax.get_title(loc="left") and ax.get_yscale() == "log"
    assert ax.get_xlim()[0] == 0.0 and ax.get_xlim()[1] > 9.0


def test_png_and_nobody_else_s_settings_are_touched(runs):
    before = dict(matplotlib.rcParams)
    data = plots.png(plots.planning_time(np.array([0.01, 0.02]), np.zeros(2, bool), 0.05, lockstep=True))
    assert data.startswith(PNG) and len(data) > 5000
    assert dict(matplotlib.rcParams) == before


def test_entries_of_a_base_and_its_twist_have_units():
    base = load_robot(str(load_robot("cartpole").urdf.parent / "examples" / "base.yaml"))
    found = {name: plots.unit_of(base, name) for name in (*base.layout.state, *base.layout.action)}
    assert found["base_x"] == "m" and found["base_yaw"] == "rad" and found["base_wz"] == "rad/s"
    assert (found["linear_x"], found["angular_z"]) == ("m/s", "rad/s")
