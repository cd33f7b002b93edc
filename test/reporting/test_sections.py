"""What each section of the report shows, from trials whose numbers are known. People look at the pages, too."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mbrl_ros.models.layout import StateLayout
from mbrl_ros.reporting.chart import Band, Bars, Line, Marks, Rule, Stripe
from mbrl_ros.reporting.novelty import novelty
from mbrl_ros.reporting.run import read_run
from mbrl_ros.reporting.run_folder import Fit, load_trial, save_trial
from mbrl_ros.reporting.sections import cost, data_coverage, doubt, learning, states, timing, versions
from mbrl_ros.reporting.trial_view import make_view, shared_ranges
from mbrl_ros.reporting.units import unit_of
from mbrl_ros.robots.description import load_robot
from mbrl_ros.types import Transitions


@pytest.fixture
def views(tmp_path, runs):
    runs.build(tmp_path, trials=3, lockstep=False)
    run = read_run(tmp_path)
    return [make_view(run, index) for index in (0, 1, 2)]


def layers(chart, kind, label=None):
    return [layer for layer in chart.layers if isinstance(layer, kind) and label in (None, layer.label)]


def test_states_have_a_chart_each_with_units_target_and_three_kinds_of_predictions(views, runs):
    view, ranges = views[1], shared_ranges(views)
    figure = states.states_figure(view, ranges)
    assert [c.title.split(" ", 1)[1] for c in figure.charts] == ["(m)", "(rad)", "(m/s)", "(rad/s)", "(N)"]
    for i, chart in enumerate(figure.charts[:4]):
        (observed,) = layers(chart, Line, "observed")
        np.testing.assert_array_equal(observed.y, view.arrays.x[:, i])
        assert observed.x[[0, -1]] == pytest.approx([0.0, 3.0], abs=1e-6)
        assert len(layers(chart, Band, "open loop, 90 %")) == 3
        assert (
            len(layers(chart, Band, "one step, 90 %")) == len(layers(chart, Band, "plan, a horizon before, 90 %")) == 1
        )
        assert chart.y_range == ranges[runs.robot.layout.state[i]]
    assert [len(layers(c, Stripe)) > 0 for c in figure.charts] == [True, False, False, False, False]  # never upright
    (stripe,) = layers(figure.charts[0], Stripe)
    assert (stripe.low, stripe.high) == pytest.approx((-0.5, 0.5))


def test_the_plan_is_shown_at_the_tick_that_it_predicted(views):
    chart = states.states_figure(views[1], shared_ranges(views)).charts[0]
    (plan,) = layers(chart, Line, "plan, a horizon before, mean")
    x = views[1].arrays.x[:, 0]
    np.testing.assert_allclose(plan.y[10:], x[10:] + 0.5, atol=1e-5)  # as conftest.with_plans has it
    assert np.isnan(plan.y[:10]).all()


def test_what_was_wished_stands_beside_what_was_applied(views):
    chart = states.states_figure(views[1], shared_ranges(views)).charts[4]
    (wished,) = layers(chart, Line, "wished by the controller")
    (applied,) = layers(chart, Line, "applied")
    np.testing.assert_allclose(wished.y[:-1], applied.y[:-1], atol=1e-6)
    assert wished.step and applied.step
    assert sorted(rule.at for rule in layers(chart, Rule)) == [-10.0, 10.0]


def test_target_of_an_angle_lies_at_every_turn_that_is_shown(views):
    target = (np.array([-0.5, -0.2, -1.0, -1.0]), np.array([0.5, 0.2, 1.0, 1.0]))
    chart = states.state_chart(replace(views[0], target=target), 1, (-7.0, 7.0))
    np.testing.assert_allclose([s.low for s in layers(chart, Stripe)], [-2 * np.pi - 0.2, -0.2, 2 * np.pi - 0.2])


def test_trials_share_their_axes_and_predictions_that_run_away_do_not_set_them(views):
    ranges = shared_ranges(views)
    for i, name in enumerate(views[0].robot.layout.state):
        seen = np.concatenate([view.arrays.x[:, i] for view in views])
        assert ranges[name][0] < seen.min() and ranges[name][1] > seen.max()
    wild = [replace(view, one_step=replace(view.one_step, mean=1e9 * view.one_step.mean)) for view in views]
    assert shared_ranges(wild) == ranges
    assert ranges["cost"][0] == ranges["planning"][0] == ranges["novelty"][0] == 0.0


def test_parts_of_the_cost_lie_above_each_other_and_end_at_the_cost(views):
    figure = cost.cost_figure(views[1], shared_ranges(views))
    (chart,) = figure.charts
    bands = layers(chart, Band)
    np.testing.assert_array_equal(bands[0].low, 0.0)
    for below, above in pairwise(bands):
        np.testing.assert_array_equal(above.low, below.high)
    np.testing.assert_allclose(bands[-1].high[:-1], views[1].arrays.cost[:-1], rtol=1e-9)
    sums = [float((band.high - band.low).sum()) for band in bands]
    assert sums == sorted(sums, reverse=True)
    assert bands[0].label == f"pole not upright: {sums[0]:.1f}"
    assert "do not add up" not in figure.caption and chart.y_range[0] == 0.0


def test_parts_of_other_parameters_than_those_of_the_trial_are_not_passed_off_as_its_own(views):
    changed = replace(views[1], parts={name: 1.01 * part for name, part in views[1].parts.items()})
    assert "do not add up" in cost.caption(changed)
    assert "no `cost_parts`" in cost.caption(replace(views[1], parts=None))


def test_doubt_shows_every_figure_over_time_and_nothing_where_none_was_recorded(views):
    figure = doubt.doubt_figure(views[1], shared_ranges(views))
    both, spread, entropy, disagreement = figure.charts
    assert [line.label for line in both.layers] == ["aleatoric", "epistemic"]
    np.testing.assert_array_equal(both.layers[0].y, views[1].arrays.aleatoric_std)
    np.testing.assert_array_equal(both.layers[1].y, views[1].arrays.epistemic_std)
    for chart, name in ((spread, "spread"), (entropy, "entropy"), (disagreement, "disagreement")):
        np.testing.assert_array_equal(chart.layers[0].y, getattr(views[1].arrays, name))
        assert name in chart.title
    assert (
        all("logarithmic" in c.title for c in figure.charts if c.log)
        and [bool(c.log) for c in figure.charts][2:] == [False] * 2
    )
    assert doubt.doubt_figure(views[0], shared_ranges(views)) is None


def test_calibration_of_a_perfect_and_an_overconfident_model():
    z = np.random.default_rng(0).standard_normal((4000, 2, 3))
    (chart,) = doubt.calibration_figure("c", "t", z).charts
    good = layers(chart, Line, "one period ahead")[0]
    np.testing.assert_allclose(good.y, good.x, atol=0.02)
    (chart,) = doubt.calibration_figure("c", "t", 2.0 * z).charts
    bad = layers(chart, Line, "after 2 periods")[0]
    assert (bad.y < bad.x - 0.04).all() and (chart.x_range, chart.y_range[0]) == ((0.0, 1.0), 0.0)
    assert doubt.calibration_figure("c", "t", np.empty((0, 2, 3))) is None


def test_planning_time_marks_misses_and_plans_that_were_cut_short(views):
    (chart,) = timing.timing_figure(views[1], shared_ranges(views)).charts
    marks = {m.label: m.x for m in layers(chart, Marks)}
    assert {label: np.round(x / 0.05).tolist() for label, x in marks.items()} == {
        "cut short: went on with what was ready (1)": [6.0],
        "deadline missed (1)": [7.0],
    }
    (line,) = layers(chart, Line)
    np.testing.assert_allclose(line.y, 1e3 * views[1].arrays.planning_time)
    assert sorted(rule.at for rule in layers(chart, Rule)) == [50.0, 50.0]  # period, and the deadline of no parameters
    assert timing.timing_figure(views[0], shared_ranges(views)) is None


def test_a_line_that_the_legend_names_is_within_the_axes(views):
    for lockstep, budget in ((False, 0.03), (True, np.inf)):
        shown = [replace(view, lockstep=lockstep, budget=budget) for view in views]
        quick = [replace(v, arrays=replace(v.arrays, planning_time=1e-3 * v.arrays.planning_time)) for v in shown]
        (chart,) = timing.timing_figure(quick[1], shared_ranges(quick)).charts
        assert max(rule.at for rule in layers(chart, Rule)) == 50.0 < chart.y_range[1]


def test_the_guards_flags_stand_in_their_rows_at_their_ticks(views):
    figure = timing.guard_figure(views[1], {"ok": 59, "limited": 1, "timeout": 4})
    (chart,) = figure.charts
    assert chart.names == ("ok 59", "limited 1")
    ok, limited = chart.layers
    assert len(ok.x) == 59 and limited.x == pytest.approx([0.25], abs=1e-6)
    assert (set(ok.y), set(limited.y)) == ({0.0}, {1.0})
    assert figure.caption == "Between the ticks: timeout 4."
    assert (ok.label, limited.label) == ("passed on", "passed on, but limited or late")
    assert timing.guard_marks(np.zeros(1), 0, "timeout").label == "something else was sent"
    assert timing.guard_figure(views[0], {}) is None


def test_the_histogram_counts_every_tick_and_marks_the_deadline():
    seconds = np.array([0.004, 0.011, 0.012, 0.4, 0.06])
    missed = seconds > 0.05
    (chart,) = timing.planning_histogram(seconds, missed, 0.05, 0.03).charts
    in_time, late = layers(chart, Bars)
    assert (in_time.heights.sum(), late.heights.sum()) == (3.0, 2.0)
    assert (in_time.label, late.label) == ("in time: 3 ticks", "deadline missed: 2 ticks")
    assert [(r.label, r.at) for r in layers(chart, Rule)] == [
        ("control period: 50 ms", 50.0),
        ("deadline: 30 ms", 30.0),
    ]
    assert chart.log == "x" and "logarithmic" in chart.x_label and chart.y_range[0] == 0.0
    (chart,) = timing.planning_histogram(seconds, np.zeros(5, bool), 0.02, float("inf")).charts
    assert [r.label for r in layers(chart, Rule)] == ["control period, no deadline in lockstep: 20 ms"]


def test_data_are_those_from_before_the_trial(views):
    assert [len(view.known) for view in views] == [0, 60, 120]
    np.testing.assert_array_equal(views[2].known.x[:60], views[0].arrays.x[:-1])
    figure = data_coverage.coverage_figure(views[2], shared_ranges(views))
    cart, pole, distance = figure.charts
    assert (cart.x_label, cart.title) == ("cart_slider/position (m)", "cart_slider/velocity (m/s)")
    (known,) = layers(pole, Marks, "known before")
    assert len(known.x) == 120 and np.abs(known.x).max() <= np.pi and pole.turns == "x"
    (trial,) = layers(cart, Line, "this trial")
    np.testing.assert_array_equal((trial.x, trial.y), views[2].arrays.x[:, [0, 2]].T)
    (goal,) = layers(pole, Marks, "goal")
    assert (goal.x[0], goal.y[0]) == (0.0, 0.0)
    np.testing.assert_array_equal(distance.layers[0].y, views[2].novelty)


def test_novelty_is_zero_where_the_model_has_been_and_grows_with_the_distance():
    layout = StateLayout(("a", "b"), ("u",), (), {}, 0.1)
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(500, 2)) * [1.0, 100.0], rng.normal(size=(500, 1))
    known = Transitions(x, u, x, np.zeros(500, int))
    np.testing.assert_allclose(novelty(layout, known, x[:5], u[:5]), 0.0, atol=1e-12)
    far = np.array([[0.0, 0.0], [300.0, 0.0], [600.0, 0.0]])
    near, some, more = novelty(layout, known, far, np.zeros((3, 1)))
    assert near < 0.5 and more == pytest.approx(2 * some, rel=0.05)
    assert some == pytest.approx(300.0 / x[:, 0].std() / np.sqrt(3), rel=0.05)
    assert np.isnan(novelty(layout, known, far, np.full((3, 1), np.nan))).all()
    assert np.isnan(novelty(layout, known[:0], far, np.zeros((3, 1)))).all()


def test_an_angle_over_the_end_of_its_turn_is_no_line_across_the_picture():
    values = np.array([3.0, 3.1, -3.1, -3.0])
    assert np.isnan(data_coverage.broken_at_jumps(values, True)).tolist() == [False, False, True, False]
    np.testing.assert_array_equal(data_coverage.broken_at_jumps(values, False), values)


def test_versions_are_judged_on_the_ticks_they_were_used_for(views, tmp_path):
    used = versions.uses(views)
    assert {v: (u.trial, u.ticks) for v, u in used.items()} == {1: (1, 30), 2: (1, 61), 3: (2, 31)}
    assert used[3].at_s == pytest.approx(1.5, abs=1e-6) and used[1].at_s == 0.0
    std = np.concatenate([view.arrays.x for view in views]).std(axis=0)
    truth, mean = views[1].arrays.x[1:31], views[1].one_step.mean[1:31]
    assert used[1].error == pytest.approx(np.sqrt(np.mean(((mean - truth) / std) ** 2)))
    inside = (views[1].one_step.low[1:31] <= truth) & (truth <= views[1].one_step.high[1:31])
    assert used[1].covered == pytest.approx(inside.mean())


def test_table_of_versions_has_published_and_used_ones():
    used = {2: versions.Use(2, 1, 0.5, 9, 0.1234, 0.876)}
    rows = versions.version_rows([Fit(1, "2026-01-02T03:04:05.678+00:00", 60, 0.25)], used)
    assert rows[0] == ["1", "2026-01-02 03:04:05", "60", "0.25", "–", "–", "–", "–", "–"]  # noqa: RUF001
    assert rows[1] == ["2", "–", "–", "–", "1", "0.50", "9", "0.1234", "88 %"]  # noqa: RUF001
    assert all(len(row) == len(versions.COLUMNS) for row in rows)


def test_learning_curve_shows_every_trial_where_it_was_and_the_published_records(runs):
    trials = [
        runs.result_of(0, runs.simulate(0)),
        runs.result_of(1, runs.simulate(1), ended_early="track end", cost=11.0),
        runs.result_of(2, runs.simulate(2), solved=True, cost=22.0),
        runs.result_of(3, runs.simulate(3), solved=True, cost=33.0),
    ]
    cost_chart, time_chart = learning.learning_figure(runs.summarise(*trials)).charts
    for chart, name in ((cost_chart, "cost"), (time_chart, "time_on_target_s")):
        points = sorted((x, y) for m in layers(chart, Marks) for x, y in zip(m.x, m.y, strict=True))
        assert points == [(t.experience_before_s, getattr(t, name)) for t in trials]
        assert chart.y_range[0] == 0.0 and chart.x_range[0] < 0.0 and chart.x_range[1] > 18.0
    assert {rule.label: rule.at for rule in layers(cost_chart, Rule)} == {
        "PILCO, real hardware: 17.5 s": 17.5,
        "MC-PILCO, simulation: about 18 s": 18.0,
        "this run: 6.0 s": 6.0,
    }
    assert {m.label: list(m.texts) for m in layers(cost_chart, Marks)} == {
        "base policy": ["0"],
        "ended early": ["1"],
        "solved": ["2", "3"],
    }
    assert 3.0 < time_chart.y_range[1] < 4.0  # a whole trial, so that a tenth of a second looks like one


def test_other_tasks_have_no_published_records_and_kinds_of_trials_look_different(runs):
    (chart, _) = learning.learning_figure(runs.summarise(runs.result_of(0, runs.simulate(0)), task="other")).charts
    assert layers(chart, Rule) == []
    assert len(set(learning.KINDS.values())) == len(learning.KINDS) == 4


def test_model_error_shows_both_errors_over_experience(runs):
    trials = [runs.result_of(i, runs.simulate(i)) for i in range(4)]
    (chart,) = learning.error_figure(runs.summarise(*trials)).charts
    for label, name in (("one step ahead", "one_step_error"), ("open loop over the horizon", "multi_step_error")):
        (line,) = layers(chart, Line, label)
        np.testing.assert_array_equal(line.y, [getattr(t, name) for t in trials])
        np.testing.assert_array_equal(line.x, [0.0, 3.0, 6.0, 9.0])
    assert chart.log == "y" and "logarithmic" in chart.title


def test_units_of_joints_bases_and_twists(tmp_path, runs):
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(
        '<robot name="arm"><joint name="elbow" type="revolute"/><joint name="rail" type="prismatic"/></robot>'
    )
    robot = replace(runs.robot, urdf=urdf)
    assert [unit_of(robot, f"elbow/{q}") for q in ("position", "velocity", "effort")] == ["rad", "rad/s", "N m"]
    assert [unit_of(robot, f"rail/{q}") for q in ("position", "velocity", "effort")] == ["m", "m/s", "N"]
    assert unit_of(replace(robot, urdf=tmp_path / "none.urdf"), "elbow/position") == "m"
    base = load_robot(str(load_robot("cartpole").urdf.parent / "examples" / "base.yaml"))
    found = {name: unit_of(base, name) for name in (*base.layout.state, *base.layout.action)}
    assert found["base_x"] == "m" and found["base_yaw"] == "rad" and found["base_wz"] == "rad/s"
    assert (found["linear_x"], found["angular_z"]) == ("m/s", "rad/s")


def test_a_trial_without_a_tick_has_its_sections(tmp_path, runs):
    runs.build(tmp_path, trials=1)
    arrays = load_trial(tmp_path, 0)
    empty = type(arrays)(**{name: array[:0] for name, array in arrays.present().items()})
    save_trial(tmp_path, 0, empty)
    view = make_view(read_run(tmp_path), 0)
    assert len(states.states_figure(view, shared_ranges([view])).charts) == 5
    assert len(cost.cost_figure(view, shared_ranges([view])).charts) == 1
