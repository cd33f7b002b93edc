"""Sends messages at their moments, from a thread of its own: planning for the next one must not hold this one up."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

TURN = 0.0005  # s for which this thread waits at most for its turn while another one runs Python; usual are 0.005


class DueSender:
    """A queue of messages, each with the moment at which it is to be sent; one that is overdue is sent at once."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        """Begin with nothing to send.

        Args:
            send: called with each message, in the thread.
        """
        self._send = send
        self._waiting: deque[tuple[float, Any]] = deque()
        self._news = threading.Condition()
        self._open = True
        self._problem: Exception | None = None  # what sending has ended with
        sys.setswitchinterval(min(sys.getswitchinterval(), TURN))
        self._thread = threading.Thread(target=self._work, name="due_sender", daemon=True)
        self._thread.start()

    def put(self, seconds: float, message: Any) -> None:
        """Send a message that many seconds from now, after those that were put before it.

        Raises:
            Exception: what sending an earlier one has ended with; nothing is sent since then.
        """
        with self._news:
            if self._problem is not None:
                raise self._problem
            self._waiting.append((time.monotonic() + seconds, message))
            self._news.notify()

    def clear(self) -> None:
        """Send nothing of what waits."""
        with self._news:
            self._waiting.clear()

    def close(self) -> None:
        """End the thread; what waits is not sent."""
        with self._news:
            self._open = False
            self._waiting.clear()
            self._news.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            self._serve()
        except Exception as error:
            self._problem = error  # for `put`, whose caller logs it and ends the node

    def _serve(self) -> None:
        with self._news:
            while self._open:
                wait = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if wait is not None and wait <= 0:
                    # Under the lock: nothing is sent any more once `clear` has returned.
                    self._send(self._waiting.popleft()[1])
                else:
                    self._news.wait(wait)
