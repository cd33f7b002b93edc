"""A trial whose goal was moved is scored by what was asked for at each tick."""

import numpy as np

from mbrl_ros.control.task_history import TaskHistory
from mbrl_ros.reporting.summary import score_trial
from mbrl_ros.tasks.reach import Reach, ReachConfig


def reach(goal):
    return Reach(ReachConfig(goal=(goal,), tolerance=0.1))


X, U = np.array([[0.0], [1.0], [1.0], [3.0], [3.0]]), np.zeros((5, 1))
STAMPS = [10, 20, 30, 40, 50]


def test_each_tick_is_scored_by_the_task_of_its_time():
    history = TaskHistory(reach(0.0))
    history.change(21, reach(1.0))
    history.change(40, reach(5.0))
    scored = history.over(STAMPS)
    assert scored.running_cost(X, U).tolist() == [0.0, 1.0, 0.0, 4.0, 4.0]
    assert scored.on_target(X).tolist() == [True, False, True, False, False]
    assert scored.running_cost(X[:3], U[:3]).tolist() == [0.0, 1.0, 0.0], "the first rows only"


def test_one_that_never_counted_is_gone():
    history = TaskHistory(reach(0.0))
    history.change(21, reach(1.0))
    history.change(21, reach(2.0))
    assert history.over(STAMPS).running_cost(X, U).tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]


def test_without_a_change_it_is_the_task_itself():
    scored = TaskHistory(reach(1.0)).over(STAMPS)
    np.testing.assert_array_equal(scored.running_cost(X, U), reach(1.0).running_cost(X, U))
    assert score_trial(scored, X, U, 1.0, 5.0) == score_trial(reach(1.0), X, U, 1.0, 5.0)
    empty = TaskHistory(reach(1.0)).over([])
    assert score_trial(empty, X[:0], U[:0], 1.0, 5.0) == (0.0, 0.0, False)
