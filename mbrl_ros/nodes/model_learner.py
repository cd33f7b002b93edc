"""The learner node: stores every transition, refits while the robot moves, publishes each new model."""

import array
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_msgs.msg import UInt8MultiArray

from mbrl_ros.control.learner import Fitted, Learner, Verdict
from mbrl_ros.control.snapshot import set_aside
from mbrl_ros.control.start_model import Start, read_start
from mbrl_ros.data.pairing import Pair
from mbrl_ros.data.patient_store import PatientStore
from mbrl_ros.data.transition_store import TransitionStore
from mbrl_ros.errors import MbrlError
from mbrl_ros.models.serialization import to_bytes
from mbrl_ros.models.trainers import TRAINERS
from mbrl_ros.nodes.conversions import STATE, status_name, to_status
from mbrl_ros.nodes.learner_member import Member, fleet_namespaces
from mbrl_ros.nodes.learner_services import LearnerServices
from mbrl_ros.nodes.managed_node import NOT_ACTIVE, ManagedNode
from mbrl_ros.nodes.managed_parameters import Problems
from mbrl_ros.nodes.pipeline_node import ERROR, LATCHED, LIFECYCLE, OK, WAITING_FOR, WARN, GraphNode, run
from mbrl_ros.reporting.run_folder import (
    TRANSITIONS,
    create_run_folder,
    model_path,
    model_versions,
    note_fit,
    write_atomically,
)
from mbrl_ros.types import Transitions

FIRST_MODEL = "the first model"  # what a robot waits for whose learner has a past


class ModelLearner(ManagedNode):
    """Aggregates transitions and refits: in a thread of its own in real time, inside the tick in lockstep."""

    what = "model"

    def __init__(self) -> None:
        super().__init__("model_learner")
        self.members: list[Member] = []
        self.own_folder = ""  # where nothing is to be kept, it is kept for as long as the process lives

    def examine(self, problems: Problems) -> None:
        """See ManagedNode."""
        cfg = self.config
        if cfg.output:
            with problems:
                create_run_folder(Path(cfg.output))
        with problems:
            fleet_namespaces(cfg.fleet, cfg.lockstep)
        if cfg.start_model and self.robot is not None:
            with problems:
                read_start(Path(cfg.start_model), self.robot, cfg.model)

    def set_up(self) -> None:
        """See ManagedNode."""
        cfg, robot = self.config, self.robot
        if not cfg.output:
            self.own_folder = self.own_folder or tempfile.mkdtemp(prefix="mbrl_ros_")
        self.folder = create_run_folder(Path(cfg.output or self.own_folder))
        self.open_store()
        self.at_cleanup.callback(self.close_store)
        self.fit_seconds = 0.0
        self.fits_started = self.fits_finished = 0
        self.changes = len(self.store.changes)  # of the robot, as far as its motion tells
        self.problems: dict[str, str] = {}  # what is wrong with: storing, fitting, keeping the model
        self.start = read_start(Path(cfg.start_model), robot, cfg.model) if cfg.start_model else None
        self.full_fit_due = len(self.learner) > 0 and not self.start_holds()
        self.pool = ThreadPoolExecutor(1)
        self.at_cleanup.callback(self.pool.shutdown, wait=False, cancel_futures=True)
        self.running: Future[Fitted] | None = None
        self.models = self.publish_to(UInt8MultiArray, "dynamics_model", LATCHED)
        robots = fleet_namespaces(cfg.fleet, cfg.lockstep) or [""]
        self.members = [Member(self, k, name, len(robots)) for k, name in enumerate(robots)]
        for member in self.members:
            member.resuming, member.awaits = self.full_fit_due or self.start is not None, int(self.full_fit_due)
        self.services_for_people = LearnerServices(self)
        self.create_wall_timer(0.02, self.guarded(self.on_timer))
        self.create_wall_timer(1.0, self.guarded(self.store_what_waits))

    def open_store(self) -> None:
        """Take up the run folder's store, and a learner of what it holds."""
        cfg, robot = self.config, self.robot
        self.store = PatientStore(TransitionStore(self.folder / TRANSITIONS, robot.name, robot.layout))
        train, settings = TRAINERS[cfg.model], self.groups[cfg.model]
        self.learner = Learner(self.store, robot.layout, train, settings, cfg.seed, self.groups["change"])
        self.learner.version = max(model_versions(self.folder), default=0)
        self.rows_at_fit = 0  # transitions there were when the newest fit began

    def start_anew(self) -> str:
        """Set the store aside and begin with an empty one, and with the model to start from, if any; tells where it is.

        Raises:
            MbrlError: what waits to be stored, or the store, cannot be written; all is as it was then.
        """
        if self.store.waiting and not self.store.flush():
            raise MbrlError(f"{self.store.waiting} transitions wait to be stored: {self.store.problem}")
        version, count = self.learner.version, len(self.learner)
        self.store.close()
        try:
            aside = set_aside(self.folder)
        finally:
            self.open_store()
            self.learner.version = version
        self.full_fit_due = False
        if self.start is not None:
            self.start_from(self.start)
        self.doing(f"{count} transitions are set aside: {aside}")
        return self._doing

    def begin(self) -> None:
        """See ManagedNode; the model to start from is published once."""
        old = f"; {self.learner.outdated} are from before the robot changed" if self.learner.outdated else ""
        self.doing(f"{len(self.learner)} transitions in the store{old}")
        if self.start is not None and self.learner.model is None and not self.full_fit_due:
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

    def has_data(self) -> bool:
        """Whether there is anything to learn from."""
        return len(self.learner) > 0 or (self.start is not None and self.start.size() > 0)

    def data(self) -> Transitions:
        """All there is to learn from: what the robot did since it last changed, or all its life."""
        if len(self.learner) == 0 and self.start is not None and self.start.data is not None:
            return self.start.data
        new = self.learner.data(self.learner.outdated)
        return new if self.start is None or self.learner.outdated else self.start.with_new(new)

    def unconnected(self) -> list[str]:
        """See GraphNode; a run with a past does not begin before the controller uses what that has taught."""
        return super().unconnected() + ([FIRST_MODEL] if any(m.resuming for m in self.members) else [])

    def publish_diagnostics(self) -> None:
        """See GraphNode; each robot of a fleet hears the state of its learner under a name of its own."""
        super().publish_diagnostics()
        fleet = [member for member in self.members if member.namespace]
        if fleet:
            self._diagnostics.publish(DiagnosticArray(status=[self.state_for(member) for member in fleet]))

    def state_for(self, member: Member) -> DiagnosticStatus:
        """State of this node as the trial manager of one robot wants it: what others lack does not hold it up."""
        prefix = member.topic("")
        lacks = [topic for topic in GraphNode.unconnected(self) if topic.startswith(prefix)] if self.active else []
        missing = ", ".join(lacks + [FIRST_MODEL] * member.resuming + [NOT_ACTIVE] * (not self.active))
        level = ERROR if self.trouble else WARN if missing else OK
        values = {LIFECYCLE: self.lifecycle, WAITING_FOR: missing}
        return to_status(status_name(member.topic(self.get_name()), STATE), self.robot.name, level, self._doing, values)

    # what comes in

    def on_timer(self) -> None:
        """Work; but in lockstep a refit during a trial belongs to a tick, or its moment would be left to chance."""
        self.services_for_people.look()
        if not (self.config.lockstep and any(m.phase == "run" for m in self.members)):
            self.work()

    def end_trial(self, member: Member) -> None:
        """A trial is over: judge the model, refit on everything and acknowledge."""
        member.open_trial, member.verdict = member.trial, Verdict()
        if len(self.learner):
            member.verdict = self.learner.judge_trial(self.config.error_horizon, member.number)
            if not self.start_holds():
                self.full_fit_due, member.awaits = True, self.fits_started + 1
        self.work()

    def catch_up(self, version: int) -> None:
        """Count on from a version in use that is newer than all of this run folder, which is not the one it is from.

        A controller takes no model that is older than its own.
        """
        if version <= self.learner.version:
            return
        self.get_logger().warning(
            f"model {version} is in use, but {self.folder} ends with {self.learner.version}: counting on from {version}"
        )
        self.learner.version = version
        if self.learner.model is not None:
            data = to_bytes(self.learner.model, version + 1, self.learner.trained_on, self.robot.name)
            self.learner.version += 1
            self.publish_model(data)

    # what is made of it

    def watch(self, pair: Pair) -> None:
        """Say so where the robot has changed; where robots of a fleet differ, none of them has."""
        if len(self.members) == 1 and self.learner.changed(pair):
            self.changes += 1
            since = len(self.learner) - self.learner.changed_at
            self.get_logger().warning(
                f"the robot has changed, {since} transitions ago: what is older counts as another robot's"
            )

    def store_what_waits(self) -> None:
        """Try again what a full disk has refused."""
        if self.store.problem:
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
        planning = any(member.planning for member in self.members)
        return not self.start_holds() and planning and news >= self.config.refit_every

    def work(self) -> None:
        """Start the fit that is due, take up the one that is finished, report what is settled."""
        if self.running is not None and self.running.done():
            self.finish(self.running)
        held = self.services_for_people.holds_fits
        if self.running is None and not held and (self.full_fit_due or self.refit_due()):
            warm, self.full_fit_due = not self.full_fit_due, False
            self.doing(f"fitting {len(self.learner)} transitions")
            self.rows_at_fit = len(self.learner)
            self.fits_started += 1
            self.running = self.pool.submit(self.learner.fit, self.data(), warm, self.learner.former())
            if self.config.lockstep:
                self.finish(self.running)
        self.settle()

    def finish(self, future: "Future[Fitted]") -> None:
        """Publish the model of a finished fit; after a failed one the last good model stays."""
        self.running = None
        self.fits_finished += 1
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
        if hasattr(fitted.report, "parameter_table"):
            self.get_logger().info(f"model {self.learner.version}:\n{fitted.report.parameter_table()}")
        self.publish_model(data)

    def publish_model(self, data: bytes) -> None:
        """Publish the newest model and keep it in the run folder."""
        self.models.publish(UInt8MultiArray(data=array.array("B", data)))
        try:
            write_atomically(model_path(self.folder, self.learner.version), data)
            note_fit(self.folder, self.learner.version, self.learner.trained_on, self.fit_seconds)
        except MbrlError as error:
            self.problems["model file"] = str(error)
            self.get_logger().error(str(error))

    def settle(self) -> None:
        """Acknowledge what is settled, see `Member.settle`."""
        version = 0 if self.learner.model is None else self.learner.version
        for member in self.members:
            member.settle(version, self.fits_finished)

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        if self.problems:
            self.doing("; ".join(self.problems.values()))
        return ERROR if self.problems else OK, {
            "transitions": len(self.learner),
            "not_stored_yet": self.store.waiting,
            "model_version": self.learner.version,
            "fitting": self.running is not None,
            "fit_seconds": f"{self.fit_seconds:.2f}",
            "robot_changes": self.changes,
            **{name: value for member in self.members for name, value in member.figures().items()},
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
