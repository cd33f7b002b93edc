"""Start, step and stop: what may begin, and what is answered."""

from mbrl_ros.control.trial_switch import TrialSwitch


def free(held=False, each=False):
    switch = TrialSwitch(held, each)
    switch.ready = True
    return switch


def run(switch, index):
    """A trial from its beginning to its end."""
    assert switch.open
    switch.began(index)
    switch.ended()
    switch.ready = True


def test_trials_follow_each_other_until_they_are_stopped():
    switch = free()
    for index in range(3):
        run(switch, index)
    assert switch.start() == (True, "trials begin by themselves already: ")
    switch.began(3)
    assert switch.stop() == (True, "trial 3 ends now; the next one waits for start or step")
    assert switch.stop_asked
    switch.ended()
    assert not switch.open and not switch.stop_asked
    assert switch.stop() == (True, "no trial is running; the next one waits for start or step")
    assert switch.start()[0] and switch.open
    run(switch, 4)
    run(switch, 5)


def test_a_step_is_one_trial():
    switch = free(held=True)
    assert not switch.open
    assert switch.step()[0]
    switch.began(0)
    assert switch.step() == (False, "not now: trial 0 is running; stop ends it")
    switch.ended()
    assert not switch.open
    assert switch.step()[0] and switch.start()[0]
    run(switch, 1)
    assert switch.open, "start after step: they go on"


def test_start_during_a_step_lets_them_go_on():
    switch = free(held=True)
    switch.step()
    switch.began(0)
    assert switch.start()[0]
    switch.ended()
    assert switch.open


def test_a_robot_needs_a_word_for_each_trial_and_only_when_it_is_ready():
    switch = TrialSwitch(held=False, each=True)
    switch.doing = "waiting for mpc_controller"
    assert switch.start() == (False, "not now: waiting for mpc_controller")
    switch.ready = True
    assert not switch.open
    assert switch.start() == (True, "the trial begins")
    assert not switch.start()[0], "one word, one trial"
    switch.began(0)
    switch.doing = "trial 0: mpc"
    assert switch.step() == (False, "not now: trial 0: mpc")
    switch.ended()
    assert not switch.open
    switch.ready = True
    assert switch.step()[0]
    switch.began(1)
    switch.hold()  # it could not be armed
    switch.ready = True
    assert not switch.open and switch.start()[0]


def test_what_needs_rest_is_refused_with_the_reason():
    switch = free()
    assert switch.idle() == (False, "not now: ; stop first")
    switch.stop()
    assert switch.idle() == (True, "")
    switch.busy = "the learner is being reset"
    assert switch.start()[0] and not switch.open, "it begins when that is over"
    switch.busy = ""
    assert switch.open
    switch.began(0)
    switch.stop()
    assert not switch.idle()[0], "the trial is not over yet"
