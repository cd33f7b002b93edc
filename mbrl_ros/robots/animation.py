"""A recorded motion as a small GIF: PyBullet draws, Pillow writes. Needs no display."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mbrl_ros.errors import ConfigError
from mbrl_ros.robots.description import RobotDescription
from mbrl_ros.robots.pybullet_plant import PyBulletPlant

WIDTH, HEIGHT = 480, 270  # pixels
SMOOTHING = 1.5  # pictures are drawn this much larger and scaled down, because the renderer leaves jagged edges
COLOURS = 64
VIEW_WIDTH = 2.8  # m of track in the picture
SLACK = 0.75  # m that the cart may leave the middle of the picture before the camera follows


def animate(robot: RobotDescription, states: np.ndarray, path: Path, rate: float) -> None:
    """Write the motion as an endless GIF; the camera follows the cart.

    Args:
        robot: its first joint moves along the track (x).
        states: (T, nx), one picture each; entries beyond the track's ends are fine.
        path: the file; its folder must exist.
        rate: states a second; played to the nearest 10 ms, the resolution of GIF.

    Raises:
        ValueError: no states, wrong shape or not finite.
        ConfigError: the rate is not in (0, 50] Hz.
    """
    states = np.asarray(states, dtype=np.float64)
    nx = 2 * len(robot.joints)
    if states.ndim != 2 or len(states) == 0 or states.shape[1] != nx or not np.isfinite(states).all():
        raise ValueError(f"states: array of shape {states.shape} is not allowed; expected finite (T, {nx}) with T > 0")
    if not 0.0 < rate <= 50.0:  # viewers slow down GIFs of less than 20 ms a picture
        raise ConfigError(f"rate: {rate} Hz is not allowed; expected more than 0 and at most 50 Hz")
    frames = draw(robot, states, rate)
    palette = common_palette(frames)
    pictures = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    # GIF knows hundredths of a second: rounding the times of all pictures instead of one duration adds up no error.
    durations = 10 * np.diff(np.round(100.0 * np.arange(len(states) + 1) / rate)).astype(int)
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=durations.tolist(), loop=0)


def draw(robot: RobotDescription, states: np.ndarray, rate: float) -> list[Image.Image]:
    """One picture a state, with the time in s in its corner."""
    with PyBulletPlant(robot) as plant:
        frames = []
        for index, (x, centre) in enumerate(zip(states, camera_positions(states[:, 0]), strict=True)):
            plant.set_state(x)
            pixels = plant.render(round(SMOOTHING * WIDTH), round(SMOOTHING * HEIGHT), VIEW_WIDTH, centre)
            frame = Image.fromarray(pixels).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
            label(frame, f"{index / rate:.2f} s")
            frames.append(frame)
    return frames


def camera_positions(position: np.ndarray) -> np.ndarray:
    """Middle of each picture (T,) in m: at rest until the cart at `position` (T,) drags it along by more than SLACK."""
    centres = np.zeros(len(position))
    centre = 0.0
    for index, p in enumerate(position):
        centre = min(max(centre, p - SLACK), p + SLACK)
        centres[index] = centre
    return centres


def label(frame: Image.Image, text: str) -> None:
    """Write a line into the upper left corner."""
    ImageDraw.Draw(frame).text((14, 10), text, fill=(60, 64, 72), font=ImageFont.load_default(size=16))


def common_palette(frames: list[Image.Image]) -> Image.Image:
    """Adaptive palette of the first, middle and last picture: one for all, so that nothing flickers."""
    chosen = [frames[0], frames[len(frames) // 2], frames[-1]]
    strip = Image.new("RGB", (WIDTH, 3 * HEIGHT))
    for row, frame in enumerate(chosen):
        strip.paste(frame, (0, row * HEIGHT))
    palette = strip.quantize(COLOURS, dither=Image.Dither.NONE)
    colours = np.array(palette.getpalette(), dtype=int).reshape(-1, 3)
    colours[colours.min(axis=1) > 245] = 255  # the background, which averaging has tinted
    palette.putpalette(colours.ravel().tolist())
    return palette
