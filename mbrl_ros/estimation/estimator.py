"""The state estimator without ROS: joints and base from all sources, one observation at a stamp."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from mbrl_ros.estimation.base import BaseEstimator
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.joint_filter import FilterResult, JointFilter, measurement
from mbrl_ros.estimation.replay import LATEST_STAMP, Replay


@dataclass(frozen=True)
class Observation:
    """The estimate at a stamp.

    Attributes:
        stamp_s: s.
        position: (nj,) m or rad.
        velocity: (nj,) m/s or rad/s.
        base: (nb,) entries of the base, see `Estimator.base_names`.
        valid: whether it may be used.
        reason: why not, or what was unusual.
        bridged: whether some of it is a prediction only.
    """

    stamp_s: float
    position: np.ndarray
    velocity: np.ndarray
    base: np.ndarray
    valid: bool
    reason: str
    bridged: bool


@dataclass
class Source:
    """What came from one source; times of the monotonic clock, so that no clock that is set changes an age."""

    heard_s: float = -math.inf
    received: int = 0
    late: int = 0  # replayed
    dropped: int = 0  # not used
    reason: str = ""  # why the last of those was not

    def age_s(self, monotonic_s: float) -> float:
        """How long it has been silent; inf if it never spoke."""
        return monotonic_s - self.heard_s


@dataclass
class Estimator:
    """Joint filter and base filter with their sources.

    Attributes:
        config: settings.
        n_joints: nj.
        position_noise: standard deviation of joint positions, m or rad.
        velocity_noise: the same of joint velocities.
        sources: what came from each source, by name.
    """

    config: FilterConfig
    n_joints: int
    position_noise: float
    velocity_noise: float
    sources: dict[str, Source] = field(init=False)

    def __post_init__(self) -> None:
        cfg = self.config
        joints = JointFilter(cfg, self.n_joints, self.position_noise, self.velocity_noise)
        self.joints: Replay[np.ndarray, FilterResult] = Replay(joints, cfg.late_window, cfg.rejections_to_restart)
        self.base = None if cfg.base == "none" else BaseEstimator(cfg)
        self.sources = {name: Source() for name in (*cfg.joints_sources, *cfg.base_sources)}

    @property
    def base_names(self) -> list[str]:
        """Names of the base's entries."""
        return [] if self.base is None else self.base.names

    @property
    def newest(self) -> float:
        """Stamp in s of the newest measurement, -inf before the first."""
        return self.joints.newest if self.base is None else max(self.joints.newest, self.base.newest)

    def measure_joints(
        self, stamp_s: float, source: str, position: np.ndarray, velocity: np.ndarray, monotonic_s: float
    ) -> str:
        """Use a JointState: (nj,) each, NaN where not measured; returns why it was not used, or an empty text."""
        z = measurement(position, velocity)
        empty = "" if np.isfinite(z).any() else "no finite number of any joint"
        newest = self.joints.newest
        problem = self.joints.measure(stamp_s, source, z)  # of an empty one, the stamp lets time pass
        self._note(source, stamp_s < newest, problem or empty, monotonic_s)
        return problem

    def pass_over(self, source: str, monotonic_s: float) -> str:
        """Count a JointState without any of the robot's joints, as of a gripper on the same topic; returns its problem.

        It lets no time pass: a measurement of the robot may have the same stamp.
        """
        problem = "none of the robot's joints"
        self._note(source, False, problem, monotonic_s)
        return problem

    def measure_base(
        self, stamp_s: float, source: str, value: np.ndarray, covariance: np.ndarray, monotonic_s: float
    ) -> str:
        """Use a measurement of the base, see `BaseEstimator.measure`."""
        if self.base is None:
            return "there is no base"
        newest = self.base.newest
        problem = self.base.measure(stamp_s, source, value, covariance)
        self._note(source, stamp_s < newest, problem, monotonic_s)
        return problem

    def observe(self, stamp_s: float) -> Observation:
        """Joints and base at a stamp."""
        if not abs(stamp_s) <= LATEST_STAMP:  # so written, NaN is none
            return replace(self.observe(0.0), valid=False, reason=f"the stamp {stamp_s:g} s is no time")
        joints = self.joints.at(stamp_s)
        if behind := self._behind(stamp_s):
            joints = replace(joints, valid=False, reason=behind)
        if self.base is None:
            return Observation(
                stamp_s, joints.position, joints.velocity, np.zeros(0), joints.valid, joints.reason, joints.bridged
            )
        self.base.predict(stamp_s)
        base_valid, base_reason = self.base.validity()
        reason = "; ".join(text for text in (joints.reason, base_reason) if text)
        valid, bridged = joints.valid and base_valid, joints.bridged or self.base.bridged
        return Observation(stamp_s, joints.position, joints.velocity, self.base.state(), valid, reason, bridged)

    def _behind(self, stamp_s: float) -> str:
        """Why a stamp lies too far back to be estimated, or an empty text."""
        lag = self.newest - stamp_s
        window = self.config.late_window
        return f"the newest measurement is {lag:.6g} s ahead: do the clocks agree?" if lag > window else ""

    def silent(self, monotonic_s: float) -> list[str]:
        """Sources that have not spoken for longer than their gap may be, with their ages."""
        ages = {name: source.age_s(monotonic_s) for name, source in self.sources.items()}
        return [f"{name} silent for {age:.2f} s" for name, age in ages.items() if age > self._longest_gap(name)]

    def _longest_gap(self, source: str) -> float:
        return self.config.max_gap if source in self.config.joints_sources else self.config.base_max_gap

    def _note(self, name: str, late: bool, problem: str, monotonic_s: float) -> None:
        source = self.sources[name]
        source.heard_s = monotonic_s
        source.received += 1
        source.late += late and not problem
        source.dropped += bool(problem)
        source.reason = problem or source.reason
