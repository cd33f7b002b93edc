"""The one place where candidates get their costs, and what may be sent of them."""

import numpy as np

from mbrl_ros.planners.base import Problem


def evaluate(problem: Problem, x0: np.ndarray, actions: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """Cost of every candidate, non-finite ones +inf so that they never win.

    Args:
        problem: the control problem.
        x0: start state (nx,).
        actions: candidates (N, H, nu); what is evaluated is `reachable` of them.
        rng: source of the dynamics' noise where the problem samples it.

    Returns:
        Costs (N,), ``risk_p( sum_t l(x_t, u_t) + l_H(x_H) )``.
    """
    actions = reachable(problem, actions)
    noise = rng if problem.sample_noise else None
    states = problem.dynamics.rollout(x0, actions, noise, problem.particles)  # (P, N, H + 1, nx)
    with np.errstate(over="ignore", invalid="ignore"):
        running = problem.task.running_cost(states[:, :, :-1], actions[None]).sum(axis=-1)
        costs = problem.risk(running + problem.task.terminal_cost(states[:, :, -1]))
    costs = np.where(np.isfinite(costs), costs, np.inf)
    if problem.on_evaluated is not None:
        problem.on_evaluated(x0, actions, costs)
    return costs


def reachable(problem: Problem, actions: np.ndarray) -> np.ndarray:
    """What can be sent of actions (..., H, nu) where they may change by `u_step` a period, from `u_last` on.

    They are read as wishes: each period goes towards its wish as far as it may, as the command guard does. So planners
    search freely, and a target far away means to go there as fast as is allowed.
    """
    if problem.u_step is None or problem.u_last is None:
        return actions
    sent, last = np.empty(actions.shape), problem.u_last
    for t in range(actions.shape[-2]):
        last = np.clip(actions[..., t, :], last - problem.u_step, last + problem.u_step)
        sent[..., t, :] = last
    return sent
