"""Plans, candidates and scenes to messages and back: pure functions, as in `conversions`."""

import itertools
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, PoseStamped, Vector3
from nav_msgs.msg import Path
from std_msgs.msg import ColorRGBA, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from mbrl_ros.errors import MessageError
from mbrl_ros.nodes.conversions import from_table, to_duration, to_table, to_time
from mbrl_ros.visualisation.candidates import Candidates
from mbrl_ros.visualisation.scene import (
    FUTURE,
    GOAL,
    LIMIT,
    PLAN,
    TUBE,
    Colour,
    Scene,
    Tube,
    cost_colours,
    quaternions,
)

WHITE: Colour = (1.0, 1.0, 1.0, 1.0)
THIN, THICK = 0.003, 0.012  # m, widths of lines
GOAL_SIZE, CAP_SIZE, TEXT_SIZE = 0.06, 0.04, 0.08  # m
THINNEST = 0.004  # m, an ellipsoid's diameter: one without extent is not drawn
TEXT_ABOVE = 0.35  # m over the point of interest


def from_trajectory(
    message: JointTrajectory, joints: Sequence[str], base: Sequence[str], actuators: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """States (H + 1, nx) and actions (H, nu) of a plan, see `conversions.to_trajectory`.

    Raises:
        MessageError: a name is missing, or a number is not finite.
    """
    names = list(message.joint_names)
    if missing := [name for name in (*joints, *base, *actuators) if name not in names]:
        raise MessageError(f"plan: no '{missing[0]}' among its joints")
    columns = [names.index(n) for n in joints], [names.index(n) for n in base], [names.index(n) for n in actuators]
    rows = (len(message.points), len(names))
    try:
        position = np.array([p.positions for p in message.points]).reshape(rows)
        velocity = np.array([p.velocities for p in message.points]).reshape(rows)
        effort = np.array([p.effort for p in message.points]).reshape(rows)
    except ValueError:
        raise MessageError("plan: expected one number for each joint in every point") from None
    states = np.hstack([position[:, columns[0]], velocity[:, columns[0]], position[:, columns[1]]])
    actions = effort[:-1, columns[2]]
    if len(states) < 2 or not (np.isfinite(states).all() and np.isfinite(actions).all()):
        raise MessageError("plan: expected at least two points of finite numbers")
    return states, actions


def to_candidates(tried: Candidates) -> Float64MultiArray:
    """Candidates as a table, a row each: ``cost``, the start ``x0`` ..., the actions ``u0.0`` (period, actuator) ..."""
    count, horizon, nu = tried.actions.shape
    columns = {"cost": tried.costs} | {f"x{i}": np.full(count, value) for i, value in enumerate(tried.start)}
    columns |= {f"u{t}.{j}": tried.actions[:, t, j] for t in range(horizon) for j in range(nu)}
    return to_table(columns)


def from_candidates(message: Float64MultiArray, nx: int, nu: int) -> Candidates:
    """Inverse of `to_candidates`.

    Raises:
        MessageError: it is no such table.
    """
    try:
        columns = from_table(message)
        values = np.column_stack([*columns.values()])
        actions = values[:, 1 + nx :].reshape(len(values), -1, nu)
    except (ValueError, IndexError):
        raise MessageError("candidates: expected a table of costs, start and actions") from None
    if len(values) == 0 or actions.shape[1] == 0 or not np.isfinite(values).all():
        raise MessageError("candidates: expected finite numbers")
    return Candidates(values[0, 1 : 1 + nx], actions, values[:, 0])


def to_path(scene: Scene) -> Path:
    """The plan of the point of interest; empty where there is none."""
    path = Path()
    path.header.frame_id, path.header.stamp = scene.frame, to_time(scene.stamp_ns)
    for point in () if scene.plan is None else scene.plan:
        pose = PoseStamped(header=path.header)
        pose.pose.position = to_point(point)
        path.poses.append(pose)
    return path


def to_markers(scene: Scene, lifetime: float) -> MarkerArray:
    """Everything in the scene; what is not renewed vanishes after `lifetime` s."""
    drawn = [
        *(ellipsoids(scene.tube) if scene.tube is not None else ()),
        lines("futures", [] if scene.futures is None else list(scene.futures), THIN, FUTURE),
        candidates(scene),
        lines("plan", [] if scene.plan is None else [scene.plan], THICK, PLAN),
        *(spheres("goal", [scene.goal], GOAL_SIZE, GOAL) if scene.goal is not None else ()),
        lines("limits", list(scene.limits.values()), 2 * THIN, LIMIT),
        *spheres("limit_ends", [end for path in scene.limits.values() for end in path[[0, -1]]], CAP_SIZE, LIMIT),
        text(scene),
    ]
    array = MarkerArray(
        markers=[marker for marker in drawn if marker.type == Marker.TEXT_VIEW_FACING or has_size(marker)]
    )
    for marker in array.markers:
        marker.header.frame_id, marker.header.stamp = scene.frame, to_time(scene.stamp_ns)
        marker.lifetime = to_duration(lifetime)
    return array


def has_size(marker: Marker) -> bool:
    """Whether there is anything in it: viewers complain of lines without points."""
    return marker.type == Marker.SPHERE or len(marker.points) > 0


def lines(name: str, paths: Sequence[np.ndarray], width: float, colour: Colour) -> Marker:
    """Paths, each (T, 3), as one marker of line segments."""
    marker = new_marker(name, Marker.LINE_LIST, (width, 0.0, 0.0), colour)
    for path in paths:
        points = [to_point(p) for p in path]
        marker.points += [p for pair in itertools.pairwise(points) for p in pair]
    return marker


def candidates(scene: Scene) -> Marker:
    """What the planner tried, by cost; the cheapest on top."""
    paths = [] if scene.candidates is None else list(scene.candidates)
    marker = lines("candidates", paths[::-1], THIN, WHITE)
    for path, colour in zip(paths[::-1], cost_colours(scene.costs)[::-1], strict=True):
        marker.colors += [to_colour(colour)] * (2 * (len(path) - 1))
    return marker


def ellipsoids(tube: Tube) -> list[Marker]:
    """The tube, a marker a period."""
    markers = []
    sizes = np.maximum(2.0 * tube.half_axes, THINNEST)
    for index, (centre, size, q) in enumerate(zip(tube.centres, sizes, quaternions(tube.axes), strict=True)):
        marker = new_marker("tube", Marker.SPHERE, size, TUBE, index)
        marker.pose.position = to_point(centre)
        turn = marker.pose.orientation
        turn.w, turn.x, turn.y, turn.z = q.tolist()
        markers.append(marker)
    return markers


def spheres(name: str, centres: Sequence[np.ndarray], diameter: float, colour: Colour) -> list[Marker]:
    """A marker for each of some points."""
    markers = []
    for index, centre in enumerate(centres):
        marker = new_marker(name, Marker.SPHERE, (diameter,) * 3, colour, index)
        marker.pose.position = to_point(centre)
        markers.append(marker)
    return markers


def text(scene: Scene) -> Marker:
    """Trial and state, above the robot."""
    marker = new_marker("text", Marker.TEXT_VIEW_FACING, (0.0, 0.0, TEXT_SIZE), WHITE)
    marker.pose.position = to_point(scene.point + np.array([0.0, 0.0, TEXT_ABOVE]))
    marker.text = "\n".join((scene.title, *scene.state))
    return marker


def new_marker(name: str, kind: int, scale: Sequence[float], colour: Colour, index: int = 0) -> Marker:
    """A marker at the frame's origin."""
    marker = Marker(ns=name, id=index, type=kind, action=Marker.ADD, color=to_colour(colour))
    marker.scale = Vector3(x=float(scale[0]), y=float(scale[1]), z=float(scale[2]))
    marker.pose.orientation.w = 1.0
    return marker


def to_point(values: np.ndarray) -> Point:
    """A point (3,) in m."""
    return Point(x=float(values[0]), y=float(values[1]), z=float(values[2]))


def to_colour(colour: Sequence[float]) -> ColorRGBA:
    """Red, green, blue, alpha."""
    return ColorRGBA(r=float(colour[0]), g=float(colour[1]), b=float(colour[2]), a=float(colour[3]))
