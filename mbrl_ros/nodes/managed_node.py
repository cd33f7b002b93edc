"""Managed nodes: configured, activated, deactivated, cleaned up and shut down on request, see docs/architecture.md.

What rclpy's life cycle leaves open is settled here: it swallows the exceptions of its callbacks, dies of a request
for a transition that is not possible, and has no way from active to its error processing.
"""

import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNodeMixin, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile

from mbrl_ros.errors import ConfigError, MbrlError
from mbrl_ros.graph import NODES
from mbrl_ros.nodes.managed_parameters import ManagedParameters, Problems
from mbrl_ros.nodes.pipeline_node import GraphNode
from mbrl_ros.nodes.streams import Stream
from mbrl_ros.robots.description import load_robot

SUCCESS, FAILURE, ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)
RCLError = rclpy_implementation.RCLError
NOT_ACTIVE = "activation"  # what a node waits for that is not active


class ManagedNode(LifecycleNodeMixin, GraphNode):
    """Base of the managed nodes; they override `set_up`, and `examine`, `begin` and `rest` where they need to.

    Attributes:
        active: whether it works; what comes in otherwise is passed over.
        configured: whether `set_up` has succeeded and its work has not been given up since.
        at_cleanup: what to call when that which `set_up` has made is given up; publishers, subscriptions, timers,
            services and clients go by themselves.
    """

    active = configured = False
    _setting_up = _has_crashed = False

    def __init__(self, name: str) -> None:
        GraphNode.__init__(self, name)
        LifecycleNodeMixin.__init__(self)
        self._service_change_state.callback = self._answer_to(self._service_change_state.callback)
        self.at_cleanup = ExitStack()
        self._work_timers: list[Any] = []
        self._missed: dict[str, tuple[Callable, Any]] = {}  # latched topic -> what to do with its newest message
        self.parameters = ManagedParameters(self, NODES[name], self.reconfigure)
        self.config, self.groups = self.parameters.read(Problems())
        self.doing("waiting to be configured")
        self._permanent = {id(entity) for entity, _ in self._entities()}

    # what the nodes override

    def examine(self, problems: Problems) -> None:
        """Look for what else could go wrong: ``with problems: ...``. `robot` is None where it could not be loaded."""

    def set_up(self) -> None:
        """Make all that the work needs; nothing may move or be published yet."""

    def begin(self) -> None:
        """The work begins, for the first time or again."""

    def rest(self) -> None:
        """The work ends for now; this may still publish."""

    def reconfigure(self, config: Any, groups: dict[str, Any]) -> None:
        """Take up changed parameters, which have been checked; nodes that have built on them extend it."""
        self.config, self.groups = config, groups

    # what they inherit

    @property
    def lifecycle(self) -> str:
        """See GraphNode."""
        return str(self._state_machine.current_state[1])

    def make_publisher(self, kind: type, topic: str, qos: QoSProfile | int) -> Any:
        """A publisher that is silent unless the node is active."""
        return self.create_lifecycle_publisher(kind, topic, qos)

    def create_wall_timer(self, period: float, callback: Callable[[], None]) -> Any:
        """See GraphNode; what `set_up` makes runs only while the node is active."""
        timer = super().create_wall_timer(period, callback)
        if self._setting_up:
            timer.cancel()
            self._work_timers.append(timer)
        return timer

    def received(self, callback: Callable, heard: Stream | None, latched: str) -> Callable:
        """See GraphNode; while it is not active, a node keeps the newest message of a latched topic and no other."""
        call = super().received(callback, heard, latched)

        def when_active(message: Any) -> None:
            if self.active:
                call(message)
            elif latched:
                self._missed[latched] = callback, message

        return when_active

    def unconnected(self) -> list[str]:
        """See GraphNode."""
        return super().unconnected() if self.active else [NOT_ACTIVE]

    def statuses(self) -> dict[str, tuple[bytes, dict[str, object]]]:
        """See GraphNode; what is not configured has nothing to tell."""
        return super().statuses() if self.configured else {}

    def bring_up(self) -> None:
        """Configure and activate, unless that is left to others (`autostart` false).

        Raises:
            ConfigError: the parameters, or what they name, cannot be used; every problem at once.
        """
        if self.get_parameter("autostart").value is False:
            return
        if self.trigger_configure() == FAILURE or (self.configured and self.trigger_activate() == FAILURE):
            raise ConfigError(self.trouble)
        if not self.active:  # an unexpected error, logged already
            self.exit_code = 1

    def crashed(self) -> None:
        """See GraphNode; on the way out an active node takes its leave of the actuators, see `on_error`."""
        super().crashed()
        if self.active:
            self._has_crashed = True
            self.trigger_deactivate()
            self.publish_diagnostics()

    def leave(self) -> None:
        """See GraphNode."""
        if self.lifecycle in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()

    def destroy_node(self) -> None:
        """See Node; rclpy leaves the state machine, which keeps the node in the graph."""
        self._state_machine.destroy_when_not_in_use()
        super().destroy_node()

    # transitions, called by the state machine

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build everything from the parameters, or say all that is wrong with them."""
        return self._transition(self._configure)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work, with the newest of each latched topic."""
        super().on_activate(state)
        result = self._transition(self._activate)
        if result == FAILURE:
            self._halt()
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; what is built stays."""
        if self._has_crashed:
            return ERROR
        result = self._transition(self._deactivate)
        super().on_deactivate(state)
        return ERROR if result == FAILURE else result  # a node that cannot stop must not go on

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give up what was built; the parameters may change again."""
        return self._transition(self._release)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working, give up everything and end the process."""
        result = self._transition(self._deactivate) if self.active else SUCCESS
        self._transition(self._release)
        if self.exit_code is None:
            self.exit_code = 0
        return SUCCESS if result == SUCCESS else ERROR

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Something unexpected, logged already: stop working and give up what was built.

        After a transition that went wrong the node can be configured again. After a callback that did, it is at its
        end: nobody knows what it would do next.
        """
        if self.active:
            self._transition(self._deactivate)
        self._transition(self._release)
        return FAILURE if self._has_crashed or self.exit_code is not None else SUCCESS

    def _transition(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        """Run a step; what goes wrong is logged, a user's mistake in its words and anything else in full."""
        try:
            step()
        except MbrlError as error:
            self.trouble = str(error)
            self.get_logger().error(self.trouble)
            return FAILURE
        except Exception:
            self.trouble = f"unexpected error:\n{traceback.format_exc()}"
            self.get_logger().fatal(self.trouble)
            return ERROR
        return SUCCESS

    def _configure(self) -> None:
        self.trouble, problems = "", Problems()
        self.config, self.groups = self.parameters.read(problems)
        self.robot = None
        with problems:
            self.robot = load_robot(self.config.robot)
        self.examine(problems)
        self._setting_up = True
        try:
            if not problems:
                with problems:
                    self.set_up()
        finally:
            self._setting_up = False
            if problems:
                self._release()
        if problems:
            self.doing("waiting to be configured")
            raise ConfigError("\n".join(problems))
        self.configured = self.parameters.fixed = True

    def _activate(self) -> None:
        self.trouble, self.active = "", True
        for timer in self._work_timers:
            timer.reset()
        self._fast_diagnostics.reset()
        self.begin()
        missed, self._missed = self._missed, {}
        for callback, message in missed.values():
            self.take_in(callback, message)

    def _deactivate(self) -> None:
        try:
            self.rest()
        finally:
            self._halt()

    def _halt(self) -> None:
        self.active = False
        for timer in self._work_timers:
            timer.cancel()

    def _release(self) -> None:
        self.configured = self.parameters.fixed = False
        for entity, destroy in self._entities():
            if id(entity) not in self._permanent:
                destroy(entity)
        for memory in (self._links, self._heard, self._sent, self._work_timers, self._missed):
            memory.clear()
        self.at_cleanup.close()

    def _entities(self) -> list[tuple[Any, Callable[[Any], bool]]]:
        """All that the node has in ROS, and what destroys it."""
        kinds = (
            (self.publishers, self.destroy_lifecycle_publisher),
            (self.subscriptions, self.destroy_subscription),
            (self.timers, self.destroy_timer),
            (self.services, self.destroy_service),
            (self.clients, self.destroy_client),
        )
        return [(entity, destroy) for entities, destroy in kinds for entity in list(entities)]

    def _answer_to(self, change_state: Callable) -> Callable:
        """The service's callback; rclpy raises where the transition is not possible now, and that ends a process."""

        def answer(request: Any, response: Any) -> Any:
            try:
                response = change_state(request, response)
            except RCLError as error:
                asked = request.transition.label or request.transition.id
                self.get_logger().error(f"transition {asked} is not possible while {self.lifecycle}: {error}")
                response.success = False
            self.publish_diagnostics()
            return response

        return answer
