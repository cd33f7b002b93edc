"""The life-cycle manager: takes the managed nodes up, in order, and down again, in reverse.

It runs beside the graph where the nodes do not start by themselves (`autostart` false). Activated first is what the
others need, last the guard; deactivated first is the guard, so that nothing moves the robot while the rest goes.
"""

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.client import Client
from rclpy.task import Future
from std_srvs.srv import Trigger

from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import MANAGED, MANAGER
from mbrl_ros.nodes.parameters import load_configuration
from mbrl_ros.nodes.pipeline_node import ERROR, OK, WARN, GraphNode, run

UP = (  # state a node is in, and what takes it one step further up
    (State.PRIMARY_STATE_UNCONFIGURED, Transition.TRANSITION_CONFIGURE, "configure"),
    (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_ACTIVATE, "activate"),
)
DOWN = (
    (State.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_DEACTIVATE, "deactivate"),
    (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CLEANUP, "cleanup"),
)
SHUTDOWN = (
    (State.PRIMARY_STATE_UNCONFIGURED, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, "shutdown"),
    (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_INACTIVE_SHUTDOWN, "shutdown"),
    (State.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_ACTIVE_SHUTDOWN, "shutdown"),
)
ACTIONS = ("startup", "pause", "resume", "cleanup", "shutdown")  # services of the manager
LOOK_EVERY = 0.2  # s between two looks at who is there
COME_TIMEOUT = 60.0  # s, how long `startup` waits for processes that are being started
ANSWER_TIMEOUT = 180.0  # s without an answer after which a node is given up; a first configure compiles for tens of s
Steps = Sequence[tuple[int, int, str]]


class LifecycleManager(GraphNode):
    """One service for each thing that can be done to all managed nodes; the answer names every node that failed."""

    what = "nodes"

    def __init__(self) -> None:
        super().__init__(MANAGER.name)
        self.config, _ = load_configuration(self, MANAGER)
        self.managed = managed_nodes(self.config.managed)
        group = ReentrantCallbackGroup()  # answers come in while a service of ours waits for them
        one_after_the_other = MutuallyExclusiveCallbackGroup()
        self.asked: list[tuple[Client, Future, float]] = []  # what has yet to be answered, and when it was asked
        self.askers: dict[str, tuple[Client, Client]] = {
            name: (
                self.create_client(GetState, f"{name}/get_state", callback_group=group),
                self.create_client(ChangeState, f"{name}/change_state", callback_group=group),
            )
            for name in self.managed
        }
        self.sleeping: list[Future] = []  # what goes on at the next look
        self.last_states = dict.fromkeys(self.managed, "unknown")
        works = (self.startup, self.pause, self.resume, self.cleanup, self.shut_down)
        for action, work in zip(ACTIONS, works, strict=True):
            self.create_service(Trigger, f"~/{action}", self.answering(work), callback_group=one_after_the_other)
        self.create_wall_timer(LOOK_EVERY, self.guarded(self.look))
        self.doing("waiting for ~/startup")

    def answering(self, work: Callable[[], Awaitable[list[str]]]) -> Callable[..., Awaitable[Any]]:
        """Service callback that does the work and says what of it failed."""

        async def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            problems = await work()
            response.success = not problems
            states = ", ".join(f"{name} {state}" for name, state in self.last_states.items())
            response.message = "; ".join(problems) or states
            self.doing(response.message)
            return response

        return answer

    async def startup(self) -> list[str]:
        """Configure every node, so that all problems come at once, then activate them in order: all or none."""
        end = time.monotonic() + COME_TIMEOUT
        while time.monotonic() < end and not all(self.is_there(name) for name in self.managed):
            await self.next_look()
        problems = [p for name in self.managed if (p := await self.walk(name, UP[:1]))]
        return problems or await self.resume()

    async def resume(self) -> list[str]:
        """Activate in order; where one cannot be, those that were are deactivated again."""
        for name in self.managed:
            problem = await self.walk(name, UP[1:])
            if not problem and self.last_states[name] != "active":
                problem = f"{name} is {self.last_states[name]}: startup first"
            if problem:
                return [problem, *await self.pause()]
        return []

    async def pause(self) -> list[str]:
        """Deactivate, the guard first."""
        return [p for name in reversed(self.managed) if (p := await self.walk(name, DOWN[:1]))]

    async def cleanup(self) -> list[str]:
        """Deactivate all and clean them up, so that their parameters may change."""
        return await self.pause() + [p for name in reversed(self.managed) if (p := await self.walk(name, DOWN[1:]))]

    async def shut_down(self) -> list[str]:
        """End the nodes' processes, the guard's first."""
        return [p for name in reversed(self.managed) if (p := await self.walk(name, SHUTDOWN))]

    async def walk(self, name: str, steps: Steps) -> str:
        """Take a node the steps that its state allows; returns what went wrong, empty where nothing did."""
        state_of, change = self.askers[name]
        if not self.is_there(name):
            self.last_states[name] = "not there"
            return f"{name} is not there"
        for start, transition, label in steps:
            state = await self.ask(state_of, GetState.Request())
            if state is None:
                break
            if state.current_state.id != start:
                continue
            answer = await self.ask(change, ChangeState.Request(transition=Transition(id=transition)))
            if label == "shutdown" and (answer is None or answer.success):
                self.last_states[name] = "ended"
                return ""
            if answer is None or not answer.success:
                return f"{name}: {label} failed, see its log and its diagnostics"
        state = await self.ask(state_of, GetState.Request())
        self.last_states[name] = "not there" if state is None else state.current_state.label
        return "" if state is not None else f"{name} does not answer"

    async def ask(self, client: Client, request: Any) -> Any:
        """Answer of a service; None where its node goes away instead, or stays silent."""
        asked = (client, client.call_async(request), time.monotonic())
        self.asked.append(asked)
        answer = await asked[1]
        self.asked.remove(asked)
        return answer

    def is_there(self, name: str) -> bool:
        """Whether the node can be asked."""
        return all(client.service_is_ready() for client in self.askers[name])

    def next_look(self) -> Future:
        """Something to wait for until the next look."""
        self.sleeping.append(Future(executor=self.executor))
        return self.sleeping[-1]

    def look(self) -> None:
        """Wake who sleeps; nobody answers for a process that has ended or hangs."""
        sleeping, self.sleeping = self.sleeping, []
        for future in sleeping:
            future.set_result(None)
        for client, future, since in self.asked:
            if not client.service_is_ready() or time.monotonic() - since > ANSWER_TIMEOUT:
                future.cancel()

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See GraphNode."""
        states = set(self.last_states.values())
        level = OK if states == {"active"} else ERROR if "not there" in states else WARN
        return level, dict(self.last_states)


def managed_nodes(text: str) -> list[str]:
    """Names of the nodes to manage, in the order of activation.

    Raises:
        ConfigError: a node that is not a managed one, one that is there twice, or none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name.rsplit("/", 1)[-1] not in MANAGED:
            raise ConfigError(
                f"managed: '{name}' is not allowed; expected {', '.join(MANAGED)}, each with or without a namespace"
            )
        if names.count(name) > 1:
            raise ConfigError(f"managed: '{name}' is there twice; expected each node once")
    if not names:
        raise ConfigError(f"managed: '{text}' is not allowed; expected at least one of {', '.join(MANAGED)}")
    return names


def main() -> int:
    """Entry point of the executable."""
    return run(LifecycleManager)


if __name__ == "__main__":
    sys.exit(main())
