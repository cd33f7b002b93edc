"""The state estimator node: sensor messages in, one stamped observation out."""

import functools
import math
import sys
import time
from collections import deque
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState

from mbrl_ros.estimation.base_messages import base_measurements
from mbrl_ros.estimation.config import FilterConfig
from mbrl_ros.estimation.estimator import Estimator, Observation, Source
from mbrl_ros.estimation.group_delay import group_delay
from mbrl_ros.estimation.output_clock import OutputClock
from mbrl_ros.nodes.conversions import (
    NANOSECONDS,
    from_joint_state,
    from_time,
    to_joint_state,
)
from mbrl_ros.nodes.managed_node import ManagedNode
from mbrl_ros.nodes.managed_parameters import Problems
from mbrl_ros.nodes.pipeline_node import OK, RELIABLE, WARN, run
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.sensors import estimator_config

LATEST_NS = (2**31 - 1) * NANOSECONDS  # what a ROS time can hold
FREQUENCY_SHARE = 0.05  # of the control rate: the motion on which the group delay is measured
LAGS_KEPT = 200  # observations over which the lag is reported


class StateEstimator(ManagedNode):
    """Filters what the sensors send; publishes an observation only while it is valid.

    With `filter.rate` 0 each measurement with a new stamp makes an observation, else a timer does.
    """

    what = "estimate"

    def __init__(self) -> None:
        super().__init__("state_estimator")

    def examine(self, problems: Problems) -> None:
        """See ManagedNode."""
        rate = self.groups["filter"].rate
        if self.config.lockstep and rate > 0:
            problems.append(f"filter.rate: {rate:g} Hz is not allowed in lockstep; expected 0")
        if self.robot is not None:
            with problems:
                self.new_estimator()

    def set_up(self) -> None:
        """See ManagedNode."""
        robot, cfg = self.robot, estimator_config(self.groups["filter"], self.robot)
        self.estimator = self.new_estimator()
        self.names = [*robot.joints, *self.estimator.base_names]
        self.published = self.withheld = 0
        self.last_ns = -1  # stamp of the last observation
        self.validity = (False, "nothing measured yet")
        self.lags_s: deque[float] = deque(maxlen=LAGS_KEPT)
        self.delays = measured_delays(cfg, robot)
        self.observations = self.publish_to(JointState, "observation")
        self.listen(cfg)
        noted = self.received(self.note_nodes, None, "")  # so that the trial manager's death, too, is told by somebody
        self.create_subscription(DiagnosticArray, "/diagnostics", noted, RELIABLE)
        if cfg.rate > 0:
            self.output_clock = OutputClock(round(NANOSECONDS / cfg.rate), robot.sensing_ns)
            self.output_timer = self.create_wall_timer(1.0 / cfg.rate, self.guarded(self.on_timer))

    def new_estimator(self) -> Estimator:
        """An estimator that has measured nothing yet."""
        robot, cfg = self.robot, estimator_config(self.groups["filter"], self.robot)
        estimator = Estimator(cfg, len(robot.joints), robot.position_noise, robot.velocity_noise)
        for topic in () if robot.joints else cfg.joints_sources:
            del estimator.sources[topic]  # nobody listens to it
        return estimator

    def begin(self) -> None:
        """See ManagedNode; what was measured before a rest says nothing any more."""
        self.estimator, self.validity = self.new_estimator(), (False, "nothing measured yet")
        self.doing(f"waiting for {', '.join(self.estimator.sources)}")

    def listen(self, cfg: FilterConfig) -> None:
        """Subscribe to every source."""
        for topic in cfg.joints_sources if self.robot.joints else ():
            self.listen_to(
                JointState, topic, functools.partial(self.on_joint_states, topic), self.sensor_qos, periodic=True
            )
        for kind, topic, callback in (
            (Odometry, cfg.odometry_topic, self.on_odometry),
            (PoseStamped, cfg.pose_topic, self.on_pose),
            (Imu, cfg.imu_topic, self.on_imu),
        ):
            if topic:
                self.listen_to(kind, topic, callback, self.sensor_qos, periodic=True)

    # what comes in

    def on_joint_states(self, source: str, message: JointState) -> None:
        """Positions and velocities of joints, of as many as the message has."""
        if not set(self.robot.joints) & set(message.name):
            self.estimator.pass_over(source, time.monotonic())
            return
        stamp_ns = from_time(message.header.stamp)
        position, velocity = from_joint_state(message, self.robot.joints)
        problem = self.estimator.measure_joints(1e-9 * stamp_ns, source, position, velocity, time.monotonic())
        self.on_measured(stamp_ns, problem)

    def on_odometry(self, message: Odometry) -> None:
        """Pose and twist of the base, either or both."""
        self.measure_base(message, "Odometry")

    def on_pose(self, message: PoseStamped) -> None:
        """Pose of the base; the message has no covariance."""
        self.measure_base(message, "PoseStamped")

    def on_imu(self, message: Imu) -> None:
        """Angular velocity and specific force of the base; its orientation only where it was asked for."""
        self.measure_base(message, "Imu")

    def measure_base(self, message: Any, kind: str) -> None:
        """Use what the configuration wants of a message."""
        stamp_ns = from_time(message.header.stamp)
        problems = [
            self.estimator.measure_base(1e-9 * stamp_ns, source, value, covariance, time.monotonic())
            for source, (value, covariance) in base_measurements(message, kind).items()
            if source in self.estimator.sources
        ]
        self.on_measured(stamp_ns, "; ".join(problems) if all(problems) else "")

    # what goes out

    def on_measured(self, stamp_ns: int, problem: str) -> None:
        """Publish, unless a timer does; a measurement that came late has been worked in and shows in the next."""
        if problem:
            self.withhold(problem)
        elif 1e-9 * stamp_ns == self.estimator.newest and stamp_ns != self.last_ns:
            if self.estimator.config.rate == 0:
                self.publish_observation(stamp_ns)
            else:
                self.output_clock.arrived(stamp_ns, self.now_ns())

    def on_timer(self) -> None:
        """One observation of a timer, predicted to its stamp; there is none before the first measurement.

        Its moment lies back by the sensing delay: what has not arrived yet is for the controller's model to predict.
        """
        stamp_ns = self.output_clock.stamp(self.now_ns())
        if stamp_ns is not None and math.isfinite(self.estimator.newest):
            self.publish_observation(stamp_ns)
            self.output_clock.used(stamp_ns - round(NANOSECONDS * self.estimator.newest))
        self.output_timer.timer_period_ns = self.output_clock.wait_ns(self.now_ns())
        self.output_timer.reset()

    def now_ns(self) -> int:
        """The time on the graph's clock."""
        return self.get_clock().now().nanoseconds

    def publish_observation(self, stamp_ns: int) -> None:
        """Publish the estimate at a stamp, or say why there is none.

        Where a measurement had to be bridged, `header.frame_id` says why.
        """
        observation = self.estimator.observe(1e-9 * stamp_ns)
        problem = self.problem(stamp_ns, observation)
        self.validity = (not problem, problem or observation.reason)
        if problem:
            self.withhold(problem)
            return
        self.published += 1
        self.last_ns = stamp_ns
        self.doing("estimating")
        base = observation.base
        x = np.concatenate([observation.position, base, observation.velocity, np.zeros(len(base))])
        remark = observation.reason if observation.bridged else ""
        self.observations.publish(to_joint_state(stamp_ns, self.names, x, remark))
        self.note_sent("observation")
        self.lags_s.append(1e-9 * self.now_ns() - self.estimator.newest)

    def problem(self, stamp_ns: int, observation: Observation) -> str:
        """Why an observation is not published, or an empty text."""
        if not 0 <= stamp_ns <= LATEST_NS:
            return f"the stamp {1e-9 * stamp_ns:g} s is no ROS time"
        if not observation.valid:
            return observation.reason + self.doubt(stamp_ns)
        numbers = np.concatenate([observation.position, observation.velocity, observation.base])
        return "" if np.all(np.isfinite(numbers)) else "the estimate is not finite"

    def doubt(self, stamp_ns: int) -> str:
        """A hint where every source speaks, but with stamps that are old."""
        age = 1e-9 * stamp_ns - self.estimator.newest
        if age <= self.estimator.config.max_gap or self.estimator.silent(time.monotonic()):
            return ""
        return f"; messages come, but their stamps are {age:.3g} s old: do the clocks agree?"

    def withhold(self, reason: str) -> None:
        """Count and say it."""
        self.withheld += 1
        self.doing(f"observation withheld: {reason}")
        self.get_logger().warning(f"observation withheld: {reason}", throttle_duration_sec=1.0)

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        silent = [] if self.config.lockstep else self.estimator.silent(time.monotonic())
        if silent and self.published:
            self.doing(", ".join(silent))
        values: dict[str, object] = {"published": self.published, "withheld": self.withheld}
        values |= {"valid": self.validity[0], "reason": self.validity[1]} | self.lag_values()
        for name, source in self.estimator.sources.items():
            values |= source_values(name, source, time.monotonic())
        return WARN if self.withheld or silent else OK, values

    def lag_values(self) -> dict[str, object]:
        """What the estimator adds in lag; in lockstep stamps are no wall-clock time."""
        values: dict[str, object] = {
            "group_delay_ms": self.delays["measured"],
            "group_delay_without_velocity_ms": self.delays["derived"],
        }
        if self.lags_s and not self.config.lockstep:
            values |= {
                "lag_mean_ms": f"{1e3 * np.mean(self.lags_s):.2f}",
                "lag_max_ms": f"{1e3 * max(self.lags_s):.2f}",
            }
        return values


def measured_delays(cfg: FilterConfig, robot: RobotDescription) -> dict[str, str]:
    """Group delay on a motion of a twentieth of the control rate, velocities measured, and derived from positions."""
    noise, frequency = (robot.position_noise, robot.velocity_noise), FREQUENCY_SHARE * robot.control_rate
    delays = {
        name: group_delay(cfg, noise, robot.dt, frequency, with_velocity)
        for name, with_velocity in (("measured", True), ("derived", False))
    }
    return {
        name: f"position {1e3 * p:.2f}, velocity {1e3 * v:.2f} at {frequency:g} Hz" for name, (p, v) in delays.items()
    }


def source_values(name: str, source: Source, monotonic_s: float) -> dict[str, object]:
    """Age and counts of a source for the diagnostics."""
    values: dict[str, object] = {
        f"{name} age_s": f"{source.age_s(monotonic_s):.3f}",
        f"{name} received": source.received,
        f"{name} late": source.late,
        f"{name} dropped": source.dropped,
    }
    return values | ({f"{name} last_reason": source.reason} if source.reason else {})


def main() -> int:
    """Entry point of the executable."""
    return run(StateEstimator)


if __name__ == "__main__":
    sys.exit(main())
