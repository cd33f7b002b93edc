"""Writes a bag while a robot runs: MCAP, from a thread of its own, so that a slow disk delays nobody.

What is written is handed to the operating system, as a whole chunk, once every `flush_period`: a process that is killed
loses no more than that. `bag_recovery` reads what such a bag has.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError

from mbrl_ros.data.bag_export import BAG_VERSION, TYPES, offered
from mbrl_ros.data.bag_reader import BagError
from mbrl_ros.data.recorded_topics import RecordedTopic

CLOSE_TIMEOUT = 7.0  # s that closing waits for a slow disk or a busy processor; ros2 launch kills after 10 s


class BagWriter:
    """A bag that is being written.

    Attributes:
        path: its folder.
        written: messages that have been written.
        dropped: messages for which there was no room in the queue.
        size: bytes of what has been written.
        problem: why the recording has ended, empty while it goes on.
    """

    def __init__(self, path: Path, topics: Sequence[RecordedTopic], capacity: int, flush_period: float) -> None:
        """Make the bag and begin to write.

        Args:
            path: folder of the bag, which must not exist.
            topics: what may be written.
            capacity: bytes that may wait to be written.
            flush_period: s.

        Raises:
            BagError: the bag cannot be made.
        """
        self.path, self.problem = path, ""
        self.written = self.dropped = self.size = 0
        self._capacity, self._flush_period = capacity, flush_period
        self._put = self._taken = 0  # bytes; each is changed by one thread only
        self._queue: queue.SimpleQueue[tuple[str, int, bytes] | None] = queue.SimpleQueue()
        try:
            self._writer = Writer(path, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
            self._connections = {topic.name: self._connection(topic) for topic in topics}
        except (WriterError, OSError) as error:
            raise BagError(f"{path}: cannot make the bag: {error}") from None
        self._thread = threading.Thread(target=self._run, name="bag writer", daemon=True)
        self._thread.start()

    def put(self, topic: str, time_ns: int, data: bytes) -> None:
        """Hand over a message as CDR, to be played at `time_ns`; it is counted as dropped where there is no room."""
        if self.problem or self._put - self._taken + len(data) > self._capacity:
            self.dropped += 1
            return
        self._put += len(data)
        self._queue.put((topic, time_ns, data))

    def close(self) -> None:
        """Write what waits, end the bag, and wait for it a while; `problem` says what became of it."""
        self._queue.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            self.problem = f"{self.path}: the disk is too slow to end the bag: mbrl_ros bag recover"

    def _connection(self, topic: RecordedTopic) -> Connection:
        qos = [offered(latched=topic.latched)]
        return self._writer.add_connection(topic.name, topic.type, typestore=TYPES, offered_qos_profiles=qos)

    def _run(self) -> None:
        """Body of the thread."""
        try:
            self._serve()
            self._writer.close()
        except Exception as error:  # whatever it is, the robot goes on and somebody must be told
            reason = error.strerror if isinstance(error, OSError) and error.strerror else repr(error)
            self.problem = f"{self.path}: the recording has ended: {reason}; mbrl_ros bag recover saves what it has"
            with contextlib.suppress(Exception):
                self._writer.abort()

    def _serve(self) -> None:
        """Write until there is no more to come."""
        flush_at = time.monotonic() + self._flush_period
        while True:
            left = flush_at - time.monotonic()
            if left <= 0.0:
                self._flush()
                flush_at = time.monotonic() + self._flush_period
                continue
            with contextlib.suppress(queue.Empty):
                message = self._queue.get(timeout=left)
                if message is None:
                    return
                self._write(*message)

    def _write(self, topic: str, time_ns: int, data: bytes) -> None:
        self._writer.write(self._connections[topic], time_ns, data)
        self._taken += len(data)
        self.written += 1
        self.size += len(data)

    def _flush(self) -> None:
        """Hand all messages so far to the operating system as a whole chunk, which a reader can believe."""
        storage: Any = self._writer.storage
        if storage.chunk.msgs:
            storage.close_chunk()
            storage.bio.flush()
