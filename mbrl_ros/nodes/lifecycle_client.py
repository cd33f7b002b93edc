"""Asks the life-cycle manager of a running graph, from outside of the graph."""

from std_srvs.srv import Trigger

from mbrl_ros.errors import MbrlError
from mbrl_ros.graph import MANAGER
from mbrl_ros.nodes.service_client import FIND_TIMEOUT, ServiceClient


def call_manager(action: str, namespace: str = "", timeout: float = FIND_TIMEOUT) -> tuple[bool, str]:
    """Call one of the manager's services and wait as long as its work takes.

    Args:
        action: one of `lifecycle_manager.ACTIONS`.
        namespace: of the graph.
        timeout: s, longest wait until the manager is found.

    Returns:
        Whether it is done, and the manager's words.
    """
    with ServiceClient(namespace) as client:
        try:
            answer = client.call(Trigger, f"{MANAGER.name}/{action}", Trigger.Request(), timeout)
        except MbrlError as error:
            return False, f"{error}; the manager runs where autostart is false"
        return (action == "shutdown", "the manager has ended") if answer is None else (answer.success, answer.message)
