"""``mbrl_ros bench parameters``: random changes of parameters while the robot moves; is any wrong one taken?

The graph runs in real time with the default settings. In a first window nobody changes anything, in a second one valid
and invalid changes go to all nodes, single ones and whole lists. Each answer is compared with what is right by
construction; at the end the nodes' values are compared with those that were taken. No valid change asks for more
planning than the default settings do, nor for much less, so that the two windows can be compared.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from mbrl_ros.benchmarks.soak import running, told
from mbrl_ros.graph import NODES, group_classes

RATE = 25.0  # changes a second
VALID: dict[str, dict[str, tuple[float, float]]] = {  # ranges to draw valid values from
    "mpc_controller": {
        "horizon": (15, 16),
        "particles": (4, 5),
        "limit_share": (0.5, 1.0),
        "cem.samples": (58, 64),
        "cem.elites": (8, 10),
        "cem.initial_std": (0.1, 0.6),
        "cem.smoothing": (0.0, 0.5),
        "task.width": (0.2, 0.4),
        "task.upright_weight": (0.2, 0.6),
        "task.position_weight": (0.05, 0.2),
        "task.velocity_weight": (0.001, 0.005),
        "task.goal_position": (-1.0, 1.0),
        "risk.alpha": (0.1, 0.9),
    },
    "command_guard": {
        "guard.position_margin": (0.0, 0.2),
        "guard.velocity_margin": (0.0, 0.5),
        "guard.effort_margin": (0.0, 0.3),
        "guard.rate_limit": (0.5, 2.0),
    },
    "model_learner": {"refit_every": (8, 40)},
    "trial_manager": {"trials": (9000, 10000), "stop_after_solved": (9000, 10000)},
    "state_estimator": {},  # all that it has is built in
}
BEYOND = {  # within the range of the parameter itself, and not allowed for this robot
    "mpc_controller": {"task.goal_position": (2.6, 99.0)},
    "command_guard": {"guard.position_margin": (2.6, 999.0)},
    "trial_manager": {"task.goal_position": (-1.0, 1.0)},  # it follows the controller's
}


@dataclass(frozen=True)
class Change:
    """A request to a node.

    Attributes:
        node: its name.
        values: parameter -> value; None deletes it.
        valid: whether each may be taken by itself.
        together: all or none.
    """

    node: str
    values: dict[str, Any]
    valid: tuple[bool, ...]
    together: bool

    def right(self) -> list[bool]:
        """The answers that are right."""
        return [all(self.valid)] if self.together else list(self.valid)

    def taken(self) -> dict[str, Any]:
        """What is in force afterwards."""
        if self.together:
            return dict(self.values) if all(self.valid) else {}
        return {name: v for (name, v), ok in zip(self.values.items(), self.valid, strict=True) if ok}


def known_fields(node: str) -> dict[str, Any]:
    """Parameter -> field of a node with the default settings."""
    spec = NODES[node]
    groups = {"": spec.config} | group_classes(spec, spec.config())
    return {f"{prefix}.{f.name}".lstrip("."): f for prefix, cls in groups.items() for f in fields(cls)}


def changes(rng: np.random.Generator, count: int) -> Iterator[Change]:
    """`count` random requests, about half of them with something wrong in them."""
    known = {node: known_fields(node) for node in VALID}
    for _ in range(count):
        node = str(rng.choice(list(VALID)))
        size = 1 if rng.random() < 0.5 else int(rng.integers(2, 6))
        values, valid = {}, []
        for _ in range(size):
            ok = bool(VALID[node]) and rng.random() < 0.75
            name, value = (right_value if ok else wrong_value)(rng, node, known[node])
            if name not in values:
                values[name] = value
                valid.append(ok)
        yield Change(node, values, tuple(valid), together=bool(rng.random() < 0.5))


def right_value(rng: np.random.Generator, node: str, known: Mapping[str, Any]) -> tuple[str, Any]:
    """A parameter and a value that may be taken."""
    name = str(rng.choice(list(VALID[node])))
    low, high = VALID[node][name]
    if known[name].type is int:
        return name, int(rng.integers(int(low), int(high), endpoint=True))
    return name, float(rng.uniform(low, high))


def wrong_value(rng: np.random.Generator, node: str, known: Mapping[str, Any]) -> tuple[str, Any]:
    """A parameter and a value that must be refused."""
    dynamic = [n for n, f in known.items() if f.metadata["dynamic"] and f.type in (int, float)]
    built_in = [n for n, f in known.items() if not f.metadata["dynamic"] and f.type in (int, float, bool)]
    kinds = ["built in", "unknown", *(["range", "kind", "nan", "deleted"] if dynamic else [])]
    kinds += ["beyond"] if node in BEYOND else []
    kind = rng.choice(kinds)
    if kind == "unknown":
        return f"none_{rng.integers(100)}", 1.0
    if kind == "beyond":
        name, (low, high) = next(iter(BEYOND[node].items()))
        return name, float(rng.uniform(low, high))
    if kind == "built in":
        name = str(rng.choice(built_in))
        return name, another(known[name])
    name = str(rng.choice(dynamic))
    field = known[name]
    if kind == "nan" and field.type is float:
        return name, float("nan")
    outside = field.metadata["high"] + 1, field.metadata["low"] - 1
    wrong = {"range": field.type(outside[int(rng.integers(2))]), "deleted": None}
    return name, wrong.get(str(kind), "much")


def another(field: Any) -> Any:
    """Another value of a built-in parameter, within its range."""
    if field.type is bool:
        return not field.default
    low, high = field.metadata["low"], field.metadata["high"]
    if high is None or field.default + 1 <= high:
        return field.type(field.default + 1)
    return field.type((field.default + (high if field.default < high else low)) / 2)


def send(client: Any, wishes: Iterator[Change], rate: float) -> dict[str, Any]:
    """Send the changes, at most `rate` a second, and hold every answer and the last values against what is right.

    Args:
        client: a `ServiceClient`.
        wishes: the changes.
        rate: changes a second; inf: as fast as they are answered.
    """
    counts: Counter[str] = Counter()
    wrong, expected, seconds = [], {}, []  # type: ignore[var-annotated]
    began = time.monotonic()
    for number, change in enumerate(wishes):
        time.sleep(max(began + number / rate - time.monotonic(), 0.0))
        asked = time.monotonic()
        answers = client.set(change.node, change.values, change.together)
        seconds.append(time.monotonic() - asked)
        counts["changes"] += 1
        counts["taken"] += sum(ok for ok, _ in answers)
        counts["refused"] += sum(not ok for ok, _ in answers)
        counts["without reason"] += sum(not ok and not reason for ok, reason in answers)
        if [ok for ok, _ in answers] != change.right():
            wrong.append((change.node, str(change.values), change.together, answers))
        expected |= {(change.node, name): value for name, value in change.taken().items()}
    return {
        **counts,
        "wrong_answers": wrong,
        "wrong_values": wrong_values(client, expected),
        "answer_ms": {p: round(1e3 * float(np.percentile(seconds, q)), 1) for p, q in (("p50", 50), ("p99", 99))},
    }


def wrong_values(client: Any, expected: Mapping[tuple[str, str], Any]) -> list[tuple[str, str, Any, Any]]:
    """Node, parameter, right and present value, where these differ."""
    found = []
    for node in sorted({node for node, _ in expected}):
        right = {name: value for (n, name), value in expected.items() if n == node}
        present = client.get(node, list(right))
        found += [(node, name, value, present[name]) for name, value in right.items() if present[name] != value]
    return found


def run_benchmark(arguments: argparse.Namespace) -> int:
    """Run both windows, print and write the figures; 1 where an answer or a value was wrong or a process has died."""
    with running() as (graph, observer):
        from mbrl_ros.nodes.service_client import ServiceClient

        rng = np.random.default_rng(arguments.seed)
        result: dict[str, Any] = {"seed": arguments.seed}
        quiet = watched(observer, lambda: time.sleep(arguments.count / RATE))
        with ServiceClient() as client:
            changed = watched(observer, lambda: result.update(send(client, changes(rng, arguments.count), RATE)))
        result |= {"without_changes": quiet, "with_changes": changed, "died": graph.dead()}
    for name, value in result.items():
        print(f"{name}: {value}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1, default=str) + "\n")
    return 1 if result["wrong_answers"] or result["wrong_values"] or result["died"] else 0


def watched(observer: Any, work: Any) -> dict[str, Any]:
    """What the nodes and the guard said while the work was done."""
    time.sleep(1.5)  # the counts come once a second
    before, began = told(observer.values), time.monotonic()
    work()
    time.sleep(1.5)
    after, now = told(observer.values), time.monotonic()
    counted = ("deadline_misses", "observations_skipped", "late_simulator_ticks")
    return {
        "seconds": round(now - began, 1),
        **{name: after[name] - before[name] for name in counted if None not in (after[name], before[name])},
        "planning_ms_p99_of_the_last_ticks": after["planning_ms_p99"],
        "flags": dict(Counter(observer.recording.flags(began, now))),
    }
