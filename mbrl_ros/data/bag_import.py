"""Builds a data set from recorded bags, through the code that pairs observations and commands while the robot moves."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from mbrl_ros.data.bag_reader import Applied, Event, Observed, TrialBegins
from mbrl_ros.data.pairing import USABLE, Pair, TransitionPairer
from mbrl_ros.data.store_format import Row

NO_COMMAND = "no command was applied"
NO_OBSERVATION = "no observation at its start"
OUT_OF_ORDER = "came out of order, or twice"
TRIAL_END = "the trial ends here: a reset follows"
RECORDING_END = "the recording ends here"
GAP = "gap: no observation one period later"


@dataclass(frozen=True)
class Imported:
    """What a recording gives.

    Attributes:
        rows: its transitions in order.
        left_out: reason -> number of periods that give no transition.
    """

    rows: list[Row]
    left_out: Counter[str]


@dataclass
class Notes:
    """What a recording has at each stamp (ns), to say afterwards why a period gave no transition."""

    observed: dict[int | None, str] = field(default_factory=dict)  # stamp -> problem
    applied: dict[int, Applied] = field(default_factory=dict)
    trials: dict[int | None, int | None] = field(default_factory=dict)  # stamp of an observation -> trial

    def reason(self, stamp: int, later: int | None, dt_ns: int) -> str:
        """Why the period that begins at `stamp` gave no transition; `later` is the stamp of the next observation."""
        if (command := self.applied.get(stamp)) is None:
            ended = later is not None and self.trials.get(stamp) != self.trials.get(later)
            return RECORDING_END if later is None else TRIAL_END if ended else NO_COMMAND
        here, there = self.observed.get(stamp, ""), self.observed.get(later, "")
        checks = (
            (command.flag not in USABLE, f"command '{command.flag}'"),
            (not np.all(np.isfinite(command.u)), "command not finite, or not of this robot's actuators"),
            (stamp not in self.observed, NO_OBSERVATION),
            (here, f"observation {here}"),
            (later is None, RECORDING_END),
            (self.trials.get(stamp) != self.trials.get(later), TRIAL_END),
            (later != stamp + dt_ns, GAP),
            (there, f"next observation {there}"),
            (True, OUT_OF_ORDER),
        )
        return next(text for wrong, text in checks if wrong)


def import_events(events: Iterable[Event], dt_ns: int) -> Imported:
    """Pair what a recording holds.

    Args:
        events: of one bag, in the order in which they were recorded.
        dt_ns: control period in ns.

    Trajectories count from 0. Trials have the trial manager's indices; without its topic each trajectory is one.
    """
    pairer, notes = TransitionPairer(dt_ns, 0), Notes()
    rows: list[Row] = []
    trial: int | None = None
    for event in events:
        if isinstance(event, TrialBegins):
            trial = event.index
            continue
        pairs = observe(pairer, notes, event, trial) if isinstance(event, Observed) else apply(pairer, notes, event)
        rows += [to_row(pair, notes.trials[pair.stamp_ns]) for pair in pairs]
    return Imported(rows, count_left_out(notes, {row.stamp_ns for row in rows}, dt_ns))


def observe(pairer: TransitionPairer, notes: Notes, event: Observed, trial: int | None) -> list[Pair]:
    """Hand an observation on, unless something is wrong with it, as the learner does."""
    problem = event.problem or ("" if np.all(np.isfinite(event.x)) else "not finite: a joint is missing")
    problem = problem or ("from before the year 1970" if event.stamp_ns < 0 else "")
    notes.observed.setdefault(event.stamp_ns, problem)
    notes.trials.setdefault(event.stamp_ns, trial)
    return [] if problem else pairer.observe(event.stamp_ns, event.x)


def apply(pairer: TransitionPairer, notes: Notes, event: Applied) -> list[Pair]:
    """Hand a command on."""
    notes.applied[event.stamp_ns] = event
    return pairer.apply(event.stamp_ns, event.u, event.flag)


def to_row(pair: Pair, trial: int | None) -> Row:
    """A transition as it is stored."""
    index = pair.trajectory if trial is None else trial
    return Row(pair.stamp_ns, index, pair.trajectory, pair.x, pair.u, pair.x_next, pair.flag)


def shifted(rows: Iterable[Row], trajectory: int, trial: int) -> list[Row]:
    """The rows with their trajectories and trials counted on from the given numbers."""
    return [replace(row, trajectory=row.trajectory + trajectory, trial=row.trial + trial) for row in rows]


def count_left_out(notes: Notes, taken: set[int], dt_ns: int) -> Counter[str]:
    """Reasons of all periods that gave no transition; the last observation before a gap, too, begins a period."""
    stamps = sorted(stamp for stamp in notes.observed if stamp is not None)
    later = dict(pairwise(stamps))
    candidates = sorted((set(stamps) | set(notes.applied)) - taken)
    return Counter(notes.reason(stamp, later.get(stamp), dt_ns) for stamp in candidates)
