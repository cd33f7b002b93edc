"""Iterative LQR as a planner (Li and Todorov 2004; Tassa, Erez and Todorov 2012); the iterations: `ilqr_solver.py`.

Any `DifferentiableDynamics` will do, known or learned. The plan is through the dynamics' mean: `particles`,
`sample_noise` and `risk` of the problem are not used.
"""

from dataclasses import dataclass

import numpy as np

from mbrl_ros.planners.base import Deadline, Plan, Problem
from mbrl_ros.planners.cem import shift
from mbrl_ros.planners.ilqr_solver import ConvergenceReport, ILQRConfig, Solution, Solver


@dataclass(frozen=True)
class ILQRState:
    """What is remembered between ticks: actions (H, nu), already shifted (None: nothing yet), and the last report."""

    actions: np.ndarray | None
    report: ConvergenceReport | None = None


class ILQR:
    """Optimises the last tick's plan, shifted, and returns it with its feedback gains."""

    config_class = ILQRConfig
    second_order = False  # whether the dynamics' second derivatives enter the backward pass

    def __init__(self, config: ILQRConfig) -> None:
        self.config = config

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> ILQRState:
        """Nothing known."""
        return ILQRState(None)

    def plan(
        self, problem: Problem, x0: np.ndarray, state: ILQRState, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, ILQRState]:
        """See `Planner.plan`; the deadline is looked at between iterations."""
        guess = self._first_guess(problem, rng) if state.actions is None else state.actions
        solution = self.solve(problem, x0, guess, deadline)
        report = solution.report
        complete = report.status in ("converged", "iterations")
        cost, gains = report.costs[-1], solution.gains
        plan = Plan(solution.actions, cost, report.iterations, complete, gains, solution.states)
        return plan, ILQRState(shift(solution.actions, problem.replan_every), report)

    def solve(self, problem: Problem, x0: np.ndarray, guess: np.ndarray, deadline: Deadline | None = None) -> Solution:
        """Optimise the actions `guess` (H, nu) from x0 (nx,).

        Raises:
            ConfigError: dynamics without the derivatives that the method needs.
        """
        solver = Solver(problem, self.config, self.second_order)
        return solver.run(np.asarray(x0, float), np.asarray(guess, float), deadline or Deadline())

    def _first_guess(self, problem: Problem, rng: np.random.Generator) -> np.ndarray:
        """Small random actions (H, nu): in an equilibrium the gradient of no action at all may well be zero."""
        middle, half = 0.5 * (problem.u_min + problem.u_max), 0.5 * (problem.u_max - problem.u_min)
        noise = rng.standard_normal((problem.horizon, problem.dynamics.nu))
        return middle + self.config.initial_std * half * noise
