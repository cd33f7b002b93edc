"""One tick of control: delay prediction, time budget, what leaves is always a command."""

from dataclasses import dataclass

import numpy as np
import pytest

from mbrl_ros.control.controller import Controller, periods_missed
from mbrl_ros.planners.base import Plan, Problem

U_MAX = np.array([2.0])


class DoubleIntegrator:
    """x = (p, v), dt = 1: exact, so that a wrong number of replayed actions shows."""

    nx, nu = 2, 1

    def rollout(self, x0, actions, rng, particles):
        n, horizon, _ = actions.shape
        states = np.empty((particles, n, horizon + 1, 2))
        states[:, :, 0] = x0
        for t in range(horizon):
            p, v, u = states[:, :, t, 0], states[:, :, t, 1], actions[None, :, t, 0]
            states[:, :, t + 1] = np.stack([p + v + 0.5 * u, v + u], axis=-1)
        return states


@dataclass
class Scripted:
    """A planner that notes where it plans from and returns given actions."""

    actions: np.ndarray
    complete: bool = True
    gains: np.ndarray | None = None

    def __post_init__(self):
        self.starts, self.states, self.guesses = [], [], []

    def initial_state(self, problem, guess=None):
        self.guesses.append(guess)
        return 0

    def plan(self, problem, x0, state, rng, deadline):
        self.starts.append(np.array(x0))
        self.states.append(state)
        deadline.allows_round()
        states = DoubleIntegrator().rollout(x0, self.actions[None], None, 1)[0, 0]
        return Plan(self.actions, 1.0, 1, self.complete, self.gains, states), state + 1


def controller(planner, delay_ticks=0, budget=np.inf, mode="mpc", replan_every=1):
    problem = Problem(DoubleIntegrator(), None, -U_MAX, U_MAX, horizon=2, particles=3, replan_every=replan_every)
    return Controller(planner, problem, delay_ticks, budget, mode)


def tick(made, x):
    return made.tick(np.array(x, float), np.random.default_rng(0))


def test_without_delay_it_plans_from_the_observation():
    planner = Scripted(np.array([[1.0], [0.5]]))
    result = tick(controller(planner), [3.0, -1.0])
    assert planner.starts[0].tolist() == [3.0, -1.0]
    assert result.action.tolist() == [1.0]
    assert result.states.tolist() == [[3.0, -1.0], [2.5, 0.0], [2.75, 0.5]]


def test_with_delay_it_replays_what_was_sent_and_has_yet_to_act():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner, delay_ticks=2)
    for x in ([0.0, 1.0], [0.0, 1.0], [0.0, 1.0]):
        tick(made, x)
    # nothing sent; then (0, 1.0); then (1.0, 1.0): p = 0 + v + u/2 twice
    assert planner.starts[0].tolist() == [2.0, 1.0]
    assert planner.starts[1].tolist() == [2.5, 2.0]
    assert planner.starts[2].tolist() == [4.0, 3.0]


def test_in_a_period_that_was_missed_the_last_command_goes_on_acting():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner, delay_ticks=2)
    made.note_sent(np.array([2.0]))
    made.note_sent(np.array([-1.0]))
    made.pass_over(1)
    tick(made, [0.0, 0.0])
    assert planner.starts[0].tolist() == [-2.0, -2.0], "-1 twice; the 2 has acted"
    other = controller(planner, delay_ticks=2)
    other.pass_over(5)
    tick(other, [0.0, 1.0])
    assert planner.starts[1].tolist() == [2.0, 1.0], "nothing was sent yet"


def test_a_plan_that_is_followed_grows_older_in_periods_that_were_missed():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner, mode="open_loop")
    assert tick(made, [0, 0]).action.tolist() == [1.0]
    made.pass_over(1)
    assert tick(made, [0, 0]).action.tolist() == [0.0], "both actions are over"
    assert planner.states == [0]


@pytest.mark.parametrize(
    "before, now, missed", [(None, 70, 0), (0, 10, 0), (0, 0, 0), (0, 29, 2), (50, 10, 0), (0, 2 * 10**9, 0)]
)
def test_periods_between_two_stamps(before, now, missed):
    assert periods_missed(before, now, 10) == missed


def test_actions_of_another_policy_are_replayed_too():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner, delay_ticks=1)
    made.note_sent(np.array([2.0]))
    tick(made, [0.0, 0.0])
    assert planner.starts[0].tolist() == [1.0, 2.0]


def test_planner_state_is_handed_on_and_forgotten_at_a_reset():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner)
    tick(made, [0, 0]), tick(made, [0, 0])
    made.reset()
    tick(made, [0, 0])
    assert planner.states == [0, 1, 0]


def test_a_trial_may_begin_as_the_last_one_that_was_long_enough():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner)  # horizon 2
    for planner.actions in np.array([[[1.0], [0.0]], [[0.5], [0.0]], [[-0.5], [0.0]]]):
        tick(made, [0, 0])
    made.reset()
    tick(made, [0, 0])  # one tick only: too short to begin anything with
    made.reset()
    tick(made, [0, 0])
    assert planner.guesses[0] is None
    assert [guess.tolist() for guess in planner.guesses[1:]] == [[[1.0], [0.5]]] * 2


def test_a_run_that_begins_anew_knows_nothing_of_the_trials_before():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner)  # horizon 2
    tick(made, [0, 0]), tick(made, [0, 0])
    made.reset(anew=True)
    tick(made, [0, 0]), tick(made, [0, 0])
    made.reset()
    tick(made, [0, 0])
    made.reset(anew=True)
    tick(made, [0, 0])
    assert [guess is None for guess in planner.guesses] == [True, True, False, True]


class Doubtful(DoubleIntegrator):
    """A model whose two members go apart, and which is planned with by its mean."""

    members = 2

    def __init__(self, propagation="mean"):
        self.propagation = propagation

    def with_propagation(self, name):
        return Doubtful(name)

    def rollout(self, x0, actions, rng, particles):
        states = super().rollout(x0, actions, rng, particles).copy()
        if self.propagation == "ts_inf":
            states[::2, :, -1] += 3.0
            states[1::2, :, -1] -= 3.0
        return states


def test_a_plan_through_the_mean_still_tells_how_far_the_members_go_apart():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = Controller(planner, Problem(Doubtful(), None, -U_MAX, U_MAX, horizon=2, particles=1), 0, np.inf)
    plain = Controller(planner, Problem(DoubleIntegrator(), None, -U_MAX, U_MAX, horizon=2, particles=2), 0, np.inf)
    result = tick(made, [0, 0])
    assert abs(result.spread - 3.0) < 1e-9
    np.testing.assert_array_equal(result.states, tick(plain, [0, 0]).states)


def test_what_leaves_is_finite_and_within_limits():
    for wish, sent in ((9.0, 2.0), (-9.0, -2.0), (np.nan, 0.0), (np.inf, 2.0)):
        result = tick(controller(Scripted(np.array([[wish], [0.0]]))), [0, 0])
        assert result.action.tolist() == [sent]


def test_a_plan_that_was_cut_short_or_late_is_a_miss():
    plan = np.zeros((2, 1))
    assert not tick(controller(Scripted(plan)), [0, 0]).missed
    assert tick(controller(Scripted(plan, complete=False)), [0, 0]).missed
    assert tick(controller(Scripted(plan), budget=0.0), [0, 0]).missed


def test_a_tick_tells_how_many_rounds_its_deadline_allowed():
    """Asked three times: all are granted without a budget, with none left only the first that is always granted."""

    class Asking(Scripted):
        def plan(self, problem, x0, state, rng, deadline):
            deadline.allows_round(), deadline.allows_round()
            return super().plan(problem, x0, state, rng, deadline)

    plan = np.zeros((2, 1))
    assert [tick(controller(Asking(plan), budget=b), [0, 0]).allowed for b in (np.inf, 0.0)] == [3, 1]
    following = controller(Asking(plan), replan_every=2)
    assert [tick(following, [0, 0]).allowed for _ in range(2)] == [3, 0]


def test_a_new_model_is_used_from_the_next_tick_on():
    class Still(DoubleIntegrator):
        def rollout(self, x0, actions, rng, particles):
            n, horizon, _ = actions.shape
            return np.broadcast_to(np.asarray(x0), (particles, n, horizon + 1, 2)).astype(float)

    made = controller(Scripted(np.array([[1.0], [0.5]])))
    assert tick(made, [1.0, 1.0]).states[-1].tolist() != [1.0, 1.0]
    made.use(Still())
    assert tick(made, [1.0, 1.0]).states[-1].tolist() == [1.0, 1.0]


GAINS = np.array([[[-0.5, -0.25]], [[-1.0, -2.0]]])
OFF_PLAN = np.array([0.1, -0.2])  # distance to the plan at the second tick


def second_tick(**settings):
    """First and second action, the second from a state that lies off the plan."""
    planner = Scripted(np.array([[1.0], [0.5]]), gains=GAINS)
    made = controller(planner, **settings)
    first = tick(made, [0.0, 0.0])
    second = tick(made, first.states[1] + OFF_PLAN)
    return planner, first.action[0], second.action[0]


def test_mpc_plans_at_every_tick():
    planner, _, _ = second_tick()
    assert len(planner.starts) == 2


def test_between_two_plans_mpc_follows_the_last_one_with_its_gains():
    planner, first, second = second_tick(replan_every=2)
    assert (len(planner.starts), first) == (1, 1.0)
    assert np.isclose(second, 0.5 - 1.0 * 0.1 - 2.0 * -0.2)


def test_mpc_plans_again_when_it_is_time():
    planner = Scripted(np.array([[1.0], [0.5]]))
    made = controller(planner, replan_every=2)
    for _ in range(5):
        tick(made, [0, 0])
    assert len(planner.starts) == 3


def test_open_loop_plays_the_plan_back_and_stops_at_its_end():
    planner = Scripted(np.array([[1.0], [0.5]]), gains=GAINS)
    made = controller(planner, mode="open_loop")
    assert [tick(made, [9.0 * k, 0.0]).action[0] for k in range(4)] == [1.0, 0.5, 0.0, 0.0]
    assert len(planner.starts) == 1


def test_closed_loop_follows_the_one_plan_with_its_gains():
    planner, first, second = second_tick(mode="closed_loop")
    assert (len(planner.starts), first) == (1, 1.0)
    assert np.isclose(second, 0.5 - 1.0 * 0.1 - 2.0 * -0.2)


def held(planner, delay_ticks=0, **changes):
    """A controller of a robot whose command is the target of its position."""
    problem = Problem(DoubleIntegrator(), None, -U_MAX, U_MAX, horizon=2, targets=np.array([0]), **changes)
    return Controller(planner, problem, delay_ticks, np.inf)


def test_commands_go_on_from_the_last_one_as_fast_as_they_may():
    made = held(Scripted(np.array([[2.0], [2.0]])), u_step=np.array([0.25]))
    results = [tick(made, [x, 0.0]) for x in (0.5, 0.4, 0.3)]
    assert [r.action.tolist() for r in results] == [[0.75], [1.0], [1.25]], "at first from where the robot is"
    assert results[0].actions.tolist() == [[0.75], [1.0]], "what is predicted is what will be sent"
    made.note_sent(np.array([-1.0]))
    assert tick(made, [0.0, 0.0]).action.tolist() == [-0.75]
    made.reset()
    assert tick(made, [0.0, 0.0]).action.tolist() == [0.25]


def test_a_robot_that_is_told_positions_rests_where_it_is():
    """No command is not zero: before the first one acts, and in place of what is no number, it stays."""
    planner = Scripted(np.array([[np.nan], [0.5]]))
    made = held(planner, delay_ticks=2)
    assert tick(made, [0.5, 0.0]).action.tolist() == [planner.starts[0][0]]
    # p = 0.5 + 0 + 0.5 / 2, v = 0.5; then p = 0.75 + 0.5 + 0.5 / 2, v = 1: the position, taken as an effort
    assert planner.starts[0].tolist() == [1.5, 1.0]


class Diverging(DoubleIntegrator):
    """A learned model may predict anything, also what is no number."""

    def rollout(self, x0, actions, rng, particles):
        states = super().rollout(x0, actions, rng, particles)
        states[:, :, 1:] = np.nan
        return states


@pytest.mark.parametrize("u_step", [None, np.array([0.25])])
def test_where_the_prediction_is_no_number_the_command_is_one(u_step):
    """A robot that is told positions rests where it is; where it will be is not known then."""
    made = held(Scripted(np.full((2, 1), np.nan)), delay_ticks=1, u_step=u_step)
    made.use(Diverging())
    results = [tick(made, [0.5, 0.0]).action.tolist() for _ in range(3)]
    assert results == [[0.5]] * 3
