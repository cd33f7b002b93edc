"""Asks services of a running graph, from outside of the graph."""

import time
from typing import Any

import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from mbrl_ros.errors import MbrlError

FIND_TIMEOUT = 30.0  # s, longest wait until a service is found


class ServiceClient:
    """A node of its own for as long as a ``with`` block lasts."""

    def __init__(self, namespace: str = "") -> None:
        """Set up for the graph of a namespace."""
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = rclpy.create_node("service_client", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

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
        client = self._node.create_client(kind, name)
        end = time.monotonic() + timeout
        while not client.service_is_ready():
            if time.monotonic() > end:
                raise MbrlError(f"no {client.srv_name} here")
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

    def set(self, node: str, name: str, value: Any, timeout: float = FIND_TIMEOUT) -> None:
        """Set a parameter of a node.

        Raises:
            MbrlError: the node refuses, with its reason, or see `call`.
        """
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        answer = self.call(SetParameters, f"{node}/set_parameters", request, timeout)
        if answer is None or not answer.results[0].successful:
            raise MbrlError(f"{node}: {name}: {'it has ended' if answer is None else answer.results[0].reason}")
