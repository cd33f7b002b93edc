"""Asks the life-cycle manager of a running graph, from outside of the graph."""

import time

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from mbrl_ros.graph import MANAGER

FIND_TIMEOUT = 30.0  # s, longest wait until the manager is found


def call_manager(action: str, namespace: str = "", timeout: float = FIND_TIMEOUT) -> tuple[bool, str]:
    """Call one of the manager's services and wait as long as its work takes.

    Args:
        action: one of `lifecycle_manager.ACTIONS`.
        namespace: of the graph.
        timeout: s, longest wait until the manager is found.

    Returns:
        Whether it is done, and the manager's words.
    """
    context = rclpy.Context()
    rclpy.init(args=[], context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("lifecycle_client", namespace=namespace, context=context)
    executor = SingleThreadedExecutor(context=context)
    try:
        executor.add_node(node)
        client = node.create_client(Trigger, f"{MANAGER.name}/{action}")
        end = time.monotonic() + timeout
        while not client.service_is_ready():
            if time.monotonic() > end:
                return False, f"no {client.srv_name} here; the manager runs where autostart is false"
            time.sleep(0.05)
        future = client.call_async(Trigger.Request())
        while not future.done():
            executor.spin_once(timeout_sec=0.1)
            if not client.service_is_ready() and not future.done():
                return action == "shutdown", "the manager has ended"
        return future.result().success, future.result().message
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
