"""Services of the trial manager for people: start, step, stop and reset. Each answers with a reason."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from std_srvs.srv import Trigger

from mbrl_ros.control.trial_switch import Answer
from mbrl_ros.graph import LEARNER

if TYPE_CHECKING:
    from mbrl_ros.nodes.trial_manager import TrialManager


class TrialServices:
    """What people may ask of the trials; `TrialSwitch` decides."""

    def __init__(self, node: "TrialManager") -> None:
        """Offer the services of a trial manager."""
        self.node = node
        answers = ReentrantCallbackGroup()  # the learner's answer comes while a service of ours waits for it
        self.forget = node.create_client(Trigger, f"{LEARNER}/reset", callback_group=answers)
        for name, work in (("start", node.switch.start), ("step", node.switch.step), ("stop", self.stop)):
            node.create_service(Trigger, f"~/{name}", node.guarded(answering(work)))
        alone = MutuallyExclusiveCallbackGroup()
        node.create_service(Trigger, "~/reset", self.on_reset, callback_group=alone)

    def stop(self) -> Answer:
        """End the trial in progress at once."""
        answer = self.node.switch.stop()
        self.node.end_if_asked()
        return answer

    async def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Have the learner set aside all that it has learned; then it is as at the beginning of a run."""
        node, switch = self.node, self.node.switch
        response.success, response.message = switch.idle()
        if not response.success:
            return response
        if not self.forget.service_is_ready():
            response.success, response.message = False, f"not now: there is no {self.forget.srv_name} here"
            return response
        switch.busy = "the learner is being reset"
        try:
            answer = await self.forget.call_async(Trigger.Request())
        finally:
            switch.busy = ""
        if answer.success:
            node.fresh_from = len(node.results)
        response.success, response.message = answer.success, answer.message
        return response


def answering(work: Callable[[], Answer]) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
    """The callback of a service whose work tells whether it is done, and why."""

    def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = work()
        return response

    return answer
