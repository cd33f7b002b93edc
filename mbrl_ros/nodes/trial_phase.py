"""What the trial manager announces on the topic `trial`: as a message, and back with nothing taken on trust."""

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile

from mbrl_ros.data.recorded_topics import LAST_TRIAL, trial_index
from mbrl_ros.errors import MessageError
from mbrl_ros.nodes.conversions import status_values, to_status

PHASES = ("run", "done", "wait")  # wait: a real robot could not be armed
POLICIES = ("base", "mpc")
# Of the words that acknowledge a phase: they are still there for a trial manager that finds the node a moment later.
WORDS = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class TrialPhase:
    """A phase of trial `index`: one of PHASES, with one of POLICIES."""

    index: int
    phase: str
    policy: str


def to_phase(announced: TrialPhase, robot: str) -> DiagnosticStatus:
    """The announcement as a message."""
    values = {"index": announced.index, "policy": announced.policy}
    return to_status("trial", robot, DiagnosticStatus.OK, announced.phase, values)


def from_phase(message: DiagnosticStatus) -> TrialPhase:
    """Inverse of `to_phase`.

    Raises:
        MessageError: the message is no announcement of a trial; names field, value and what is allowed.
    """
    values = status_values(message)
    policy, index = values.get("policy", ""), values.get("index", "")
    if message.message not in PHASES:
        raise MessageError(
            f"trial: message {message.message[:40]!r} is not allowed; expected one of: {', '.join(PHASES)}"
        )
    if policy not in POLICIES:
        raise MessageError(f"trial: policy {policy[:40]!r} is not allowed; expected one of: {', '.join(POLICIES)}")
    if (number := trial_index(index)) is None:
        raise MessageError(f"trial: index {index[:40]!r} is not allowed; expected a whole number in [0, {LAST_TRIAL}]")
    return TrialPhase(number, message.message, policy)
