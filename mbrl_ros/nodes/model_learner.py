"""The learner node: stores every transition, refits while the robot moves, publishes each new model."""

import array
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import JointState
from std_msgs.msg import Header, String, UInt8MultiArray, UInt64

from mbrl_ros.control.learner import Fitted, Learner, Verdict
from mbrl_ros.control.start_model import Start, read_start
from mbrl_ros.data.pairing import Pair, TransitionPairer
from mbrl_ros.data.patient_store import PatientStore
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import MbrlError
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.nodes.conversions import from_command, from_observation, from_time, status_values, to_scalars, to_time
from mbrl_ros.nodes.managed_node import ManagedNode
from mbrl_ros.nodes.managed_parameters import Problems
from mbrl_ros.nodes.pipeline_node import ERROR, LATCHED, OK, run
from mbrl_ros.reporting.run_folder import (
    TRANSITIONS,
    create_run_folder,
    model_path,
    model_versions,
    write_atomically,
)
from mbrl_ros.types import Transitions


class ModelLearner(ManagedNode):
    """Aggregates transitions and refits: in a thread of its own in real time, inside the tick in lockstep."""

    what = "model"
    resuming = False

    def __init__(self) -> None:
        super().__init__("model_learner")
        self.own_folder = ""  # where nothing is to be kept, it is kept for as long as the process lives

    def examine(self, problems: Problems) -> None:
        """See ManagedNode."""
        cfg = self.config
        if cfg.output:
            with problems:
                create_run_folder(Path(cfg.output))
        if cfg.start_model and self.robot is not None:
            with problems:
                read_start(Path(cfg.start_model), self.robot, cfg.model)

    def set_up(self) -> None:
        """See ManagedNode."""
        cfg, robot = self.config, self.robot
        if not cfg.output:
            self.own_folder = self.own_folder or tempfile.mkdtemp(prefix="mbrl_ros_")
        self.folder = create_run_folder(Path(cfg.output or self.own_folder))
        self.store = PatientStore(TransitionStore(self.folder / TRANSITIONS, robot.name, robot.layout))
        self.at_cleanup.callback(self.close_store)
        train, settings = TRAINERS[cfg.model], self.groups[cfg.model]
        self.learner = Learner(self.store, robot.layout, train, settings, cfg.seed, self.groups["change"])
        self.learner.version = max(model_versions(self.folder), default=0)
        self.pairer = TransitionPairer(round(1e9 * robot.dt), self.store.next_trajectory)
        self.trial, self.policy, self.phase = 0, "", "done"
        self.active_version, self.fit_seconds = 0, 0.0
        self.verdict = Verdict()
        self.rows_at_fit = 0  # transitions there were when the newest fit began
        self.changes = 0  # of the robot, as far as its motion tells
        self.problems: dict[str, str] = {}  # what is wrong with: storing, fitting, keeping the model
        self.observed_ns = self.applied_ns = 0
        self.lead_ns = robot.delay_ticks(lockstep=True) * round(1e9 * robot.dt)  # of a command's stamp, in lockstep
        self.open_tick: int | None = None  # lockstep: tick that has yet to be reported done
        self.open_trial: int | None = None  # trial whose end has yet to be acknowledged
        self.start = read_start(Path(cfg.start_model), robot, cfg.model) if cfg.start_model else None
        self.full_fit_due = len(self.learner) > 0 and not self.start_holds()
        self.resuming = self.full_fit_due or self.start is not None
        self.pool = ThreadPoolExecutor(1)
        self.at_cleanup.callback(self.pool.shutdown, wait=False, cancel_futures=True)
        self.running: Future[Fitted] | None = None
        self.models = self.publish_to(UInt8MultiArray, "dynamics_model", LATCHED)
        self.telemetry = self.publish_to(JointState, "~/telemetry")
        self.ready = self.publish_to(String, "trial_ready")
        self.listen_to(UInt64, "mpc_controller/model_version", self.on_active_version, LATCHED)
        self.listen_to(DiagnosticStatus, "trial", self.on_trial, LATCHED)
        self.listen_to(JointState, "observation", self.on_observation, periodic=True)
        self.listen_to(JointState, "applied_command", self.on_applied, periodic=True)
        if cfg.lockstep:
            self.tick_done = self.publish_to(Header, "tick_done")
        self.create_wall_timer(0.02, self.guarded(self.on_timer))
        self.create_wall_timer(1.0, self.guarded(self.store_what_waits))

    def begin(self) -> None:
        """See ManagedNode; the model to start from is published once."""
        self.doing(f"{len(self.learner)} transitions in the store")
        if self.start is not None and self.learner.model is None:
            self.start_from(self.start)

    def rest(self) -> None:
        """See ManagedNode; a fit that runs goes on, and is taken up when the work begins again."""
        self.store_what_waits()

    def start_from(self, start: Start) -> None:
        """Publish a model that was fitted before; the run learns on from it."""
        self.learner.accept(Fitted(start.model, start.size(), None))
        self.publish_model(to_bytes(start.model, self.learner.version, start.header.data_size, self.robot.name))
        self.doing(f"model {self.learner.version} from {self.config.start_model}")

    def start_holds(self) -> bool:
        """Whether the model of the start is not to be replaced yet, see `Start.holds`."""
        return self.start is not None and self.start.holds(len(self.learner))

    def data(self) -> Transitions:
        """All there is to learn from: what the robot did since it last changed, or all its life."""
        new = self.learner.data(self.learner.outdated)
        return new if self.start is None or self.learner.outdated else self.start.with_new(new)

    def unconnected(self) -> list[str]:
        """See GraphNode; a run with a past does not begin before the controller uses what that has taught."""
        return super().unconnected() + (["the first model"] if self.resuming else [])

    # what comes in

    def on_timer(self) -> None:
        """Work; but in lockstep a refit during a trial belongs to a tick, or its moment would be left to chance."""
        if not (self.config.lockstep and self.phase == "run"):
            self.work()

    def on_observation(self, message: JointState) -> None:
        """Pair the observation, unless the estimator had to bridge a measurement: nothing is learned from guesses."""
        self.observed_ns = from_time(message.header.stamp)
        x = from_observation(message, self.robot.joints, self.robot.base_states)
        self.take([] if message.header.frame_id else self.pairer.observe(self.observed_ns, x))

    def on_applied(self, message: JointState) -> None:
        """Pair the command that was really applied."""
        self.applied_ns = from_time(message.header.stamp)
        u = from_command(message, self.robot.actuators, self.robot.command_interface)
        self.take(self.pairer.apply(self.applied_ns, u, message.header.frame_id))

    def on_active_version(self, message: UInt64) -> None:
        """The controller has taken a model into use."""
        self.active_version = message.data
        self.settle()

    def on_trial(self, message: DiagnosticStatus) -> None:
        """A trial begins, or is over: then judge the model, refit on everything and acknowledge."""
        values = status_values(message)
        self.trial, self.policy, self.phase = int(values["index"]), values["policy"], message.message
        if self.phase == "run":
            self.learner.begin_trial()
            self.ready.publish(String(data=f"{self.get_name()} {self.trial} run"))
        elif self.phase == "wait":  # a real robot could not be armed
            return
        elif len(self.learner):
            self.verdict = self.learner.judge_trial(self.config.error_horizon)
            self.open_trial, self.full_fit_due = self.trial, not self.start_holds()
            self.work()
        else:
            self.open_trial, self.verdict = self.trial, Verdict()
            self.settle()

    # what is made of it

    def take(self, pairs: list[Pair]) -> None:
        """Store transitions, then work on the model where that is due."""
        for pair in pairs:
            try:
                self.learner.add(pair, self.trial)
                self.report_store()
                self.watch(pair)
            except MbrlError as error:
                self.problems["store"] = str(error)
                self.get_logger().error(f"transition not stored: {error}", throttle_duration_sec=1.0)
        if self.config.lockstep and self.observed_ns + self.lead_ns == self.applied_ns:
            self.open_tick = self.observed_ns
            self.work()

    def watch(self, pair: Pair) -> None:
        """Say so where the robot has changed."""
        if self.learner.changed(pair):
            self.changes += 1
            since = len(self.learner) - self.learner.changed_at
            self.get_logger().warning(
                f"the robot has changed, {since} transitions ago: what is older will not be learned from any more"
            )

    def store_what_waits(self) -> None:
        """Try again what a full disk has refused."""
        if self.store.waiting:
            self.store.flush()
            self.report_store()

    def report_store(self) -> None:
        """Say how the store is."""
        if not self.store.problem:
            self.problems.pop("store", None)
            return
        self.problems["store"] = f"{self.store.waiting} transitions wait in memory to be stored: {self.store.problem}"
        self.get_logger().error(self.problems["store"], throttle_duration_sec=1.0)

    def refit_due(self) -> bool:
        """Whether enough new transitions have come during a trial that plans."""
        news = len(self.learner) - self.rows_at_fit
        return (
            not self.start_holds() and self.phase == "run" and self.policy == "mpc" and news >= self.config.refit_every
        )

    def work(self) -> None:
        """Start the fit that is due, take up the one that is finished, report what is settled."""
        if self.running is not None and self.running.done():
            self.finish(self.running)
        if self.running is None and (self.full_fit_due or self.refit_due()):
            warm, self.full_fit_due = not self.full_fit_due, False
            self.doing(f"fitting {len(self.learner)} transitions")
            self.rows_at_fit = len(self.learner)
            self.running = self.pool.submit(self.learner.fit, self.data(), warm)
            if self.config.lockstep:
                self.finish(self.running)
        self.settle()

    def finish(self, future: "Future[Fitted]") -> None:
        """Publish the model of a finished fit; after a failed one the last good model stays."""
        self.running = None
        try:
            fitted = future.result()
            if self.config.calibrate:
                fitted = replace(fitted, model=self.learner.calibrated(fitted.model))
            data = to_bytes(fitted.model, self.learner.version + 1, fitted.data_size, self.robot.name)
        except MbrlError as error:
            self.problems["fit"] = str(error)
            self.get_logger().error(f"model version {self.learner.version} stays in use: {error}")
            return
        self.problems.pop("fit", None)
        self.learner.accept(fitted)
        self.fit_seconds = fitted.report.seconds
        self.doing(f"model {self.learner.version} from {fitted.data_size} transitions")
        self.publish_model(data)

    def publish_model(self, data: bytes) -> None:
        """Publish the newest model and keep it in the run folder."""
        self.models.publish(UInt8MultiArray(data=array.array("B", data)))
        try:
            write_atomically(model_path(self.folder, self.learner.version), data)
        except MbrlError as error:
            self.problems["model file"] = str(error)
            self.get_logger().error(str(error))

    def settle(self) -> None:
        """Acknowledge the tick or the trial once the controller uses the newest model."""
        busy = self.running is not None or self.full_fit_due
        if busy or (self.learner.model is not None and self.active_version != self.learner.version):
            return
        self.resuming = False
        if self.open_tick is not None:
            self.tick_done.publish(Header(frame_id=self.get_name(), stamp=to_time(self.open_tick)))
            self.open_tick = None
        if self.open_trial is not None:
            self.publish_trial()
            self.ready.publish(String(data=f"{self.get_name()} {self.open_trial} done"))
            self.open_trial = None

    def publish_trial(self) -> None:
        """Figures of the trial that has ended."""
        values = {
            "trial": float(self.open_trial or 0),
            **asdict(self.verdict),
            "transitions": float(len(self.learner)),
            "model_version": float(self.learner.version),
            "fit_seconds": self.fit_seconds,
            "robot_changes": float(self.changes),
        }
        self.telemetry.publish(to_scalars(time.time_ns(), values))

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        if self.problems:
            self.doing("; ".join(self.problems.values()))
        return ERROR if self.problems else OK, {
            "transitions": len(self.learner),
            "not_stored_yet": self.store.waiting,
            "model_version": self.learner.version,
            "version_in_use": self.active_version,
            "fitting": self.running is not None,
            "fit_seconds": f"{self.fit_seconds:.2f}",
            **{name: f"{value:.4g}" for name, value in asdict(self.verdict).items()},
            "robot_changes": self.changes,
        }

    def statuses(self) -> dict[str, tuple[bytes, dict[str, object]]]:
        """See GraphNode."""
        return super().statuses() | ({"store": self.store_status()} if self.configured else {})

    def store_status(self) -> tuple[bytes, dict[str, object]]:
        """Level and values of the transition store."""
        files = self.folder.glob(f"{TRANSITIONS}*")  # with SQLite's log of what is not in the main file yet
        return ERROR if "store" in self.problems else OK, {
            "transitions": len(self.learner),
            "not_stored_yet": self.store.waiting,
            "size_bytes": sum(path.stat().st_size for path in files),
            "folder": self.folder,
            "problem": self.problems.get("store", ""),
        }

    def close_store(self) -> None:
        """Write what waits and close the store."""
        if lost := self.store.close():
            self.get_logger().error(f"{lost} transitions could not be stored and are lost: {self.store.problem}")


def main() -> int:
    """Entry point of the executable."""
    return run(ModelLearner)


if __name__ == "__main__":
    sys.exit(main())
