"""Whether the next trial may begin: what people have asked for. Each wish is answered with a reason.

    start   trials begin, one after the other        step   one trial, then they wait
    stop    the trial that runs ends now, and the next one waits

On a real robot each trial needs a word of its own, because somebody must put the robot at its start: there `start` and
`step` are the same, and nothing is remembered that was said while the robot was not ready.
"""

HOLD, ONE, ALL = "hold", "one", "all"  # what may begin

Answer = tuple[bool, str]  # whether it is done, and a reason


class TrialSwitch:
    """Holds back trials or lets them begin.

    Attributes:
        running: number of the trial in progress, from its reset to its last tick; None between trials.
        ready: whether nothing but the switch is waited for.
        busy: what else prevents a trial for now, in words.
        stop_asked: whether the trial in progress is to end.
        doing: what is going on, in words, for refusals.
    """

    def __init__(self, held: bool, each: bool) -> None:
        """Set the switch.

        Args:
            held: whether the first trial waits.
            each: whether each trial needs a word of its own.
        """
        self._each, self._may = each, HOLD if held or each else ALL
        self.running: int | None = None
        self.ready = self.stop_asked = False
        self.busy = self.doing = ""

    @property
    def open(self) -> bool:
        """Whether the next trial may begin."""
        return self._may != HOLD and not self.busy

    def start(self) -> Answer:
        """Trials may begin, one after the other; on a robot, one."""
        if self._each:
            return self._one()
        if self._may == ALL:
            return True, f"trials begin by themselves already: {self.doing}"
        self._may = ALL
        return True, "trials begin, one after the other"

    def step(self) -> Answer:
        """One trial may begin, then the next one waits."""
        if self._each:
            return self._one()
        if self.running is not None:
            return False, f"not now: trial {self.running} is running; stop ends it"
        self._may = ONE
        return True, "one trial begins, then the next one waits"

    def stop(self) -> Answer:
        """The trial in progress ends, and the next one waits."""
        self._may = HOLD
        if self.running is None:
            return True, "no trial is running; the next one waits for start or step"
        self.stop_asked = True
        return True, f"trial {self.running} ends now; the next one waits for start or step"

    def idle(self) -> Answer:
        """Whether nothing runs or is about to, and why (not)."""
        if self._may != HOLD or not self.ready or self.busy:
            return False, f"not now: {self.busy or self.doing}; stop first"
        return True, ""

    def hold(self) -> None:
        """The trial has not begun: the next word is waited for."""
        self._may, self.running, self.stop_asked = HOLD, None, False

    def began(self, index: int) -> None:
        """A trial is in progress."""
        self.running, self.ready, self.stop_asked = index, False, False

    def ended(self) -> None:
        """The trial is over."""
        self.running, self.stop_asked = None, False
        if self._may == ONE or self._each:
            self._may = HOLD

    def _one(self) -> Answer:
        """One trial, if the robot is ready for it now."""
        if not self.ready or self.open or self.busy:
            return False, f"not now: {self.busy or self.doing}"
        self._may = ONE
        return True, "the trial begins"
