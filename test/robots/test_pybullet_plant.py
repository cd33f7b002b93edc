"""The simulated cart-pole is held to its closed form, and the closed form to Lagrange's equations."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import sympy
from scipy.integrate import solve_ivp

from mbrl_ros.errors import ConfigError, MissingDependencyError
from mbrl_ros.robots import cartpole_equations
from mbrl_ros.robots.description import RobotDescription, load_robot
from mbrl_ros.robots.pybullet_plant import PyBulletPlant

HANGING = np.array([0.0, np.pi, 0.0, 0.0])
TOLERANCE = 5e-3  # m, rad, m/s, rad/s over 3 s; measured: 2.7e-3


@pytest.fixture(scope="module")
def robot() -> RobotDescription:
    """The cart-pole."""
    return load_robot("cartpole")


@pytest.fixture
def plant(robot):
    """A plant that is closed in the end."""
    with PyBulletPlant(robot) as plant:
        yield plant


def forces(seed: int, largest: float = 5.0, count: int = 60) -> np.ndarray:
    """Random forces in N, one a control period: (count, 1)."""
    return np.random.default_rng(seed).uniform(-largest, largest, (count, 1))


def simulate(plant: PyBulletPlant, efforts: np.ndarray, position=HANGING[:2]) -> np.ndarray:
    """States of the plant from rest: (T + 1, 4)."""
    plant.reset(position)
    states = [plant.state]
    for effort in efforts:
        plant.step(effort)
        states.append(plant.state)
    return np.array(states)


def closed_form(efforts: np.ndarray, start: np.ndarray = HANGING) -> np.ndarray:
    """States of the closed form, each effort held for 0.05 s: (T + 1, 4)."""
    states = [np.asarray(start, dtype=float)]
    for effort in efforts:
        solution = solve_ivp(
            lambda _, x, u: cartpole_equations.derivative(x, u),
            (0.0, 0.05),
            states[-1],
            method="DOP853",
            args=(effort,),
            rtol=1e-10,
            atol=1e-12,
        )
        states.append(solution.y[:, -1])
    return np.array(states)


def test_closed_form_follows_from_the_lagrangian_of_a_rod():
    """Kinetic energy integrated along the rod and Euler-Lagrange by sympy, at 20 random states."""
    t, s = sympy.symbols("t s")
    p, theta = sympy.Function("p")(t), sympy.Function("theta")(t)
    force = sympy.Symbol("force")
    values = ("1/2", "1/2", "1/2", "1/10", "981/100")  # as published, written down once more
    mc, mp, length, b, g = map(sympy.Rational, values)
    x, z = p + s * sympy.sin(theta), s * sympy.cos(theta)
    energy = mp / length * sympy.integrate(sympy.expand(x.diff(t) ** 2 + z.diff(t) ** 2) / 2, (s, 0, length))
    energy += mc * p.diff(t) ** 2 / 2
    potential = mp / length * g * sympy.integrate(z, (s, 0, length))
    lagrangian = energy - potential
    generalised = {p: force - b * p.diff(t), theta: 0}
    equations = [lagrangian.diff(q.diff(t)).diff(t) - lagrangian.diff(q) - f for q, f in generalised.items()]
    solution = sympy.solve(equations, [p.diff(t, 2), theta.diff(t, 2)], dict=True)[0]
    symbols = sympy.symbols("x0:4")
    names = [(p.diff(t), symbols[2]), (theta.diff(t), symbols[3]), (p, symbols[0]), (theta, symbols[1])]
    accelerations = [solution[q.diff(t, 2)].subs(names) for q in (p, theta)]
    lagrange = sympy.lambdify([symbols, force], accelerations)
    states = np.random.default_rng(0).normal(0.0, 3.0, (20, 4))
    efforts = np.random.default_rng(1).uniform(-10.0, 10.0, (20, 1))
    for state, effort in zip(states, efforts, strict=True):
        expected = (state[2], state[3], *lagrange(state, effort[0]))
        np.testing.assert_allclose(cartpole_equations.derivative(state, effort), expected, rtol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_plant_follows_the_closed_form_from_hanging(plant, seed):
    expected = closed_form(forces(seed))
    assert np.abs(expected[:, 0]).max() < 2.0  # clear of the track's ends
    np.testing.assert_allclose(simulate(plant, forces(seed)), expected, rtol=0.0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("angle", [-0.1, 0.1])
def test_plant_follows_the_closed_form_from_nearly_upright(plant, seed, angle):
    """Over 1 s only: falling multiplies any error by e^6.9 a second. Measured: at most 4.6e-3."""
    efforts = forces(seed, 3.0, 20)
    expected = closed_form(efforts, np.array([0.0, angle, 0.0, 0.0]))
    actual = simulate(plant, efforts, (0.0, angle))
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=1e-2)


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("CART_FRICTION", 0.0),
        ("CART_FRICTION", 0.11),
        ("CART_MASS", 0.51),
        ("POLE_MASS", 0.51),
        ("POLE_LENGTH", 0.505),
        ("GRAVITY", 9.75),
    ],
)
def test_the_comparison_sees_a_wrong_constant(plant, monkeypatch, constant, value):
    """No friction or a tenth more, 0.6 to 2 % of any other constant: each at five times the tolerance or more."""
    actual = simulate(plant, forces(0))
    if constant == "GRAVITY":
        monkeypatch.setattr(cartpole_equations, constant, value)
    else:
        monkeypatch.setattr(cartpole_equations, "TRUE", cartpole_equations.TRUE._replace(**{constant.lower(): value}))
    assert np.abs(actual - closed_form(forces(0))).max() > 5.0 * TOLERANCE


def test_error_is_proportional_to_the_substep(robot):
    """Semi-implicit Euler is of first order: ten times the substep, ten times the error (8 to 12)."""
    expected = closed_form(forces(0))
    errors = []
    for substep in (1e-4, 1e-3):
        with PyBulletPlant(robot, substep=substep) as plant:
            errors.append(np.abs(simulate(plant, forces(0)) - expected).max())
    assert 8.0 < errors[1] / errors[0] < 12.0


def test_a_period_is_one_control_period_for_any_substep(robot):
    """0.003 s does not divide 0.05 s: unless shortened, the cart would roll 1 mm too far."""
    start = np.array([0.0, np.pi, 1.0, 0.0])
    with PyBulletPlant(robot, substep=0.003) as plant:
        plant.set_state(start)
        plant.step(np.zeros(1))
        assert plant.substeps == 17
        np.testing.assert_allclose(plant.state[0], closed_form(np.zeros((1, 1)), start)[1, 0], rtol=0.0, atol=2e-4)


def test_substep_defaults_to_a_whole_number_in_the_period(plant):
    assert plant.substeps == 500


def test_two_clients_give_the_same_motion_and_do_not_disturb_each_other(robot):
    with PyBulletPlant(robot) as first, PyBulletPlant(robot) as second:
        alone = simulate(first, forces(1))
        first.reset(HANGING[:2])
        second.reset((0.5, 1.0))
        for effort, x in zip(forces(1), alone[1:], strict=True):
            first.step(effort)
            second.step(-2.0 * effort)
            np.testing.assert_array_equal(first.state, x)


@pytest.mark.parametrize("start", [HANGING[:2], np.array([2.5, 0.3])])
def test_reset_forgets_the_previous_trial(plant, start):
    """Bit for bit, even after the cart has been pressed against the end of the track and when it begins there."""
    first = simulate(plant, forces(2), start)
    simulate(plant, np.full((60, 1), 10.0))
    np.testing.assert_array_equal(simulate(plant, forces(2), start), first)


def test_reset_puts_the_robot_at_rest_at_the_position(plant):
    simulate(plant, forces(2))
    plant.reset((0.25, -7.0))
    np.testing.assert_array_equal(plant.state, [0.25, -7.0, 0.0, 0.0])


def test_a_new_plant_is_at_the_start_position(plant):
    assert plant.state.dtype == np.float64
    np.testing.assert_array_equal(plant.state, HANGING)


def test_set_state_sets_all_of_it(plant):
    x = np.array([-1.0, 40.0, 0.5, -3.0])
    plant.set_state(x)
    np.testing.assert_array_equal(plant.state, x)


def test_track_ends_hold_the_cart(plant):
    positions = simulate(plant, np.full((60, 1), 10.0))[:, 0]
    assert 2.49 < positions[-1] < 2.501
    assert positions.max() < 2.501


@pytest.mark.parametrize("effort", [[np.nan], [np.inf], [1.0, 2.0], 1.0, []])
def test_bad_effort_is_refused(plant, effort):
    with pytest.raises(ValueError, match=r"effort: .* is not allowed; expected 1 finite numbers"):
        plant.step(effort)
    np.testing.assert_array_equal(plant.state, HANGING)


@pytest.mark.parametrize("position", [[np.nan, 0.0], [0.0], [[0.0, 0.0]]])
def test_bad_position_is_refused(plant, position):
    with pytest.raises(ValueError, match=r"position: .* is not allowed; expected 2 finite numbers"):
        plant.reset(position)


@pytest.mark.parametrize("x", [[0.0, 0.0], [0.0, 0.0, np.inf, 0.0]])
def test_bad_state_is_refused(plant, x):
    with pytest.raises(ValueError, match=r"x: .* is not allowed; expected 4 finite numbers"):
        plant.set_state(x)


@pytest.mark.parametrize("substep", [0.0, -1e-3, 0.06, np.nan])
def test_bad_substep_is_refused(robot, substep):
    with pytest.raises(ConfigError, match=r"substep: .* s is not allowed; expected more than 0 and at most 0\.05 s"):
        PyBulletPlant(robot, substep=substep)


def test_missing_joint_lists_the_joints_of_the_urdf(robot):
    wrong = replace(robot, joints=("cart_slider", "pole_hing"), angles=(), start_position=(0.0, 0.0))
    with pytest.raises(
        ConfigError, match=r"cartpole\.urdf: no movable joint 'pole_hing'; the URDF has: cart_slider, pole_hinge"
    ):
        PyBulletPlant(wrong)


def test_missing_urdf_is_named(robot, tmp_path):
    with pytest.raises(ConfigError, match=r"urdf: no file .*absent\.urdf"):
        PyBulletPlant(replace(robot, urdf=tmp_path / "absent.urdf"))


def test_broken_urdf_is_named(robot, tmp_path):
    path = tmp_path / "broken.urdf"
    path.write_text("<robot")
    with pytest.raises(ConfigError, match=r"urdf: PyBullet cannot load .*broken\.urdf"):
        PyBulletPlant(replace(robot, urdf=path))


@pytest.mark.skipif(sys.platform != "linux", reason="DISPLAY is how X11 tells of a display")
def test_window_without_display_is_refused(robot, monkeypatch):
    """PyBullet itself would end the process."""
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ConfigError, match=r"gui: True needs a display"):
        PyBulletPlant(robot, gui=True)


def test_without_pybullet_the_message_says_what_to_install(robot, monkeypatch):
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(MissingDependencyError, match="pip install pybullet"):
        PyBulletPlant(robot)


def test_importing_pybullet_says_nothing_and_leaves_stderr_as_it_was():
    code = "import sys; from mbrl_ros.robots.pybullet_plant import import_pybullet as f; f(); print(1, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "1\n")


def test_failures_and_closing_leave_no_client_behind(robot):
    """PyBullet numbers its clients from 0 up and gives freed numbers out again."""
    import pybullet

    def connected() -> list[int]:
        return [client for client in range(20) if pybullet.isConnected(physicsClientId=client)]

    before = connected()
    with pytest.raises(ConfigError):
        PyBulletPlant(replace(robot, joints=("cart_slider", "elbow"), angles=()))
    with PyBulletPlant(robot) as plant:
        assert len(connected()) == len(before) + 1
    plant.close()
    assert connected() == before


def centre_of(picture: np.ndarray, colour: str) -> np.ndarray:
    """Mean (column, row) of the orange (pole) or blue (cart) pixels."""
    red, _, blue = np.moveaxis(picture.astype(int), -1, 0)
    rows, columns = np.nonzero(red - blue > 80) if colour == "orange" else np.nonzero(blue - red > 80)
    assert len(rows) > 20, f"no {colour} in the picture"
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize(("angle", "side", "height"), [(0.5, 1, -1), (-0.5, -1, -1), (2.6, 1, 1), (-2.6, -1, 1)])
def test_picture_shows_the_pole_on_the_right_side(plant, angle, side, height):
    """Positive angles tip towards +x, which is to the right; 0 is up. The tip is at least 0.1 m from the hinge."""
    plant.set_state([0.0, angle, 0.0, 0.0])
    picture = plant.render()
    assert picture.shape == (270, 480, 3)
    assert picture.dtype == np.uint8
    offset = centre_of(picture, "orange") - centre_of(picture, "blue")
    assert side * offset[0] > 5.0
    assert height * offset[1] > 5.0


@pytest.mark.parametrize("position", [-2.5, 0.0, 2.5])
def test_picture_shows_all_of_the_track(plant, position):
    plant.set_state([position, 0.0, 0.0, 0.0])
    column = centre_of(plant.render(240, 136), "blue")[0]
    assert abs(column - (120.0 + position / 6.3 * 240.0)) < 3.0


def test_view_width_and_centre_move_the_camera(plant):
    plant.set_state([1.0, 0.0, 0.0, 0.0])
    wide, near = plant.render(view_width=6.3), plant.render(view_width=3.15)
    shift = centre_of(wide, "blue")[0] - 240.0
    assert centre_of(near, "blue")[0] - 240.0 == pytest.approx(2.0 * shift, abs=3.0)
    assert centre_of(plant.render(centre=1.0), "blue")[0] == pytest.approx(240.0, abs=2.0)


def test_another_mass_of_the_pole_is_another_closed_form(robot):
    """Twice the pole's mass against the equations with twice the mass, also after a reset; and the old one differs."""
    efforts = forces(3)
    with PyBulletPlant(robot) as plant:
        plain = simulate(plant, efforts)
        plant.scale_mass("pole_hinge", 2.0)
        heavy = simulate(plant, efforts)
    expected = [HANGING]
    for effort in efforts:
        solution = solve_ivp(lambda _, x, u: heavy_pole(x, u), (0.0, 0.05), expected[-1], args=(effort,), rtol=1e-10)
        expected.append(solution.y[:, -1])
    np.testing.assert_allclose(heavy, np.array(expected), atol=TOLERANCE)
    assert np.abs(heavy - plain).max() > 0.5


def heavy_pole(x, u, m=1.0, M=0.5, length=0.5, b=0.1, g=9.81):
    """Cart-pole with a pole of 1 kg, solved as two linear equations instead of in closed form."""
    _, angle, v, w = x
    s, c = np.sin(angle), np.cos(angle)
    mass = [[M + m, 0.5 * m * length * c], [0.5 * m * length * c, m * length**2 / 3.0]]
    push = [u[0] - b * v + 0.5 * m * length * w**2 * s, 0.5 * m * g * length * s]
    return [v, w, *np.linalg.solve(mass, push)]


@pytest.mark.parametrize("factor", [0.0, -1.0, np.nan])
def test_a_mass_factor_must_be_positive(plant, factor):
    with pytest.raises(ConfigError, match="positive"):
        plant.scale_mass("pole_hinge", factor)


def test_a_mass_of_no_joint_names_the_joints(plant):
    with pytest.raises(ConfigError, match="pole_hinge"):
        plant.scale_mass("elbow", 2.0)
