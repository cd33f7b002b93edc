"""Stands in for a robot that PyBullet does not simulate, in `mbrl_ros bench faults --robot`: a position arm, a base."""

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import Imu, JointState
from std_srvs.srv import SetBool, Trigger

from mbrl_ros.benchmarks.faults.kinematic_robot import KinematicRobot
from mbrl_ros.errors import ConfigError
from mbrl_ros.graph import SIMULATOR
from mbrl_ros.nodes.command_output import command_output
from mbrl_ros.nodes.conversions import to_joint_state, to_time
from mbrl_ros.nodes.pipeline_node import BEST_EFFORT, PipelineNode, run

GRAVITY = 9.81  # m/s^2, what an accelerometer at rest feels
KINDS = {"JointState": JointState, "Odometry": Odometry, "PoseStamped": PoseStamped, "Imu": Imu}


class FaultRobot(PipelineNode):
    """Speaks the interfaces of the robot's YAML, and the simulator's services for the trial manager. Real time.

    Its sensors speak all the time, as those of a real robot; a reset stops it where it is.
    """

    def __init__(self) -> None:
        super().__init__(SIMULATOR)
        if self.config.lockstep:
            raise ConfigError("lockstep: true is not allowed for this robot; expected false")
        self.dt_ns = round(1e9 * self.robot.dt)
        self.plant, self.rng = KinematicRobot(self.robot), np.random.default_rng(self.config.seed)
        self.running, self.silent_ticks = False, 0
        self.stamp_ns, self.next_tick = time.time_ns(), time.monotonic() + self.robot.dt
        self.writers: dict[str, Callable[[], Any]] = {
            "JointState": self.joint_state,
            "Odometry": self.odometry,
            "PoseStamped": self.pose,
            "Imu": self.imu,
        }
        self.sensors = [(s.type, self.publish_to(KINDS[s.type], s.topic)) for s in self.robot.sensors]
        self.output = command_output(self.robot)
        self.listen_to(self.output.kind, self.output.topic, self.on_command)
        self.ground_truth = self.create_publisher(JointState, "~/ground_truth", BEST_EFFORT)
        self.create_service(Trigger, "~/reset", self.guarded(self.on_reset))
        self.create_service(SetBool, "~/run", self.guarded(self.on_run))
        self.timer = self.create_wall_timer(self.robot.dt, self.guarded(self.on_timer))
        self.doing("paused")

    def on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Stand still until told to run."""
        self.running = False
        self.plant.halt()
        response.success, response.message = True, "at rest"
        return response

    def on_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Follow commands, or none."""
        self.running, response.success = request.data, True
        response.message = "running" if request.data else "paused"
        self.doing(response.message)
        return response

    def on_command(self, message: Any) -> None:
        """Follow a command from the next tick on."""
        command = self.output.read(message)
        if not self.running:
            return
        if command.shape == self.plant.command.shape and np.all(np.isfinite(command)):
            self.plant.command, self.silent_ticks = command, 0
        else:
            self.get_logger().error(f"command refused: {command}")

    def on_timer(self) -> None:
        """One tick; without commands for `watchdog_ticks` the drives rest."""
        now = time.monotonic()
        if (lag := now - self.next_tick) > self.robot.dt:
            self.stamp_ns += round(1e9 * lag)
            self.next_tick = now
        self.next_tick += self.robot.dt
        self.silent_ticks += 1
        if self.silent_ticks > self.config.watchdog_ticks:
            self.plant.rest()
        self.plant.step()
        self.stamp_ns += self.dt_ns
        self.publish_sensors()
        names = self.robot.joints or self.robot.actuators
        position = self.plant.position if self.robot.joints else np.zeros(len(names))
        truth = np.concatenate([position, self.plant.velocity])
        self.ground_truth.publish(to_joint_state(self.stamp_ns, names, truth))

    def publish_sensors(self) -> None:
        """One noisy measurement of each."""
        for kind, publisher in self.sensors:
            message = self.writers[kind]()
            message.header.stamp = to_time(self.stamp_ns)
            publisher.publish(message)

    def noisy(self, values: np.ndarray, spread: float) -> list[float]:
        """With the sensors' noise."""
        return (values + spread * self.rng.standard_normal(values.shape)).tolist()

    def joint_state(self) -> JointState:
        """Positions and velocities of the joints."""
        position = self.noisy(self.plant.position, self.robot.position_noise)
        velocity = self.noisy(self.plant.velocity, self.robot.velocity_noise)
        return JointState(name=list(self.robot.joints), position=position, velocity=velocity)

    def odometry(self) -> Odometry:
        """Pose and twist of the base."""
        message = Odometry()
        message.header.frame_id, message.child_frame_id = "odom", "base_link"
        self.put_pose(message.pose.pose)
        twist = message.twist.twist
        twist.linear.x, twist.angular.z = self.noisy(self.plant.velocity, self.robot.velocity_noise)
        return message

    def pose(self) -> PoseStamped:
        """Pose of the base alone."""
        message = PoseStamped()
        self.put_pose(message.pose)
        return message

    def put_pose(self, pose: Any) -> None:
        """Fill a geometry_msgs/Pose."""
        pose.position.x, pose.position.y, yaw = self.noisy(self.plant.pose, self.robot.position_noise)
        pose.orientation.z, pose.orientation.w = float(np.sin(0.5 * yaw)), float(np.cos(0.5 * yaw))

    def imu(self) -> Imu:
        """Turn rate and gravity; the orientation is not measured."""
        message = Imu()
        message.orientation_covariance[0] = -1.0
        message.angular_velocity.z = self.noisy(self.plant.velocity, self.robot.velocity_noise)[1]
        message.linear_acceleration.z = GRAVITY
        return message


main = partial(run, FaultRobot)


if __name__ == "__main__":
    sys.exit(main())
