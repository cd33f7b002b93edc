"""UCT on small tabular problems against value iteration and enumeration, and its parts by hand."""

import itertools

import numpy as np

from mbrl_ros.planners.tree_search import Node, Scale, backup, most_visited, select, simulate, uct

STATES, ACTIONS, DEPTH = 5, 3, 4


class TabularMDP:
    """Deterministic or random transitions between a few states; costs in [0, 1] a step."""

    actions, depth = ACTIONS, DEPTH

    def __init__(self, seed, deterministic=True):
        rng = np.random.default_rng(seed)
        self.cost = rng.uniform(size=(STATES, ACTIONS))
        if deterministic:
            self.transition = np.eye(STATES)[rng.integers(STATES, size=(STATES, ACTIONS))]
        else:
            self.transition = rng.dirichlet(np.full(STATES, 0.3), size=(STATES, ACTIONS))

    def complete(self, prefixes, rng):
        missing = (len(prefixes), self.depth - prefixes.shape[1])
        return np.concatenate([prefixes, rng.integers(self.actions, size=missing)], axis=1)

    def costs(self, sequences, rng):
        return np.array([self.sample(sequence, rng) for sequence in sequences])

    def sample(self, sequence, rng):
        state, total = 0, 0.0
        for action in sequence:
            total += self.cost[state, action]
            state = int(np.searchsorted(np.cumsum(self.transition[state, action]), rng.uniform() * (1 - 1e-9)))
        return total

    def value_iteration(self):
        """Exact cost-to-go of the actions in state 0."""
        value = np.zeros(STATES)
        for _ in range(self.depth):
            q = self.cost + self.transition @ value
            value = q.min(axis=1)
        return q[0]

    def best_sequence(self):
        """Exact expected cost of the best open-loop sequence after each first action, by enumeration."""
        expected = np.full(self.actions, np.inf)
        for sequence in itertools.product(range(self.actions), repeat=self.depth):
            state, total = np.eye(STATES)[0], 0.0
            for action in sequence:
                total += state @ self.cost[:, action]
                state = state @ self.transition[:, action]
            expected[sequence[0]] = min(expected[sequence[0]], total)
        return expected


def search(problem, simulations, seed=0, c=0.5, rollouts=1):
    root, scale, rng = Node(problem.actions), Scale(), np.random.default_rng(seed)
    for _ in range(simulations):
        simulate(root, problem, scale, rng, c=c, rollouts=rollouts)
    return root, scale


def root_errors(simulations, deterministic, seeds=8):
    """Mean over problems of |value of the most visited action - optimum|, and how often that action is optimal."""
    errors, optimal = [], []
    for seed in range(seeds):
        problem = TabularMDP(seed, deterministic)
        exact = problem.value_iteration() if deterministic else problem.best_sequence()
        root, scale = search(problem, simulations, seed)
        action = most_visited(root)[0]
        errors.append(abs(root.mean(scale.high)[action] - exact.min()))
        optimal.append(exact[action] < exact.min() + 0.05)
    return np.mean(errors), np.mean(optimal)


def test_root_value_converges_to_value_iteration():
    """Mean error over 8 problems falls with the simulations; thresholds: 0.06 and every action optimal at last."""
    errors, optimal = zip(*(root_errors(n, deterministic=True) for n in (10, 100, 2000)), strict=True)
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.06 and optimal[2] == 1.0


def test_sampled_dynamics_converge_to_the_best_sequence():
    """Random transitions: the open-loop optimum by enumeration; thresholds: 0.15, falling."""
    errors, optimal = zip(*(root_errors(n, deterministic=False) for n in (10, 2000)), strict=True)
    assert errors[0] > 2 * errors[1]
    assert errors[1] < 0.15 and optimal[1] == 1.0


def test_tree_policy_by_hand():
    node, scale = Node(2), Scale()
    scale.add(np.array([0.0, 10.0]))
    node.add(0, np.array([4.0, 4.0, 4.0, 4.0]))
    node.add(1, np.array([5.0]))
    # 0.4 - c sqrt(ln 5 / 4) against 0.5 - c sqrt(ln 5): equal at c = 0.1576
    assert uct(node, 0.15, scale) == 0
    assert uct(node, 0.16, scale) == 1


def test_costs_are_scaled_so_that_units_do_not_matter():
    class Scaled(TabularMDP):
        def costs(self, sequences, rng):
            return 1000.0 * super().costs(sequences, rng) - 300.0

    small, _ = search(TabularMDP(1), 100)
    large, _ = search(Scaled(1), 100)
    np.testing.assert_array_equal(small.visits, large.visits)
    assert np.all(Scale().normalised(small) == 0.0)  # nothing met yet


def test_c_zero_is_greedy_and_large_c_uniform():
    greedy, _ = search(TabularMDP(0), 300, c=0.0)
    middle, _ = search(TabularMDP(0), 300, c=0.5)
    uniform, _ = search(TabularMDP(0), 300, c=1e6)
    share = [root.visits.max() / root.visits.sum() for root in (uniform, middle, greedy)]
    assert share[0] < 1 / ACTIONS + 0.02
    assert share[0] < share[1] < share[2]
    assert share[2] > 0.95


def test_visits_add_up_through_the_tree():
    root, _ = search(TabularMDP(2), 200, rollouts=2)

    def check(node, depth):
        for action, child in node.children.items():
            if child.visits.any() and depth + 1 < DEPTH:  # what came through, less the visit before it was a node
                assert child.visits.sum() == node.visits[action] - 2
                check(child, depth + 1)

    check(root, 0)
    np.testing.assert_array_equal(root.visits, root.finite)


def test_select_and_backup_by_hand():
    root, scale = Node(2), Scale()
    assert select(root, DEPTH, 1.0, scale) == []
    backup([], root, np.array([[0], [1]]), np.array([[1.0, 3.0], [5.0, np.inf]]))
    np.testing.assert_array_equal(root.visits, [2, 2])
    np.testing.assert_array_equal(root.mean(9.0), [2.0, 7.0])
    scale.add(np.array([1.0, 9.0, np.inf]))
    path = select(root, DEPTH, 0.0, scale)
    assert path == [(root, 0)]
    backup(path, root.children[0], np.array([[1]]), np.array([[8.0]]))
    np.testing.assert_array_equal(root.visits, [3, 2])
    np.testing.assert_array_equal(root.children[0].visits, [0, 1])
    np.testing.assert_array_equal(root.children[0].mean(9.0), [9.0, 8.0])
    np.testing.assert_array_equal(most_visited(root), [0, 1])


def test_diverging_sequences_count_as_the_worst_and_never_win():
    class Breaks(TabularMDP):
        def costs(self, sequences, rng):
            return np.where(sequences[:, 0] == 1, np.inf, super().costs(sequences, rng))

    root, scale = search(Breaks(0), 200)
    assert most_visited(root)[0] != 1
    assert root.mean(scale.high)[1] == scale.high and np.all(np.isfinite(root.mean(scale.high)))


def test_every_parameter_changes_the_search():
    base, _ = search(TabularMDP(3), 50)
    for change in ({"c": 2.0}, {"rollouts": 3}, {"seed": 1}):
        other, _ = search(TabularMDP(3), 50, **change)
        assert np.any(base.total != other.total)


def test_offset_moves_values_but_not_returned_costs():
    root, other = Node(ACTIONS), Node(ACTIONS)
    _, costs = simulate(root, TabularMDP(0), Scale(), np.random.default_rng(0), c=1.0)
    _, same = simulate(other, TabularMDP(0), Scale(), np.random.default_rng(0), c=1.0, offset=2.5)
    np.testing.assert_array_equal(costs, same)
    np.testing.assert_allclose(other.mean(0.0), root.mean(0.0) + 2.5)
