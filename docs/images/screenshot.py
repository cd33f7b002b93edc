"""Takes a picture of a page in headless Chromium: ``screenshot.py URL FILE.png [SECONDS [TEXT [WIDTHxHEIGHT]]]``.

It waits for some seconds, and then until the page has the text. A size narrower than 600 pixels is that of a phone.

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

from websockets.sync.client import ClientConnection, connect

SIZE = "1300x1150"  # pixels
PHONE = 600  # pixels; narrower pages are shown as a phone shows them
PATIENCE = 60.0  # s, longest wait for the text
FLAGS = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def ask(socket: ClientConnection, method: str, **parameters: object) -> dict:
    """One question to the browser."""
    socket.send(json.dumps({"id": 1, "method": method, "params": parameters}))
    return json.loads(socket.recv(timeout=60))["result"]


def main(url: str, path: str, seconds: str = "15", text: str = "", size: str = SIZE) -> None:
    """Open the page, wait, write the picture."""
    width, height = map(int, size.split("x"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        window = f"--window-size={width},{height}"
        command = ["chromium", *FLAGS, window, "--remote-debugging-port=0", f"--user-data-dir={profile}", url]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(float(seconds))
            port = (Path(profile) / "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                page = next(target for target in json.load(answer) if target["type"] == "page")
            with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:
                screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < PHONE}
                ask(socket, "Emulation.setDeviceMetricsOverride", **screen)
                end = time.monotonic() + PATIENCE
                there = f"document.body.innerText.includes({json.dumps(text)})"
                while not ask(socket, "Runtime.evaluate", expression=there)["result"]["value"]:
                    if time.monotonic() > end:
                        raise SystemExit(f"no '{text}' on {url}")
                Path(path).write_bytes(base64.b64decode(ask(socket, "Page.captureScreenshot")["data"]))
        finally:
            browser.terminate()
            browser.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
