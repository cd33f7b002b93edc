"""What the trial manager notes of a trial while it runs, and which task its score follows."""

import contextlib
import time
from collections import deque
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import ParameterEvent
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_parameter_events
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.control.task_history import TaskHistory
from mbrl_ros.control.trial_record import TrialRecord
from mbrl_ros.control.trial_switch import TrialSwitch
from mbrl_ros.errors import ConfigError, MessageError
from mbrl_ros.nodes.conversions import (
    from_command,
    from_joint_state,
    from_observation,
    from_scalars,
    from_time,
    status_values,
)
from mbrl_ros.nodes.pipeline_node import RELIABLE, WAITING_FOR, PipelineNode
from mbrl_ros.nodes.scene_messages import from_trajectory
from mbrl_ros.nodes.trial_phase import WORDS
from mbrl_ros.tasks import TASKS

ENDING_FLAGS = ("stopped", "heartbeat", "disarmed")  # of a guard that lets nothing pass any more
PLANS_KEPT = 2000  # newest plans of a trial that go into its file: a long trial must not fill the memory
CONTROLLER = "mpc_controller"
STOPPED = "stopped by request"  # why a trial has ended early


class TrialNotes(PipelineNode):
    """Listens to the graph; what is made of it is the trial manager's.

    Attributes:
        record: the trial in progress, None between trials.
        task: what is asked of the robot now; it follows the controller's.
        tasks: what was asked in the trial in progress, and when.
        switch: whether trials may begin.
        waiting: node -> topics it still waits for.
        heard_at: node -> when its state was last heard of, monotonic.
        expected: words that acknowledge a phase.
        acknowledged: those that have come.
        learned: the learner's figures of the last trial.
        learner_tick_ns: lockstep: the last tick that the learner has finished.
    """

    def __init__(self) -> None:
        super().__init__("trial_manager")
        self.record: TrialRecord | None = None
        self.following = False  # whether a change of parameters follows the controller
        self.task = TASKS[self.robot.task](self.groups["task"])
        self.tasks = TaskHistory(self.task)
        operator = self.config.operator
        self.switch = TrialSwitch(held=self.config.paused, each=operator)
        self.plans: deque[bytes] = deque(maxlen=PLANS_KEPT)
        self.waiting: dict[str, str] = {}
        self.heard_at: dict[str, float] = {}
        self.expected: set[str] = set()
        self.acknowledged: set[str] = set()
        self.learned: dict[str, float] = {}
        self.learner_tick_ns = 0
        self.listen_to(DiagnosticArray, "/diagnostics", self.on_diagnostics, RELIABLE)
        self.listen_to(String, "trial_ready", self.on_ready, WORDS)
        self.listen_to(JointState, "observation", self.on_observation)
        self.listen_to(JointState, "applied_command", self.on_applied)
        self.listen_to(JointState, "mpc_controller/telemetry", self.on_tick)
        self.listen_to(JointState, "model_learner/telemetry", self.on_learned)
        listen = self.create_subscription
        listen(JointTrajectory, "plan", self.guarded(self.on_plan), RELIABLE, raw=True)
        follow = self.received(self.on_parameters, None, "")
        listen(ParameterEvent, "/parameter_events", follow, qos_profile_parameter_events)
        if self.config.lockstep:
            self.tick_done = self.publish_to(Header, "tick_done")
            self.listen_to(Header, "tick_done", self.on_tick_done)

    def finished(self) -> bool:
        """Whether the trial in progress has its full length or ended early."""
        return self.record is not None and (
            bool(self.record.ended_early) or self.record.steps() >= self.robot.trial_steps
        )

    def begin_record(self, index: int, policy: str) -> None:
        """Take notes of a trial from now on."""
        self.tasks, self.record = TaskHistory(self.task), TrialRecord(index, policy)
        self.end_if_asked()

    def end_if_asked(self) -> None:
        """End the trial in progress where somebody has asked for it; in lockstep with a tick, or nodes would wait."""
        if self.record is not None and self.switch.stop_asked and not self.config.lockstep:
            self.record.ended_early = STOPPED

    def doing(self, what: str) -> None:
        """See GraphNode."""
        super().doing(what)
        self.switch.doing = what

    def on_diagnostics(self, message: DiagnosticArray) -> None:
        """Who is up and connected."""
        for name, status in self.note_nodes(message):
            self.waiting[name] = status_values(status).get(WAITING_FOR, "")
            self.heard_at[name] = time.monotonic()

    def on_ready(self, message: String) -> None:
        """A node has taken up a phase."""
        if message.data in self.expected:
            self.acknowledged.add(message.data)

    def on_observation(self, message: JointState) -> None:
        """Record an observation; end the trial where the robot leaves its range."""
        if self.record is None or self.finished():
            return
        stamp_ns = from_time(message.header.stamp)
        robot = self.robot
        self.record.observations[stamp_ns] = from_observation(message, robot.joints, robot.base_states)
        position, _ = from_joint_state(message, robot.entries)
        beyond = (position < robot.position_low) | (position > robot.position_high)
        if beyond.any():
            self.record.ended_early = f"{robot.entries[int(beyond.argmax())]} at its limit"
        elif self.switch.stop_asked:
            self.record.ended_early = STOPPED
        if self.config.lockstep and not self.finished():
            self.tick_done.publish(Header(frame_id=self.get_name(), stamp=message.header.stamp))

    def on_applied(self, message: JointState) -> None:
        """Record what was applied."""
        if self.record is not None:
            u = from_command(message, self.robot.actuators, self.robot.command_interface)
            self.record.applied[from_time(message.header.stamp)] = (u, message.header.frame_id)
            if self.config.operator:
                self.look_at_guard(message.header.frame_id)

    def look_at_guard(self, flag: str) -> None:
        """End the trial where the guard lets nothing pass any more; what it said before it was armed does not count."""
        record = self.record
        armed = record is not None and any(f not in ENDING_FLAGS for _, f in record.applied.values())
        if record is not None and (flag in ENDING_FLAGS[:2] or (flag in ENDING_FLAGS and armed)):
            record.ended_early = f"the guard is {'disarmed: no ' if flag == 'heartbeat' else ''}{flag}"

    def on_tick(self, message: JointState) -> None:
        """Record the controller's figures."""
        if self.record is not None:
            self.record.telemetry[from_time(message.header.stamp)] = from_scalars(message)

    def on_plan(self, message: bytes) -> None:
        """Keep a plan as it came: it is read when the trial is over, so that it costs no time during it."""
        if self.record is not None:
            self.plans.append(message)

    def read_plans(self, record: TrialRecord) -> None:
        """Take the plans of the trial down; one that is not finite is of no use."""
        robot = self.robot
        for data in self.plans:
            message = deserialize_message(data, JointTrajectory)
            with contextlib.suppress(MessageError):
                plan = from_trajectory(message, robot.joints, robot.base_states, robot.actuators)
                record.plans[from_time(message.header.stamp)] = plan
        self.plans.clear()

    def on_tick_done(self, message: Header) -> None:
        """Lockstep: remember how far the learner is."""
        if message.frame_id == "model_learner":
            self.learner_tick_ns = from_time(message.stamp)

    def on_learned(self, message: JointState) -> None:
        """Keep the learner's figures of the last trial."""
        self.learned = from_scalars(message)

    # the task

    def on_parameters(self, event: ParameterEvent) -> None:
        """The controller's task has changed: the score follows it."""
        if event.node != f"{self.get_namespace().rstrip('/')}/{CONTROLLER}":
            return
        news = [p for p in event.changed_parameters if p.name.startswith("task.") and self.has_parameter(p.name)]
        if not news:
            return
        try:
            changes = [Parameter.from_parameter_msg(p) for p in news]
        except ValueError:
            raise MessageError(f"parameter_events: {news[0].name} has a value of no known type") from None
        self.following = True
        try:
            result = self.set_parameters_atomically(changes)
        finally:
            self.following = False
        if not result.successful:
            raise MessageError(f"the score does not follow the controller's task: {result.reason}")

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """See PipelineNode.

        Raises:
            ConfigError: the task would not be the controller's any more.
        """
        moved = groups["task"] != self.groups["task"]
        if moved and not self.following:
            raise ConfigError(f"task: it follows the controller's; set it at {CONTROLLER}")
        super().reconfigure(config, groups)
        if moved:
            self.task = TASKS[self.robot.task](groups["task"])
            stamps = self.record.observations if self.record is not None else ()
            self.tasks.change(max(stamps, default=-1) + 1, self.task)
