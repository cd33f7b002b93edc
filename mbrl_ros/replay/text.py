"""What a replay has found, in words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mbrl_ros.replay.differences import Differences
from mbrl_ros.replay.estimator import EstimatorResult
from mbrl_ros.replay.learner import LearnerResult
from mbrl_ros.replay.planner import PlannerResult
from mbrl_ros.robots.description import RobotDescription

SHOWN = 5  # stamps, and models, that are named


def said(
    results: Mapping[str, Any], skipped: Mapping[str, Sequence[str]], robot: RobotDescription, tolerance: float
) -> Iterator[str]:
    """Lines about each part.

    Args:
        results: by part.
        skipped: part -> topics that the bag lacks for it.
        robot: whose recording.
        tolerance: difference that counts as none.
    """
    yield f"{robot.name}: differences up to {tolerance:g} of an entry's range, and of a model's error, count as none"
    words: dict[str, Callable[[Any], Iterator[str]]] = {
        "estimator": about_estimator,
        "learner": about_learner,
        "planner": about_planner,
    }
    for part, result in results.items():
        yield f"{part}: {'agrees' if result.agrees else 'DIFFERS'}"
        yield from (f"  {line}" for line in words[part](result))
    for part, topics in skipped.items():
        yield f"{part}: cannot be replayed: {', '.join(topics)} was not recorded"


def about_estimator(result: EstimatorResult) -> Iterator[str]:
    """Lines about the estimator."""
    yield f"observations: {result.recorded} recorded, {result.replayed} replayed"
    yield from listed("only in the recording", result.missing)
    yield from listed("only in the replay", result.extra)
    yield from listed("bridged in one of them only", result.bridged)
    yield from listed("differ at the beginning, where the recording lacks what the filter knew", result.settling)
    yield from listed("at the very end, in one of them only", result.ending)
    yield from about_differences(result.differences)


def about_learner(result: LearnerResult) -> Iterator[str]:
    """Lines about the learner."""
    stored = "there is no store beside the bag" if result.stored is None else f"{result.stored} in the run's store"
    yield f"transitions: {result.transitions} replayed, {stored}"
    yield from listed("only in the store", result.missing)
    yield from listed("only in the replay", result.extra)
    yield from listed("with other numbers", result.different)
    same = sum(pair.identical for pair in result.models)
    yield f"models: {len(result.models)}, {same} of them identical, {len(result.differing)} differ"
    if result.lost_versions:
        yield f"  versions that were not recorded: {', '.join(map(str, result.lost_versions))}"
    for pair in result.differing[:SHOWN]:
        yield f"  version {pair.version}: " + (
            pair.problem
            or f"one-step error {pair.error:.6g} recorded, {pair.replayed_error:.6g} replayed, "
            f"of {pair.data_size} and {pair.replayed_size} transitions"
        )


def about_planner(result: PlannerResult) -> Iterator[str]:
    """Lines about the planner."""
    yield f"ticks: {result.planned} planned, {result.base} of the base policy"
    if result.cut:
        apart = result.cut_differences
        largest = max((d / u for d, u in zip(apart.largest, apart.unit, strict=True)), default=0.0)
        yield f"  {len(result.cut)} more, cut short by the deadline, differ by up to {largest:.3g} of the range"
    yield from listed("at the very end, with nothing more of them recorded", result.ending)
    yield from listed("cannot be replayed: observation or model was not recorded", result.lost)
    yield from about_differences(result.differences)


def about_differences(found: Differences) -> Iterator[str]:
    """A line an entry, and where it begins to differ."""
    for name, largest, rms in zip(found.names, found.largest, found.rms, strict=True):
        yield f"{name}: largest difference {largest:.3g}, rms {rms:.3g}"
    if found.beyond:
        first = ", ".join(f"{name} {value:.3g}" for name, value in found.first.items())
        yield f"{len(found.beyond)} of {found.compared} differ, the first at {1e-9 * found.beyond[0]:.3f} s by {first}"


def listed(what: str, stamps: Sequence[int]) -> Iterator[str]:
    """A line about stamps in ns, if there are any."""
    if stamps:
        some = ", ".join(f"{1e-9 * s:.3f}" for s in stamps[:SHOWN]) + (", ..." if len(stamps) > SHOWN else "")
        yield f"  {what}: {len(stamps)}, at {some} s"
