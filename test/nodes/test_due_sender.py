"""Messages leave in order, never before their moment, and not at all once they are called back."""

import sys
import threading
import time

import pytest

from mbrl_ros.nodes.due_sender import DueSender


class Post:
    """Notes what is sent, and when."""

    def __init__(self):
        self.sent, self.all_there = [], threading.Event()
        self.expected = 0
        self.sender = DueSender(self.take)

    def take(self, message):
        self.sent.append((message, time.monotonic()))
        if len(self.sent) == self.expected:
            self.all_there.set()

    def wait_for(self, count):
        self.expected = count
        if len(self.sent) < count:
            assert self.all_there.wait(10.0), "not sent"
        return [message for message, _ in self.sent]


def test_in_order_and_not_before_their_moments():
    post, begin = Post(), time.monotonic()
    for message, seconds in (("overdue", -1.0), ("soon", 0.05), ("later", 0.15)):
        post.sender.put(seconds, message)
    assert post.wait_for(3) == ["overdue", "soon", "later"]
    for (_, moment), seconds in zip(post.sent, (0.0, 0.05, 0.15), strict=True):
        assert moment >= begin + seconds
    post.sender.close()


def test_what_is_called_back_is_not_sent():
    post = Post()
    post.sender.put(0.2, "called back")
    post.sender.clear()
    post.sender.put(0.3, "sent")
    assert post.wait_for(1) == ["sent"]
    post.sender.put(0.05, "too late")
    post.sender.close()
    time.sleep(0.1)
    assert [message for message, _ in post.sent] == ["sent"]


def test_an_error_in_the_thread_reaches_who_puts_the_next_message():
    """A node that goes on without a word, and sends nothing, would be the worst of all."""
    sender = DueSender(lambda message: 1 / 0)
    sender.put(0.0, "first")
    sender._thread.join(10.0)
    with pytest.raises(ZeroDivisionError):
        sender.put(0.0, "second")
    sender.close()


def test_planning_for_the_next_command_does_not_hold_this_one_up():
    """A thread waits 5 ms for its turn where Python is left as it is: at 100 Hz each command would be late.

    With a busy main thread messages left 5.3 ms after their moments (median), and 0.8 to 1.3 ms with shorter turns.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    post = Post()
    assert sys.getswitchinterval() <= 0.001
    sys.setswitchinterval(0.0001)
    post.sender.close()
    DueSender(post.take).close()
    assert sys.getswitchinterval() == pytest.approx(0.0001, abs=5e-6), "what is shorter stays"
    sys.setswitchinterval(before)
