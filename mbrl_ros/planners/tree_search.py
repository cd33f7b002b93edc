"""Monte Carlo tree search with UCT (Kocsis and Szepesvari 2006) over sequences of discrete actions.

The tree is open-loop: a node stands for the actions that lead to it, not for a state. With deterministic dynamics
that is the same. With sampled dynamics every simulation draws anew, a node's value is the mean over what may happen,
and the search approaches the best sequence instead of the best policy (open-loop UCT, Lecarpentier et al. 2018);
continuous states never repeat, so a tree of sampled states would not grow deeper than its root.

One simulation: `select` a leaf by the tree policy, `expand` all its children and complete each by the default policy,
cost all of these in one batch, and `backup`. Costs are minimised.
"""

from typing import Protocol

import numpy as np


class SequenceProblem(Protocol):
    """What is searched: the cheapest sequence of `depth` actions, each one of 0 ... `actions` - 1."""

    @property
    def actions(self) -> int:
        """Number of actions A."""

    @property
    def depth(self) -> int:
        """Length of a complete sequence."""

    def complete(self, prefixes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The default policy: prefixes (N, d) of action numbers, d >= 1 -> complete sequences (N, depth)."""

    def costs(self, sequences: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Total cost of complete sequences, a sample where the dynamics are random: (N, depth) -> (N,)."""


class Node:
    """Statistics of the A actions at a node.

    Attributes:
        visits: costs backed up through each action (A,).
        finite: how many of them were finite (A,).
        total: sum of the finite ones (A,).
        children: nodes behind the actions, as far as the search went.
    """

    __slots__ = ("children", "finite", "total", "visits")

    def __init__(self, actions: int) -> None:
        self.visits = np.zeros(actions, np.int64)
        self.finite = np.zeros(actions, np.int64)
        self.total = np.zeros(actions)
        self.children: dict[int, Node] = {}

    def mean(self, worst: float) -> np.ndarray:
        """Mean cost of each action (A,), non-finite costs counted as `worst`; `worst` where never visited."""
        failed = self.visits - self.finite
        counted = np.maximum(self.visits, 1)
        return np.where(self.visits > 0, (self.total + (worst * failed if failed.any() else 0.0)) / counted, worst)

    def add(self, action: int, costs: np.ndarray) -> None:
        """Back up costs (N,) through an action."""
        finite = costs[np.isfinite(costs)]
        self.visits[action] += len(costs)
        self.finite[action] += len(finite)
        self.total[action] += finite.sum()


class Scale:
    """Running minimum and maximum of the finite costs, so that the exploration constant needs no unit."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def add(self, costs: np.ndarray) -> None:
        """Take costs (N,) into account."""
        finite = costs[np.isfinite(costs)]
        if len(finite):
            self.low, self.high = min(self.low, finite.min()), max(self.high, finite.max())

    def normalised(self, node: Node) -> np.ndarray:
        """Mean costs of a node's actions, 0 the lowest and 1 the highest cost met: (A,)."""
        if not self.high > self.low:
            return np.zeros(len(node.visits))
        return np.clip((node.mean(self.high) - self.low) / (self.high - self.low), 0.0, 1.0)


def uct(node: Node, c: float, scale: Scale) -> int:
    """The tree policy: least ``cost - c sqrt(ln N / n)``, costs in [0, 1]; c = sqrt(2) is UCB1, 0 greedy."""
    bonus = np.sqrt(np.log(node.visits.sum()) / node.visits)
    return int(np.argmin(scale.normalised(node) - c * bonus))


def select(root: Node, depth: int, c: float, scale: Scale) -> list[tuple[Node, int]]:
    """Walk down while every action of the node has been tried: [(node, action), ...], at most `depth` long."""
    path: list[tuple[Node, int]] = []
    node = root
    while len(path) < depth and node.visits.all():
        action = uct(node, c, scale)
        path.append((node, action))
        node = node.children.setdefault(action, Node(len(node.visits)))
    return path


def expand(path: list[tuple[Node, int]], root: Node, depth: int) -> tuple[Node | None, np.ndarray]:
    """The leaf behind a path and what to try there: its untried actions; None and nothing more at full depth."""
    if len(path) == depth:
        return None, np.empty((1, 0), np.int64)
    leaf = path[-1][0].children[path[-1][1]] if path else root
    return leaf, np.flatnonzero(leaf.visits == 0)[:, None]


def backup(path: list[tuple[Node, int]], leaf: Node | None, tried: np.ndarray, costs: np.ndarray) -> None:
    """Add costs (K, R) to the K actions `tried` (K, 1) at the leaf, and all of them to every action of the path."""
    for node, action in path:
        node.add(action, costs.ravel())
    if leaf is not None:
        for action, samples in zip(tried[:, 0], costs, strict=True):
            leaf.add(action, samples)


def simulate(
    root: Node,
    problem: SequenceProblem,
    scale: Scale,
    rng: np.random.Generator,
    *,
    c: float,
    rollouts: int = 1,
    offset: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """One simulation: select, expand, complete and cost in one batch, backup.

    Args:
        root: where the tree begins; it grows.
        problem: what is searched.
        scale: range of the costs met so far; it grows.
        rng: random generator.
        c: exploration constant for costs in [0, 1].
        rollouts: R, how often the default policy completes each new child.
        offset: added to costs before they enter the tree, so that trees made at different times agree.

    Returns:
        The complete sequences tried (K R, depth) and their costs (K R,), without the offset.
    """
    path = select(root, problem.depth, c, scale)
    leaf, tried = expand(path, root, problem.depth)
    taken = np.tile(np.array([action for _, action in path], np.int64), (len(tried), 1))
    prefixes = np.repeat(np.concatenate([taken, tried], axis=1), rollouts, axis=0)
    sequences = problem.complete(prefixes, rng)
    costs = problem.costs(sequences, rng)
    scale.add(costs + offset)
    backup(path, leaf, tried, (costs + offset).reshape(len(tried), rollouts))
    return sequences, costs


def most_visited(root: Node) -> np.ndarray:
    """Actions from the root along the most visited children, down to the first that nothing was tried behind."""
    actions: list[int] = []
    node: Node | None = root
    while node is not None and node.visits.any():
        actions.append(int(np.argmax(node.visits)))
        node = node.children.get(actions[-1])
    return np.array(actions, np.int64)
