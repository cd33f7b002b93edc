"""Takes a picture of a page in headless Chromium after some seconds: ``screenshot.py URL FILE.png [SECONDS]``.

Needs a Chromium and the package websockets, which comes with viser. ``chromium --screenshot`` alone would not do: it
takes its picture when the page has loaded, before the first data have come.
"""

import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect

SIZE = (1200, 800)  # pixels
FLAGS = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def main(url: str, path: str, seconds: float = 15.0) -> None:
    """Open the page, wait, write the picture."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        size = f"--window-size={SIZE[0]},{SIZE[1]}"
        command = ["chromium", *FLAGS, size, "--remote-debugging-port=0", f"--user-data-dir={profile}", url]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(seconds)
            port = (Path(profile) / "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                page = next(target for target in json.load(answer) if target["type"] == "page")
            with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:
                socket.send(json.dumps({"id": 1, "method": "Page.captureScreenshot"}))
                picture = json.loads(socket.recv(timeout=60))["result"]["data"]
            Path(path).write_bytes(base64.b64decode(picture))
        finally:
            browser.terminate()
            browser.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:]))
