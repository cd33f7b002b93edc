"""What a planner has tried at one tick, for people to see; nothing is kept while nobody looks."""

from dataclasses import dataclass

import numpy as np

SHOWN = 24  # candidates that are shown of the hundreds that a tick tries


@dataclass(frozen=True)
class Candidates:
    """Some of the candidates of one tick, cheapest first.

    Attributes:
        start: state (nx,) that they begin in.
        actions: (K, H, nu).
        costs: (K,), finite.
    """

    start: np.ndarray
    actions: np.ndarray
    costs: np.ndarray


class CandidateLog:
    """Takes notes of what `planners.rollout.evaluate` is asked; to be set as `Problem.on_evaluated`."""

    def __init__(self) -> None:
        self._rounds: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __call__(self, start: np.ndarray, actions: np.ndarray, costs: np.ndarray) -> None:
        """Note a round: start (nx,), actions (N, H, nu), costs (N,). Keeps references, copies nothing."""
        self._rounds.append((start, actions, costs))

    def take(self, shown: int = SHOWN) -> Candidates | None:
        """At most `shown` of all that was tried since the last call, evenly over their ranks; None without any.

        The ranks are those of all rounds together, so that the cheapest and the most expensive are always shown.
        """
        rounds, self._rounds = self._rounds, []
        horizon = max((actions.shape[1] for _, actions, _ in rounds), default=0)
        rounds = [r for r in rounds if r[1].shape[1] == horizon]  # a tree search tries beginnings, too
        costs = np.concatenate([c for *_, c in rounds]) if rounds else np.empty(0)
        ranked = np.argsort(costs, kind="stable")[: np.isfinite(costs).sum()]
        if len(ranked) == 0:
            return None
        chosen = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(shown, len(ranked))).round().astype(int))]
        actions = np.concatenate([actions for _, actions, _ in rounds])[chosen]
        return Candidates(rounds[-1][0], actions, costs[chosen])
