"""The state estimator node: sensor messages in, one stamped observation out."""

import sys

import numpy as np
from sensor_msgs.msg import JointState

from mbrl_ros.estimation.joint_filter import JointFilter
from mbrl_ros.nodes.conversions import from_joint_state, from_time, to_joint_state
from mbrl_ros.nodes.pipeline_node import OK, WARN, PipelineNode, run


class StateEstimator(PipelineNode):
    """Filters joint states; publishes an observation only while it is valid."""

    def __init__(self) -> None:
        super().__init__("state_estimator")
        robot = self.robot
        self.filter = JointFilter(self.groups["filter"], len(robot.joints), robot.position_noise, robot.velocity_noise)
        self.published = self.withheld = 0
        self.observations = self.publish_to(JointState, "observation")
        self.listen_to(JointState, "joint_states", self.on_joint_states, self.sensor_qos)
        self.doing("waiting for joint states")

    def on_joint_states(self, message: JointState) -> None:
        """Update the filter and publish its estimate with the measurement's stamp.

        Where a measurement had to be bridged, `header.frame_id` says why.
        """
        stamp_ns = from_time(message.header.stamp)
        position, velocity = from_joint_state(message, self.robot.joints)
        result = self.filter.update(1e-9 * stamp_ns, position, velocity)
        if not result.valid:
            self.withheld += 1
            self.doing(f"observation withheld: {result.reason}")
            self.get_logger().warning(f"observation withheld: {result.reason}", throttle_duration_sec=1.0)
            return
        self.published += 1
        self.doing("estimating")
        x = np.concatenate([result.position, result.velocity])
        remark = result.reason if result.bridged else ""
        self.observations.publish(to_joint_state(stamp_ns, self.robot.joints, x, remark))

    def status(self) -> tuple[bytes, dict[str, object]]:
        """See PipelineNode."""
        return WARN if self.withheld else OK, {"published": self.published, "withheld": self.withheld}


def main() -> int:
    """Entry point of the executable."""
    return run(StateEstimator)


if __name__ == "__main__":
    sys.exit(main())
