"""The workers' side of the protocol: requests as JSON lines on stdin, answers on stdout (standard library only)."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[], Any]
Build = Callable[[dict[str, Any]], tuple[Run, dict[str, Any]]]


def serve(build: Build, set_threads: Callable[[int], None] = lambda threads: None) -> None:
    """Answer until stdin ends; an exception is an answer too.

    Requests: ``{"op": "build", "key", "threads", "contestant", ...settings}`` builds a contestant and calls it once
    -> ``{"first_ms", "info"}``; ``{"op": "time", "key", "calls"}`` -> ``{"ms": [one a call]}``.

    Args:
        build: makes the function to time, and what is to be known about it, from a request.
        set_threads: called before every timed block with the contestant's number of threads.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not reach the protocol
    built: dict[str, tuple[Run, int]] = {}
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line), build, set_threads, built)
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=answers, flush=True)


def answer(
    request: dict[str, Any], build: Build, set_threads: Callable[[int], None], built: dict[str, tuple[Run, int]]
) -> dict[str, Any]:
    """Carry out one request."""
    if request["op"] == "build":
        set_threads(request["threads"])
        run, info = build(request)
        built[request["key"]] = run, request["threads"]
        return {"first_ms": timed(run), "info": info}
    run, threads = built[request["key"]]
    set_threads(threads)
    return {"ms": [timed(run) for _ in range(request["calls"])]}


def timed(run: Run) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)
