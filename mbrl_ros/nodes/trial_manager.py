"""The trial manager: resets the robot, lets the base policy and then the planner act, scores, stops when solved."""

import contextlib
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from mbrl_ros.control.trial_record import TrialRecord
from mbrl_ros.errors import MbrlError, MessageError
from mbrl_ros.graph import GRAPH, LEARNER, NODES, ROBOT_GRAPH
from mbrl_ros.nodes.conversions import (
    from_command,
    from_joint_state,
    from_observation,
    from_scalars,
    from_time,
    own_statuses,
    status_values,
    to_scalars,
)
from mbrl_ros.nodes.pipeline_node import LATCHED, RELIABLE, WAITING_FOR, PipelineNode, run, spin_until
from mbrl_ros.nodes.scene_messages import from_trajectory
from mbrl_ros.nodes.trial_phase import WORDS, TrialPhase, to_phase
from mbrl_ros.reporting.run_folder import SUMMARY, create_run_folder, save_trial
from mbrl_ros.reporting.summary import RunSummary, TrialResult, read_summary, software_versions, write_summary
from mbrl_ros.tasks import TASKS

CALL_TIMEOUT = 10.0  # s, longest wait for a service
TRIAL_SLACK = 5.0  # s that a real-time trial may take beyond its length before it is given up
LEARN_TIMEOUT = 120.0  # s, longest wait for the refit between two trials
FIGURES_TIMEOUT = 2.0  # s, longest wait for the learner's figures, which travel on a topic of their own
ARM_EVERY = 0.5  # s between two attempts to arm a real robot
ENDING_FLAGS = ("stopped", "heartbeat", "disarmed")  # of a guard that lets nothing pass any more
LOST_AFTER = 5.0  # s without its diagnostics, which come every second, after which a learner elsewhere is lost
PLANS_KEPT = 2000  # newest plans of a trial that go into its file: a long trial must not fill the memory
ACTORS = ("mpc_controller", LEARNER)  # nodes that take up the phases of a trial


class InterruptedRunError(Exception):
    """The process was asked to end, or the graph does not answer any more."""


class TrialManager(PipelineNode):
    """Runs the trials from `main`, one after the other; callbacks only take notes."""

    def __init__(self) -> None:
        super().__init__("trial_manager")
        self.task = TASKS[self.robot.task](self.groups["task"])
        self.folder = create_run_folder(Path(self.config.output)) if self.config.output else None
        self.started, self.began = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        self.results = self.earlier_results()
        self.record: TrialRecord | None = None
        self.plans: deque[bytes] = deque(maxlen=PLANS_KEPT)
        self.waiting: dict[str, str] = {}  # node -> topics it still waits for
        self.acknowledged: set[str] = set()
        self.expected: set[str] = set()  # words that acknowledge a phase
        self.heard_at: dict[str, float] = {}  # node -> when its state was last heard of, monotonic
        self.learned: dict[str, float] = {}
        self.learner_tick_ns = 0
        self.trial = self.publish_to(DiagnosticStatus, "trial", LATCHED)
        self.telemetry = self.create_publisher(JointState, "~/telemetry", 50)
        self.listen_to(DiagnosticArray, "/diagnostics", self.on_diagnostics, RELIABLE)
        self.listen_to(String, "trial_ready", self.on_ready, WORDS)
        self.listen_to(JointState, "observation", self.on_observation)
        self.listen_to(JointState, "applied_command", self.on_applied)
        self.listen_to(JointState, "mpc_controller/telemetry", self.on_tick)
        self.listen_to(JointState, "model_learner/telemetry", self.on_learned)
        self.create_subscription(JointTrajectory, "plan", self.guarded(self.on_plan), RELIABLE, raw=True)
        self.service_clients = {"arm": self.create_client(SetBool, "command_guard/arm")}
        self.ready_to_start = self.start_asked = False
        if self.config.operator:
            self.create_service(Trigger, "~/start_trial", self.guarded(self.on_start_trial))
        else:
            self.service_clients |= {
                "reset": self.create_client(Trigger, "pybullet_sim/reset"),
                "run": self.create_client(SetBool, "pybullet_sim/run"),
            }
        if self.config.lockstep:
            self.tick_done = self.publish_to(Header, "tick_done")
            self.listen_to(Header, "tick_done", self.on_tick_done)

    def earlier_results(self) -> list[TrialResult]:
        """Trials that the run folder already holds: the run is resumed after them."""
        if self.folder is None or not (self.folder / SUMMARY).exists():
            return []
        return list(read_summary(self.folder).trials)

    # notes

    def on_diagnostics(self, message: DiagnosticArray) -> None:
        """Who is up and connected."""
        for name, status in own_statuses(message, self.get_namespace()):
            if name in NODES:
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

    def on_start_trial(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """The operator lets the robot move."""
        response.success = self.ready_to_start and not self.start_asked
        response.message = "the trial begins" if response.success else f"not now: {self._doing}"
        self.start_asked |= response.success
        return response

    # trials

    def finished(self) -> bool:
        """Whether the trial in progress has its full length or ended early."""
        return self.record is not None and (
            bool(self.record.ended_early) or self.record.steps() >= self.robot.trial_steps
        )

    def run_trials(self) -> str:
        """Run trials until solved or used up; returns how the run ended."""
        self.wait_for_graph()
        while not self.solved() and len(self.results) < self.config.trials:
            self.wait_while_paused()
            self.run_trial(len(self.results), "base" if len(self.results) < self.config.base_trials else "mpc")
            self.write("interrupted")
        return "solved" if self.solved() else "trials used up"

    def solved(self) -> bool:
        """Whether enough trials in a row were solved."""
        last = self.results[-self.config.stop_after_solved :]
        return len(last) == self.config.stop_after_solved and all(r.solved for r in last)

    def run_trial(self, index: int, policy: str) -> None:
        """One trial: reset, announce, arm, run, disarm, wait for the learner, score."""
        if self.config.operator:
            self.start_with_operator(index, policy)
        else:
            self.start_in_simulation(index, policy)
        assert self.record is not None
        limit = float("inf") if self.config.lockstep else self.robot.trial_duration + TRIAL_SLACK
        in_time = spin_until(self, self.finished, limit)
        if in_time and self.config.lockstep:  # the learner ends its tick first, or the order would be left to chance
            last_ns = max(self.record.observations)
            self.require(spin_until(self, lambda: self.learner_tick_ns == last_ns, LEARN_TIMEOUT), ["model_learner"])
        if not self.config.operator:
            self.call("run", SetBool.Request(data=False))
        record, self.record = self.record, None
        self.call("arm", SetBool.Request(data=False))
        if not in_time:
            if self.exit_code is not None:
                raise InterruptedRunError
            record.ended_early = f"only {record.steps()} of {self.robot.trial_steps} periods came in time"
        self.doing(f"trial {index}: learning")
        self.announce("done", index, policy)
        spin_until(self, lambda: self.learned.get("trial") == index, FIGURES_TIMEOUT)
        self.keep(record)

    def start_in_simulation(self, index: int, policy: str) -> None:
        """Reset the simulator, announce the trial, arm, let time pass."""
        self.doing(f"trial {index}: reset")
        self.call("reset", Trigger.Request())
        self.announce("run", index, policy)
        self.record = TrialRecord(index, policy)
        if reasons := self.try_to_arm():  # a moment ago the machine may have stood still
            raise MbrlError(f"{self.service_clients['arm'].srv_name}: {reasons}")
        self.doing(f"trial {index}: {policy}")
        self.call("run", SetBool.Request(data=True))

    def start_with_operator(self, index: int, policy: str) -> None:
        """Wait for the operator's word, announce the trial and arm; what speaks against arming is said and waited for.

        A robot that cannot be armed for `arm_timeout` waits for the operator's word again: who has turned away must not
        be surprised by a robot that begins to move.
        """
        while self.record is None:
            self.wait_for_operator(index)
            deadline = time.monotonic() + self.config.arm_timeout
            while self.record is None and time.monotonic() < deadline:
                self.announce("run", index, policy)  # again after a while, so that the base policy begins anew
                if not (reasons := self.try_to_arm()):
                    self.record = TrialRecord(index, policy)
                    self.doing(f"trial {index}: {policy}")
                    return
                self.doing(f"trial {index}: {reasons}")
                self.get_logger().warning(reasons, throttle_duration_sec=2.0)
            self.announce("wait", index, policy)
            self.get_logger().error(f"trial {index} has not begun; call {self.get_name()}/start_trial again")

    def wait_for_operator(self, index: int) -> None:
        """Serve callbacks until ~/start_trial is called."""
        self.doing(f"trial {index}: waiting for {self.get_name()}/start_trial")
        self.get_logger().info(f"trial {index}: put the robot at its start, then call {self.get_name()}/start_trial")
        self.ready_to_start, self.start_asked = True, False
        asked = spin_until(self, lambda: self.start_asked)
        self.ready_to_start = False
        if not asked:
            raise InterruptedRunError

    def try_to_arm(self) -> str:
        """Ask the guard to arm, for a while; returns all that speaks against it, empty where it is armed."""
        end, client = time.monotonic() + ARM_EVERY, self.service_clients["arm"]
        while True:
            future = client.call_async(SetBool.Request(data=True))
            self.require(spin_until(self, future.done, CALL_TIMEOUT), {"arm"})
            if future.result().success:
                return ""
            if time.monotonic() > end:
                return future.result().message
            if spin_until(self, lambda: False, self.robot.dt) or self.exit_code is not None:
                raise InterruptedRunError

    def keep(self, record: TrialRecord) -> None:
        """Score a trial, write it and publish its figures."""
        self.read_plans(record)
        before = sum(r.duration_s for r in self.results)
        learned = self.learned if self.learned.get("trial") == record.index else {}
        result = record.result(self.task, self.robot, before, learned)
        self.results.append(result)
        outcome = "solved" if result.solved else result.ended_early or "not solved"
        self.get_logger().info(
            f"trial {result.index} ({result.policy}): cost {result.cost:.1f}, "
            f"{result.time_on_target_s:.2f} s on target, {outcome}"
        )
        if self.folder is not None:
            self.saving(
                lambda folder: save_trial(folder, record.index, record.arrays(self.task, self.robot.layout.nx)),
                self.folder,
            )
        values = {
            "trial": float(result.index),
            "cost": result.cost,
            "time_on_target": result.time_on_target_s,
            "solved": float(result.solved),
            "experience": before + result.duration_s,
            "one_step_error": result.one_step_error,
            "multi_step_error": result.multi_step_error,
            "refits": float(result.refits),
            "deadline_misses": float(result.deadline_misses),
            "mpc": float(result.policy == "mpc"),
            **{f"planning_{k}": v for k, v in result.planning_time_ms.items()},
        }
        self.telemetry.publish(to_scalars(time.time_ns(), values))

    def announce(self, phase: str, index: int, policy: str) -> None:
        """Publish a phase and wait until everyone concerned has taken it up."""
        self.acknowledged.clear()
        self.expected = {f"{node} {index} {phase}" for node in ACTORS if phase != "wait"}
        self.trial.publish(to_phase(TrialPhase(index, phase, policy), self.robot.name))
        timeout = LEARN_TIMEOUT if phase == "done" else CALL_TIMEOUT
        self.require(spin_until(self, lambda: not self.unanswered(), timeout), self.unanswered())
        if self.expected - self.acknowledged:
            self.get_logger().warning(f"trial {index}: nothing heard of {LEARNER} for {LOST_AFTER:g} s, going on")

    def unanswered(self) -> set[str]:
        """Words that are still waited for; not for those of a learner elsewhere that is lost."""
        lost = self.learner_lost()
        return {word for word in self.expected - self.acknowledged if not (lost and word.startswith(LEARNER))}

    def learner_lost(self) -> bool:
        """Whether a learner on another computer has fallen silent: the controller goes on with its last model."""
        return self.config.remote_learner and time.monotonic() - self.heard_at.get(LEARNER, -math.inf) > LOST_AFTER

    def wait_for_graph(self) -> None:
        """Wait until every node is up and every topic has both its ends."""
        self.doing("waiting for the graph")
        limit = self.config.start_timeout if self.config.autostart else float("inf")  # who starts by hand has time
        self.require(spin_until(self, lambda: not self.not_ready(), limit), self.not_ready())
        for name, client in self.service_clients.items():
            self.require(spin_until(self, client.service_is_ready, CALL_TIMEOUT), {name})

    def wait_while_paused(self) -> None:
        """Between two trials nodes may be deactivated; the next trial begins when all are active again."""
        if missing := self.not_ready():
            self.doing(f"paused: {', '.join(missing)}")
            self.require(spin_until(self, lambda: not self.not_ready()), self.not_ready())

    def not_ready(self) -> list[str]:
        """Nodes that are not up and connected, with what they wait for."""
        graph = ROBOT_GRAPH if self.config.operator else GRAPH
        others = [spec.name for spec in graph if spec.name != self.get_name()]
        absent = [f"{name} (not heard of)" for name in others if name not in self.waiting]
        lost = {LEARNER} if LEARNER in self.waiting and self.learner_lost() else set()
        waiting = [f"{n} (waiting for {t})" for n, t in self.waiting.items() if t and n not in lost]
        return absent + waiting + [f"{self.get_name()} (waiting for {topic})" for topic in self.unconnected()]

    def call(self, name: str, request: Any) -> None:
        """Call a service and wait for its answer; a refusal ends the run."""
        future = self.service_clients[name].call_async(request)
        self.require(spin_until(self, future.done, CALL_TIMEOUT), {name})
        if not future.result().success:
            raise MbrlError(f"{self.service_clients[name].srv_name}: {future.result().message}")

    def require(self, happened: bool, missing: Any) -> None:
        """Raise InterruptedRunError, having said who did not answer."""
        if happened:
            return
        if self.exit_code is None:
            self.get_logger().error(f"no answer from: {', '.join(sorted(missing))}")
            self.exit_code = 1
        raise InterruptedRunError

    def write(self, ended: str) -> None:
        """Write the summary as it stands."""
        if self.folder is None:
            return
        summary = RunSummary(
            robot=self.config.robot,
            task=self.robot.task,
            planner=self.config.planner,
            model=self.config.model,
            seed=self.config.seed,
            lockstep=self.config.lockstep,
            versions=software_versions(),
            started=self.started,
            wall_time_s=time.monotonic() - self.began,
            control_rate=self.robot.control_rate,
            ended=ended,
            command=self.config.command,
            trials=tuple(self.results),
        )
        self.saving(lambda folder: write_summary(summary, folder), self.folder)

    def saving(self, write: Callable[[Path], object], folder: Path) -> None:
        """Write into the run folder; a full disk is reported, and the robot's trials go on."""
        try:
            write(folder)
            self.trouble = ""
        except MbrlError as error:
            self.trouble = str(error)
            self.get_logger().error(self.trouble)


def run_all(node: TrialManager) -> None:
    """Body of the process: run the trials, then end with what became of them written down."""
    ended = "interrupted"
    try:
        ended = node.run_trials()
        node.exit_code = 0
    except InterruptedRunError:
        pass
    finally:
        node.write(ended)


def main() -> int:
    """Entry point of the executable."""
    return run(TrialManager, run_all)


if __name__ == "__main__":
    sys.exit(main())
