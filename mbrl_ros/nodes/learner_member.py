"""A robot that the learner learns from: its topics, its trials and what the learner owes it. See docs/fleet.md."""

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.exceptions import InvalidNamespaceException
from rclpy.validate_namespace import validate_namespace
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, Header, String, UInt64

from mbrl_ros.control.learner import Verdict
from mbrl_ros.data.pairing import Pair, TransitionPairer
from mbrl_ros.errors import ConfigError, MbrlError, MessageError
from mbrl_ros.models.serialization import MAX_VERSION
from mbrl_ros.nodes.conversions import from_command, from_observation, from_time, to_scalars, to_time
from mbrl_ros.nodes.pipeline_node import LATCHED
from mbrl_ros.nodes.trial_phase import WORDS, from_phase

if TYPE_CHECKING:
    from mbrl_ros.nodes.model_learner import ModelLearner


class Member:
    """One robot: the learner's own, or one of its fleet.

    Attributes:
        number: place among the members.
        namespace: where its topics are; empty for those of the learner's own namespace.
        awaits: fits that must have been finished before a trial is acknowledged.
        resuming: whether it must not move before it uses a model of what the store held at the start.
    """

    def __init__(self, node: "ModelLearner", number: int, namespace: str, count: int) -> None:
        """Connect to the robot.

        Args:
            node: the learner.
            number: place among the members, from 0.
            namespace: full name; empty for the learner's own robot.
            count: number of members. Trajectories are counted by member: ``number``, ``number + count``, ...
        """
        self.node, self.number, self.namespace, self.count = node, number, namespace, count
        first = -(-node.store.next_trajectory // count)
        self.pairer = TransitionPairer(round(1e9 * node.robot.dt), first)
        self.trial, self.policy, self.phase = 0, "", "done"
        self.active_version = self.awaits = self.transitions = 0
        self.resuming = False
        self.verdict = Verdict()
        self.observed_ns = self.applied_ns = 0
        self.lead_ns = node.robot.delay_ticks(lockstep=True) * round(1e9 * node.robot.dt)  # of a command's stamp
        self.open_tick: int | None = None  # lockstep: tick that has yet to be reported done
        self.open_trial: int | None = None  # trial whose end has yet to be acknowledged
        own = node.get_name() if namespace else "~"
        self.telemetry = node.publish_to(JointState, self.topic(f"{own}/telemetry"))
        self.one_step_error = node.make_publisher(Float64, self.topic(f"{own}/one_step_error"), 10)  # for rqt_plot
        self.ready = node.publish_to(String, self.topic("trial_ready"), WORDS)
        versions = self.topic("mpc_controller/model_version")
        node.listen_to(UInt64, versions, self.on_active_version, LATCHED)
        node.listen_to(DiagnosticStatus, self.topic("trial"), self.on_trial, LATCHED)
        node.listen_to(JointState, self.topic("observation"), self.on_observation, periodic=True)
        node.listen_to(JointState, self.topic("applied_command"), self.on_applied, periodic=True)
        if node.config.lockstep:
            self.tick_done = node.publish_to(Header, "tick_done")

    def topic(self, name: str) -> str:
        """Name of one of the robot's topics."""
        return f"{self.namespace.rstrip('/')}/{name}" if self.namespace else name

    @property
    def planning(self) -> bool:
        """Whether it is in a trial in which it plans."""
        return self.phase == "run" and self.policy == "mpc"

    # what comes in

    def on_observation(self, message: JointState) -> None:
        """Pair the observation, unless the estimator had to bridge a measurement: nothing is learned from guesses."""
        self.observed_ns = from_time(message.header.stamp)
        x = from_observation(message, self.node.robot.joints, self.node.robot.base_states)
        self.take([] if message.header.frame_id else self.pairer.observe(self.observed_ns, x))

    def on_applied(self, message: JointState) -> None:
        """Pair the command that was really applied."""
        self.applied_ns = from_time(message.header.stamp)
        u = from_command(message, self.node.robot.actuators, self.node.robot.command_interface)
        self.take(self.pairer.apply(self.applied_ns, u, message.header.frame_id))

    def on_active_version(self, message: UInt64) -> None:
        """The controller has taken a model into use."""
        if message.data > MAX_VERSION:
            raise MessageError(f"model_version: {message.data} is not allowed; expected at most {MAX_VERSION}")
        self.active_version = message.data
        self.node.catch_up(message.data)
        self.node.settle()

    def on_trial(self, message: DiagnosticStatus) -> None:
        """A trial begins, or is over."""
        announced = from_phase(message)
        self.trial, self.policy, self.phase = announced.index, announced.policy, announced.phase
        if self.phase == "run":
            self.node.learner.begin_trial(self.number)
            self.acknowledge("run")
        elif self.phase == "done":
            self.node.end_trial(self)

    def take(self, pairs: list[Pair]) -> None:
        """Store transitions, then work on the model where that is due."""
        node = self.node
        for pair in pairs:
            # A nanosecond a member: two robots may well have the same stamp, and the store takes each stamp once.
            trajectory = pair.trajectory * self.count + self.number
            own = replace(pair, stamp_ns=pair.stamp_ns + self.number, trajectory=trajectory)
            try:
                node.learner.add(own, self.trial, self.number)
                self.transitions += 1
                node.report_store()
                node.watch(own)
            except MbrlError as error:
                node.problems["store"] = str(error)
                node.get_logger().error(f"transition not stored: {error}", throttle_duration_sec=1.0)
        if node.config.lockstep and self.observed_ns == self.applied_ns - self.lead_ns:
            self.open_tick = self.observed_ns
            node.work()

    # what goes out

    def settle(self, version: int, fits: int) -> None:
        """Acknowledge the tick or the trial, once the fits it waits for are over and its controller has the result.

        Args:
            version: of the newest model; 0 where there is none.
            fits: how many have been finished.
        """
        if fits < self.awaits or self.active_version < version:
            return
        self.resuming = False
        if self.open_tick is not None:
            self.tick_done.publish(Header(frame_id=self.node.get_name(), stamp=to_time(self.open_tick)))
            self.open_tick = None
        if self.open_trial is not None:
            self.publish_trial(version)
            self.acknowledge("done")
            self.open_trial = None

    def acknowledge(self, phase: str) -> None:
        """Tell the trial manager that a phase has been taken up."""
        self.ready.publish(String(data=f"{self.node.get_name()} {self.trial} {phase}"))

    def publish_trial(self, version: int) -> None:
        """Figures of the trial that has ended."""
        values = {
            "trial": float(self.open_trial or 0),
            **asdict(self.verdict),
            "transitions": float(len(self.node.learner)),
            "model_version": float(version),
            "fit_seconds": self.node.fit_seconds,
            "robot_changes": float(self.node.changes),
        }
        self.telemetry.publish(to_scalars(time.time_ns(), values))
        self.one_step_error.publish(Float64(data=values["one_step_error"]))

    def figures(self) -> dict[str, Any]:
        """Values for the diagnostics; of a fleet, with the robot in their names."""
        values: dict[str, Any] = {
            "version_in_use": self.active_version,
            **{name: f"{value:.4g}" for name, value in asdict(self.verdict).items()},
        }
        if not self.namespace:
            return values
        return {f"{self.namespace} {name}": v for name, v in (values | {"new_transitions": self.transitions}).items()}


def fleet_namespaces(text: str, lockstep: bool) -> list[str]:
    """Namespaces of a fleet from the parameter `fleet`; empty where there is none.

    Raises:
        ConfigError: a name that ROS does not take, one that is there twice, or a fleet in lockstep.
    """
    names = [f"/{name.strip().strip('/')}" for name in text.split(",")] if text.strip() else []
    for name in names:
        try:
            validate_namespace(name)
        except InvalidNamespaceException as error:
            raise ConfigError(f"fleet: '{name}' is not allowed; expected namespaces: {error}") from None
        if names.count(name) > 1:
            raise ConfigError(f"fleet: '{name}' is there twice; expected each robot once")
    if names and lockstep:
        raise ConfigError(
            f"fleet: '{text}' is not allowed in lockstep, where one robot's time would wait for another's"
        )
    return names
