"""Services of the learner for people: save, load, refit and reset. Each answers with a reason."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.task import Future
from std_srvs.srv import Trigger

from mbrl_ros.control.snapshot import keep_start, save_snapshot
from mbrl_ros.control.start_model import read_start
from mbrl_ros.control.trial_switch import Answer
from mbrl_ros.errors import MbrlError
from mbrl_ros.models.serialization import to_bytes

if TYPE_CHECKING:
    from mbrl_ros.nodes.model_learner import ModelLearner


class LearnerServices:
    """What people may ask of the learner. Files are read and written in a thread: the robot goes on learning.

    Attributes:
        holds_fits: whether no further fit may begin, because a service waits for the one in progress.
    """

    def __init__(self, node: "ModelLearner") -> None:
        """Offer the services of a learner that is being set up."""
        self.node, self.holds_fits = node, False
        self.waiting: list[Future] = []
        self.files = ThreadPoolExecutor(1)
        node.at_cleanup.callback(self.files.shutdown)
        alone = MutuallyExclusiveCallbackGroup()  # one after the other, while the rest of the node goes on
        for name, work in (("save", self.save), ("load", self.load), ("refit", self.refit), ("reset", self.reset)):
            node.create_service(Trigger, f"~/{name}", self.answering(work), callback_group=alone)

    def answering(self, work: Callable[[], Any]) -> Callable[..., Any]:
        """Callback of a service: does the work, and says what came of it."""

        async def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            node = self.node
            if not node.active:
                response.success, response.message = False, f"not now: {node.get_name()} is {node.lifecycle}"
                return response
            try:
                response.success, response.message = await work()
            except MbrlError as error:
                response.success, response.message = False, str(error)
            except Exception:
                node.failed()
            finally:
                self.holds_fits = False
            node.get_logger().info(response.message)
            return response

        return answer

    async def save(self) -> Answer:
        """Write the newest model and what it was learned from into a folder of its own."""
        node = self.node
        if node.learner.model is None or not node.has_data():
            return False, "there is no model with its transitions yet; the run's own are in its store as they come"
        model = to_bytes(node.learner.model, node.learner.version, node.learner.trained_on, node.robot.name)
        data = node.data()
        path = await self.in_background(lambda: save_snapshot(node.folder, model, data, node.robot))
        return True, f"model {node.learner.version} and {len(data)} transitions: {path}"

    async def load(self) -> Answer:
        """Take up the model that the parameter `start_model` names; it is learned on from."""
        node = self.node
        if not node.config.start_model:
            return False, "start_model: it is empty; set it to the path of a model's file first"
        path = Path(node.config.start_model)
        start = await self.in_background(lambda: read_start(path, node.robot, node.config.model))
        await self.fits_are_over()
        await self.in_background(lambda: keep_start(node.folder, path, start, node.robot))
        node.start = start
        node.start_from(start)
        return True, f"model {node.learner.version} is {path}, with {start.size()} transitions"

    async def refit(self) -> Answer:
        """Fit anew to all there is to learn from."""
        node = self.node
        if len(node.learner) == 0:
            return False, "there is nothing to learn from yet"
        if node.start_holds():
            has = f"there are {len(node.learner)} so far"
            return (
                False,
                f"not now: the start model's transitions are not there; it stays until the run has more: {has}",
            )
        said = f"{len(node.data())} transitions are being fitted; the next model is {node.learner.version + 1}"
        node.full_fit_due = True
        node.work()
        return True, said

    async def reset(self) -> Answer:
        """Set aside all that was learned: as at the beginning of a run."""
        node = self.node
        if any(member.phase == "run" for member in node.members):
            return False, "not now: a trial is running; stop it first"
        await self.fits_are_over()
        return True, node.start_anew()

    async def fits_are_over(self) -> None:
        """Return when no fit is in progress; none begins before the service has answered."""
        self.holds_fits = True
        while self.node.running is not None:
            await self.next_look()

    async def in_background(self, work: Callable[[], Any]) -> Any:
        """Result of work in another thread."""
        future = self.files.submit(work)
        while not future.done():
            await self.next_look()
        return future.result()

    def next_look(self) -> Future:
        """Something to wait for until the next look."""
        self.waiting.append(Future(executor=self.node.executor))
        return self.waiting[-1]

    def look(self) -> None:
        """Wake who waits; to be called again and again."""
        waiting, self.waiting = self.waiting, []
        for future in waiting:
            future.set_result(None)
