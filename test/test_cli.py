"""The command line: what a user sees of trouble that comes before anything runs."""

import signal

import pytest

from mbrl_ros import cli, session
from mbrl_ros.errors import ConfigError


def fail_with(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


@pytest.fixture(autouse=True)
def keep_handler():
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def test_a_missing_package_is_a_message(monkeypatch, capsys):
    error = ModuleNotFoundError("No module named 'numba'", name="numba")
    monkeypatch.setattr(session, "run_simulation", fail_with(error))
    assert cli.main(["sim"]) == 2
    assert capsys.readouterr().err == "mbrl_ros: numba is not installed: pip install -r requirements.txt\n"


def test_a_module_of_our_own_that_is_missing_is_not_the_users_mistake(monkeypatch):
    monkeypatch.setattr(session, "run_simulation", fail_with(ModuleNotFoundError("", name="mbrl_ros.nowhere")))
    with pytest.raises(ModuleNotFoundError):
        cli.main(["sim"])


def test_ctrl_c_before_anything_runs_ends_the_process_at_once(monkeypatch):
    """As an exception it can be swallowed by whatever is being imported, and the run would go on."""
    seen = []
    monkeypatch.setattr(
        session, "run_simulation", lambda *_args, **_kw: seen.append(signal.getsignal(signal.SIGINT)) or 0
    )
    assert cli.main(["sim"]) == 0
    assert seen == [signal.SIG_DFL]


@pytest.mark.parametrize(("found", "own", "refused"), [(0, 0, False), (1, 0, True), (1, 1, False), (2, 1, True)])
def test_another_graph_is_refused_before_ours_starts(found, own, refused):
    class Monitor:
        def others(self, guards):
            return found > guards

        def serve(self, seconds):
            pass

    if refused:
        with pytest.raises(ConfigError, match="another graph is running"):
            session.refuse_company(Monitor(), 0.0, own)
    else:
        session.refuse_company(Monitor(), 0.0, own)
