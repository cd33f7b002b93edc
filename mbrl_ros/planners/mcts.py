"""Monte Carlo tree search as a planner: controls from a grid, each held for some periods, the tree kept between ticks.

The search itself is `tree_search`. Macro-actions stay where they are in time: while one is being carried out, the next
tick searches what is left of it, the executed action with its whole subtree against its alternatives, which start anew.
"""

from dataclasses import dataclass, field

import numpy as np

from mbrl_ros.config import option, validate
from mbrl_ros.errors import ConfigError
from mbrl_ros.planners.base import Deadline, Plan, Problem
from mbrl_ros.planners.rollout import evaluate
from mbrl_ros.planners.tree_search import Node, Scale, most_visited, simulate

MAX_ACTIONS = 1000  # more children of a node than any tick could try


@dataclass(frozen=True)
class MCTSConfig:
    """Settings of MCTS."""

    simulations: int = option(
        60, "simulations a tick, each costs all children of one leaf", low=1, high=1_000_000, dynamic=True
    )
    levels: int = option(5, "values each action can take, evenly from its lower to its upper limit", low=2, high=100)
    repeat: int = option(2, "control periods a value is held, so that the tree reaches the horizon", low=1, high=1000)
    exploration: float = option(
        0.5,
        "c of UCT for costs scaled to [0, 1]: 0 greedy, sqrt(2) UCB1, large uniform",
        low=0.0,
        high=1e6,
        dynamic=True,
    )
    rollouts: int = option(4, "how often the default policy completes each new child", low=1, high=10_000, dynamic=True)
    default_policy: str = option(
        "smooth", "how sequences are completed: any values, or neighbouring ones", choices=("random", "smooth")
    )
    reuse: bool = option(True, "keep the subtree of the executed action and the cheapest sequence for the next tick")
    choose: str = option(
        "cheapest",
        "what is returned: the cheapest sequence met, or the most visited",
        choices=("cheapest", "visits"),
        dynamic=True,
    )

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class MCTSState:
    """What MCTS remembers between ticks.

    Attributes:
        root: the tree.
        phase: control periods for which the root's macro-action has been carried out already.
        best: cheapest sequence so far, action numbers from the root on; empty for none.
        best_cost: its cost at the last tick, in the units of the tree.
    """

    root: Node
    phase: int = 0
    best: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    best_cost: float = np.inf


class ControlSequences:
    """Control sequences on a grid, a `SequenceProblem`: action number a stands for the controls ``grid[a]``."""

    def __init__(self, problem: Problem, x0: np.ndarray, config: MCTSConfig, phase: int = 0) -> None:
        """Lay the grid; `phase` periods of the first macro-action are past.

        Raises:
            ConfigError: the grid has too many points.
        """
        nu = problem.dynamics.nu
        self.problem, self.x0, self.config = problem, x0, config
        self.shape = (config.levels,) * nu
        self.actions = config.levels**nu
        if self.actions > MAX_ACTIONS:
            raise ConfigError(f"levels: {config.levels}^{nu} actions are too many; expected at most {MAX_ACTIONS}")
        shares = np.stack(np.unravel_index(np.arange(self.actions), self.shape), axis=-1) / (config.levels - 1)
        self.grid = problem.u_min + shares * (problem.u_max - problem.u_min)  # (A, nu)
        self._macro = (np.arange(problem.horizon) + phase) // config.repeat  # which macro-action each period is in
        self.depth = int(self._macro[-1]) + 1

    def controls(self, sequences: np.ndarray) -> np.ndarray:
        """Action numbers (N, depth) -> controls (N, H, nu)."""
        return self.grid[sequences[:, self._macro]]

    def costs(self, sequences: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See `SequenceProblem.costs`."""
        return evaluate(self.problem, self.x0, self.controls(sequences), rng)

    def complete(self, prefixes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Append uniformly random actions, or a random walk over neighbouring levels: (N, d) -> (N, depth)."""
        missing = (len(prefixes), self.depth - prefixes.shape[1])
        if self.config.default_policy == "random":
            return np.concatenate([prefixes, rng.integers(self.actions, size=missing)], axis=1)
        last = np.stack(np.unravel_index(prefixes[:, -1], self.shape), axis=-1)
        steps = rng.integers(-1, 2, size=(*missing, len(self.shape)))
        levels = np.clip(last[:, None] + np.cumsum(steps, axis=1), 0, self.config.levels - 1)
        return np.concatenate([prefixes, np.ravel_multi_index(tuple(np.moveaxis(levels, -1, 0)), self.shape)], axis=1)

    def hold(self, prefix: np.ndarray) -> np.ndarray:
        """One sequence (d,), d >= 1, cut or continued with its last action: (depth,)."""
        return np.pad(prefix[: self.depth], (0, max(0, self.depth - len(prefix))), mode="edge")


class MCTS:
    """Searches the tree of gridded controls and returns the cheapest or the most visited sequence."""

    config_class = MCTSConfig

    def __init__(self, config: MCTSConfig) -> None:
        self.config = config

    def initial_state(self, problem: Problem, guess: np.ndarray | None = None) -> MCTSState:
        """An empty tree."""
        return MCTSState(Node(self.config.levels**problem.dynamics.nu))

    def plan(
        self, problem: Problem, x0: np.ndarray, state: MCTSState, rng: np.random.Generator, deadline: Deadline
    ) -> tuple[Plan, MCTSState]:
        """See `Planner.plan`; simulations that the deadline does not allow are left out. `state` is used up."""
        cfg = self.config
        sequences = ControlSequences(problem, x0, cfg, state.phase)
        state, offset = self._aligned(state, sequences, rng)
        best, best_cost, scale, done = state.best, state.best_cost - offset, Scale(), 0
        while done < cfg.simulations and deadline.allows_round():
            tried, costs = simulate(
                state.root, sequences, scale, rng, c=cfg.exploration, rollouts=cfg.rollouts, offset=offset
            )
            done += 1
            if len(best) == 0 or costs.min() < best_cost:
                best, best_cost = tried[np.argmin(costs)], float(costs.min())
        chosen, cost = best, best_cost
        if cfg.choose == "visits":
            chosen = sequences.hold(most_visited(state.root))
            cost = float(sequences.costs(chosen[None], rng)[0])
        plan = Plan(sequences.controls(chosen[None])[0], cost, done, complete=done == cfg.simulations)
        state = MCTSState(state.root, state.phase, chosen, cost + offset)
        for _ in range(problem.replan_every):
            state = self._shifted(state) if len(state.best) else state
        return plan, state

    def _aligned(
        self, state: MCTSState, sequences: ControlSequences, rng: np.random.Generator
    ) -> tuple[MCTSState, float]:
        """Make this tick's costs comparable with those in the tree.

        Since the last tick a period was paid for and one came into view at the end, and the model may have changed.
        The kept sequence shows by how much that moves costs: the offset makes its new cost agree with its old one.
        """
        if len(state.best) == 0:
            return state, 0.0
        best = sequences.hold(state.best)
        cost = float(sequences.costs(best[None], rng)[0])
        if not np.isfinite(cost) or not np.isfinite(state.best_cost):
            return MCTSState(Node(sequences.actions), state.phase, best, cost), 0.0
        return MCTSState(state.root, state.phase, best, state.best_cost), state.best_cost - cost

    def _shifted(self, state: MCTSState) -> MCTSState:
        """The state one period later, after the first action of `state.best` was carried out."""
        actions, first = len(state.root.visits), int(state.best[0])
        if not self.config.reuse:
            return MCTSState(Node(actions))
        if state.phase + 1 == self.config.repeat:
            root = state.root.children.get(first, Node(actions))
            return MCTSState(root, 0, state.best[1:], state.best_cost)
        root = Node(actions)  # the alternatives were tried from another past
        for name in ("visits", "finite", "total"):
            getattr(root, name)[first] = getattr(state.root, name)[first]
        root.children = {a: node for a, node in state.root.children.items() if a == first}
        return MCTSState(root, state.phase + 1, state.best, state.best_cost)
