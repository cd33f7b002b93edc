"""The trial manager: resets the robot, lets the base policy and then the planner act, scores, stops when solved."""

import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.control.trial_record import TrialRecord
from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import GRAPH, LEARNER, ROBOT_GRAPH
from mbrl_ros.nodes.conversions import to_scalars
from mbrl_ros.nodes.pipeline_node import LATCHED, run, spin_until
from mbrl_ros.nodes.trial_notes import TrialNotes
from mbrl_ros.nodes.trial_phase import TrialPhase, to_phase
from mbrl_ros.nodes.trial_services import TrialServices
from mbrl_ros.reporting.run_folder import SUMMARY, create_run_folder, save_trial
from mbrl_ros.reporting.summary import (
    RunSummary,
    TrialResult,
    read_summary,
    software_versions,
    solved_in_a_row,
    write_summary,
)

CALL_TIMEOUT = 10.0  # s, longest wait for a service
TRIAL_SLACK = 5.0  # s that a real-time trial may take beyond its length before it is given up
LEARN_TIMEOUT = 120.0  # s, longest wait for the refit between two trials
FIGURES_TIMEOUT = 2.0  # s, longest wait for the learner's figures, which travel on a topic of their own
ARM_EVERY = 0.5  # s between two attempts to arm a real robot
LOST_AFTER = 5.0  # s without its diagnostics, which come every second, after which a learner elsewhere is lost
ACTORS = ("mpc_controller", LEARNER)  # nodes that take up the phases of a trial


class InterruptedRunError(Exception):
    """The process was asked to end, or the graph does not answer any more."""


class TrialManager(TrialNotes):
    """Runs the trials from `main`, one after the other; callbacks only take notes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = create_run_folder(Path(self.config.output)) if self.config.output else None
        self.started, self.began = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        self.results = self.earlier_results()
        self.fresh_from = 0  # trial with which the robot knew nothing
        self.trial = self.publish_to(DiagnosticStatus, "trial", LATCHED)
        self.telemetry = self.create_publisher(JointState, "~/telemetry", 50)
        self.service_clients = {"arm": self.create_client(SetBool, "command_guard/arm")}
        if not self.config.operator:
            self.service_clients |= {
                "reset": self.create_client(Trigger, "pybullet_sim/reset"),
                "run": self.create_client(SetBool, "pybullet_sim/run"),
            }
        self.services_for_people = TrialServices(self)

    def earlier_results(self) -> list[TrialResult]:
        """Trials that the run folder already holds: the run is resumed after them."""
        if self.folder is None or not (self.folder / SUMMARY).exists():
            return []
        return list(read_summary(self.folder).trials)

    def run_trials(self) -> str:
        """Run trials until solved or used up; returns how the run ended."""
        self.wait_for_graph()
        while not self.solved() and len(self.results) < self.config.trials:
            self.run_trial(len(self.results))
            self.write("interrupted")
        return "solved" if self.solved() else "trials used up"

    def solved(self) -> bool:
        """Whether enough trials in a row were solved."""
        return solved_in_a_row(self.results, self.config.stop_after_solved)

    def policy_of(self, index: int) -> str:
        """Who acts in a trial: the base policy in the first ones after the robot knew nothing."""
        return "base" if index - self.fresh_from < max(self.config.base_trials, self.fresh_from > 0) else "mpc"

    def run_trial(self, index: int) -> None:
        """One trial: wait until it may begin, reset, announce, arm, run, disarm, wait for the learner, score."""
        while self.record is None:
            self.wait_while_paused()
            self.wait_for_start(index)
            policy = self.policy_of(index)
            if self.config.operator:
                self.start_with_operator(index, policy)
            else:
                self.wait_while_paused()  # nodes may have been deactivated meanwhile
                self.start_in_simulation(index, policy)
        limit = float("inf") if self.config.lockstep else self.robot.trial_duration + TRIAL_SLACK
        in_time = spin_until(self, self.finished, limit)
        if in_time and self.config.lockstep:  # the learner ends its tick first, or the order would be left to chance
            last_ns = max(self.record.observations)
            self.require(spin_until(self, lambda: self.learner_tick_ns == last_ns, LEARN_TIMEOUT), ["model_learner"])
        if not self.config.operator:
            self.call("run", SetBool.Request(data=False))
        record, self.record = self.record, None
        self.switch.ended()
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
        self.begin_record(index, policy)
        if reasons := self.try_to_arm():  # a moment ago the machine may have stood still
            raise MbrlError(f"{self.service_clients['arm'].srv_name}: {reasons}")
        self.doing(f"trial {index}: {policy}")
        self.call("run", SetBool.Request(data=True))

    def start_with_operator(self, index: int, policy: str) -> None:
        """Announce the trial and arm; what speaks against arming is said and waited for.

        A robot that cannot be armed for `arm_timeout` waits for the operator's word again: who has turned away must not
        be surprised by a robot that begins to move.
        """
        deadline = time.monotonic() + self.config.arm_timeout
        while time.monotonic() < deadline and not self.switch.stop_asked:
            self.announce("run", index, policy)  # again after a while, so that the base policy begins anew
            if not (reasons := self.try_to_arm()):
                self.begin_record(index, policy)
                self.doing(f"trial {index}: {policy}")
                return
            self.doing(f"trial {index}: {reasons}")
            self.get_logger().warning(reasons, throttle_duration_sec=2.0)
        self.announce("wait", index, policy)
        self.switch.hold()
        self.get_logger().error(f"trial {index} has not begun; call {self.get_name()}/start again")

    def wait_for_start(self, index: int) -> None:
        """Serve callbacks until the trial may begin, see `TrialSwitch`."""
        if not self.switch.open:
            words = f"{self.get_name()}/start or step"
            self.doing(f"trial {index}: waiting for {words}")
            first = "put the robot at its start, then " if self.config.operator else ""
            self.get_logger().info(f"trial {index} waits: {first}call {words}")
        self.switch.ready = True
        if not spin_until(self, lambda: self.switch.open):
            raise InterruptedRunError
        self.switch.began(index)

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
        task = self.tasks.over(sorted(record.observations))
        result = record.result(task, self.robot, before, learned)
        self.results.append(result)
        outcome = "solved" if result.solved else result.ended_early or "not solved"
        self.get_logger().info(
            f"trial {result.index} ({result.policy}): cost {result.cost:.1f}, "
            f"{result.time_on_target_s:.2f} s on target, {outcome}"
        )
        if self.folder is not None:
            self.saving(
                lambda folder: save_trial(folder, record.index, record.arrays(task, self.robot.layout.nx)),
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
