"""Asks services of a running graph, from outside of the graph."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import rclpy
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from mbrl_ros.errors import MbrlError
from mbrl_ros.nodes.parameters import plain

FIND_TIMEOUT = 30.0  # s, longest wait until a service is found
WHERE_TO_LOOK = "is the graph running, in ROS domain {} (ROS_DOMAIN_ID) and in that namespace (--namespace)?"


def domain() -> str:
    """The ROS domain of this process."""
    return os.environ.get("ROS_DOMAIN_ID") or "0"


class ServiceClient:
    """A node of its own for as long as a ``with`` block lasts."""

    def __init__(self, namespace: str = "") -> None:
        """Set up for the graph of a namespace."""
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("service_client", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> "ServiceClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def call(self, kind: Any, name: str, request: Any, timeout: float = FIND_TIMEOUT) -> Any:
        """Answer of a service, however long its work takes; None where its node ends instead.

        Raises:
            MbrlError: it is not found within `timeout` s.
        """
        client = self._clients.get(name) or self._clients.setdefault(name, self._node.create_client(kind, name))
        end = time.monotonic() + timeout
        while not client.service_is_ready():
            if time.monotonic() > end:
                raise MbrlError(f"no {self._node.resolve_service_name(name)} here: {WHERE_TO_LOOK.format(domain())}")
            time.sleep(0.05)
        future = client.call_async(request)
        while not future.done():
            self._executor.spin_once(timeout_sec=0.1)
            if not client.service_is_ready() and not future.done():
                return None
        return future.result()

    def trigger(self, name: str, timeout: float = FIND_TIMEOUT) -> tuple[bool, str]:
        """Whether a service has done what it is for, and its words.

        Raises:
            MbrlError: see `call`.
        """
        answer = self.call(Trigger, name, Trigger.Request(), timeout)
        return (False, f"{name}: its node has ended") if answer is None else (answer.success, answer.message)

    def set(self, node: str, values: Mapping[str, Any], together: bool = False) -> list[tuple[bool, str]]:
        """Set parameters of a node, one after the other or all or none; None as a value deletes.

        Returns:
            Whether each was taken, or all of them were, and why not.

        Raises:
            MbrlError: the node is not there.
        """
        wishes = [to_message(name, value) for name, value in values.items()]
        kind, name = (
            (SetParametersAtomically, "set_parameters_atomically") if together else (SetParameters, "set_parameters")
        )
        answer = self.call(kind, f"{node}/{name}", kind.Request(parameters=wishes))
        if answer is None:
            raise MbrlError(f"{node} has ended")
        results = [answer.result] if together else answer.results
        return [(result.successful, result.reason) for result in results]

    def get(self, node: str, names: Sequence[str]) -> dict[str, Any]:
        """Values of parameters of a node; arrays as lists.

        Raises:
            MbrlError: the node is not there.
        """
        answer = self.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=list(names)))
        if answer is None:
            raise MbrlError(f"{node} has ended")
        return {name: plain(parameter_value_to_python(v)) for name, v in zip(names, answer.values, strict=True)}


def to_message(name: str, value: Any) -> ParameterMessage:
    """A parameter as a message; None is no value."""
    if value is None:
        return Parameter(name, Parameter.Type.NOT_SET).to_parameter_msg()
    return Parameter(name, value=value).to_parameter_msg()
