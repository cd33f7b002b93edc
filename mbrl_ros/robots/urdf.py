"""A URDF as far as pictures need it: links with their shapes, joints with their frames (wiki.ros.org/urdf/XML)."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mbrl_ros.errors import ConfigError

TURNING = ("revolute", "continuous")
KINDS = (*TURNING, "prismatic", "fixed")
GREY = (0.7, 0.7, 0.7, 1.0)


@dataclass(frozen=True)
class Shape:
    """One visual of a link.

    Attributes:
        kind: ``box``, ``cylinder``, ``sphere`` or ``mesh``.
        size: box: length along x, y, z in m; cylinder: radius, length (along z) in m; sphere: radius in m; mesh: scale.
        origin: pose in the link's frame (4, 4).
        colour: red, green, blue, alpha in [0, 1].
        mesh: file of a mesh.
    """

    kind: str
    size: tuple[float, ...]
    origin: np.ndarray
    colour: tuple[float, ...] = GREY
    mesh: Path | None = None

    @property
    def half_extents(self) -> np.ndarray:
        """Half lengths along the shape's axes (3,) in m; zeros for a mesh, whose size is not known."""
        if self.kind == "box":
            return 0.5 * np.array(self.size)
        if self.kind == "cylinder":
            return np.array([self.size[0], self.size[0], 0.5 * self.size[1]])
        return np.full(3, self.size[0]) if self.kind == "sphere" else np.zeros(3)


@dataclass(frozen=True)
class UrdfJoint:
    """A joint: where its frame is in its parent's at position zero, and the axis it moves along or about.

    A joint that mimics another one is at ``multiplier * position + offset`` of it.
    """

    name: str
    kind: str
    parent: str
    child: str
    origin: np.ndarray  # (4, 4)
    axis: np.ndarray  # (3,), length 1
    mimics: str = ""
    multiplier: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Urdf:
    """Links by name with their shapes, and joints by name of the link they move."""

    root: str
    links: dict[str, tuple[Shape, ...]]
    joints: dict[str, UrdfJoint] = field(default_factory=dict)

    def joint_named(self, name: str) -> UrdfJoint:
        """The joint of this name.

        Raises:
            ConfigError: there is none; lists those there are.
        """
        for joint in self.joints.values():
            if joint.name == name:
                return joint
        known = ", ".join(joint.name for joint in self.joints.values())
        raise ConfigError(f"no joint '{name}' in the URDF; it has: {known or 'none'}")


def read_urdf(path: Path) -> Urdf:
    """Read the URDF at `path`.

    Raises:
        ConfigError: no such file, not XML, or not one tree of links; names file and element.
    """
    try:
        robot = ElementTree.fromstring(path.read_text())
        return parse_urdf(robot, path.parent)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not XML: {error}") from None
    except (ConfigError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_urdf(robot: ElementTree.Element, folder: Path) -> Urdf:
    """The URDF of an XML element; meshes without a scheme are relative to `folder`."""
    colours = {m.get("name", ""): colour_of(m) for m in robot.findall("material")}
    links = {
        link.attrib["name"]: tuple(shape(visual, colours, folder) for visual in link.findall("visual"))
        for link in robot.findall("link")
    }
    joints = [joint_of(element) for element in robot.findall("joint")]
    by_child = {joint.child: joint for joint in joints}
    roots = [name for name in links if name not in by_child]
    if len(roots) != 1 or len(by_child) != len(joints):
        raise ConfigError(f"expected one tree of links; roots: {', '.join(roots) or 'none'}")
    for joint in joints:
        if unknown := {joint.parent, joint.child} - set(links):
            raise ConfigError(f"joint {joint.name}: no link '{min(unknown)}'")
    return Urdf(roots[0], links, by_child)


def joint_of(element: ElementTree.Element) -> UrdfJoint:
    """A joint element."""
    name, kind = element.attrib["name"], element.get("type", "")
    if kind not in KINDS:
        raise ConfigError(f"joint {name}: type '{kind}' cannot be drawn; expected one of: {', '.join(KINDS)}")
    axis = np.array(numbers(child(element, "axis").get("xyz", "1 0 0")))
    length = float(np.linalg.norm(axis))
    if length == 0.0:
        raise ConfigError(f"joint {name}: axis 0 0 0 is not allowed; expected a direction")
    mimic = child(element, "mimic")
    return UrdfJoint(
        name,
        kind,
        child(element, "parent").attrib["link"],
        child(element, "child").attrib["link"],
        origin_of(element),
        axis / length,  # as robot_state_publisher does; PyBullet would slide by more along a longer one
        mimic.get("joint", ""),
        float(mimic.get("multiplier", 1.0)),
        float(mimic.get("offset", 0.0)),
    )


def shape(visual: ElementTree.Element, colours: dict[str, tuple[float, ...]], folder: Path) -> Shape:
    """A visual element."""
    geometry, material = child(visual, "geometry"), child(visual, "material")
    colour = colour_of(material) if material.find("color") is not None else colours.get(material.get("name", ""), GREY)
    origin = origin_of(visual)
    if (box := geometry.find("box")) is not None:
        return Shape("box", numbers(box.attrib["size"]), origin, colour)
    if (cylinder := geometry.find("cylinder")) is not None:
        size = float(cylinder.attrib["radius"]), float(cylinder.attrib["length"])
        return Shape("cylinder", size, origin, colour)
    if (sphere := geometry.find("sphere")) is not None:
        return Shape("sphere", (float(sphere.attrib["radius"]),), origin, colour)
    mesh = geometry.find("mesh")
    if mesh is None:
        raise ConfigError("a visual has no box, cylinder, sphere or mesh")
    path = mesh_path(mesh.attrib["filename"], folder)
    return Shape("mesh", numbers(mesh.get("scale", "1 1 1")), origin, colour, path)


def mesh_path(name: str, folder: Path) -> Path | None:
    """File of a mesh; None where only ROS could find its package."""
    return None if name.startswith("package://") else folder / name.removeprefix("file://")


def child(element: ElementTree.Element, tag: str) -> ElementTree.Element:
    """The child of this tag, or an empty one."""
    found = element.find(tag)
    return ElementTree.Element(tag) if found is None else found


def numbers(text: str) -> tuple[float, ...]:
    """Three numbers of an attribute."""
    values = tuple(float(word) for word in text.split())
    if len(values) != 3 or not np.isfinite(values).all():
        raise ConfigError(f"'{text}' is not allowed; expected three numbers")
    return values


def colour_of(material: ElementTree.Element) -> tuple[float, ...]:
    """Colour of a material element, grey where it has none."""
    text = child(material, "color").get("rgba")
    return tuple(float(word) for word in text.split()) if text else GREY


def origin_of(element: ElementTree.Element) -> np.ndarray:
    """Pose (4, 4) that the element's origin states."""
    origin = child(element, "origin")
    return pose(np.array(numbers(origin.get("xyz", "0 0 0"))), np.array(numbers(origin.get("rpy", "0 0 0"))))


def pose(xyz: np.ndarray, rpy: np.ndarray) -> np.ndarray:
    """Poses (..., 4, 4) from positions (..., 3) and roll, pitch, yaw about the fixed axes x, y, z (..., 3)."""
    result = np.broadcast_to(np.eye(4), (*xyz.shape[:-1], 4, 4)).copy()
    result[..., :3, 3] = xyz
    x, y, z = np.eye(3)
    result[..., :3, :3] = turn(z, rpy[..., 2]) @ turn(y, rpy[..., 1]) @ turn(x, rpy[..., 0])
    return result


def turn(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) about a unit axis (3,) by angles (...): Rodrigues' formula."""
    cross = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    angle = np.asarray(angle, dtype=float)[..., None, None]
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
