"""A page in a headless Chromium, driven by the DevTools protocol over a pipe."""

import json
import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Set where the tests of the report must run: in CI.
REQUIRE = "DDLN_REQUIRE_BROWSER"


class Page:
    """One tab: what it said, and commands to it."""

    def __init__(self, read, write):
        self.read, self.write = read, write
        self.count, self.session = 0, None
        self.complaints = []

    def send(self, method, **params):
        """Sends a command and returns its result; notes what the page complains about meanwhile."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session is not None:
            message["sessionId"] = self.session
        self.write.write(json.dumps(message).encode() + b"\0")
        self.write.flush()
        while True:
            answer = self.receive()
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def receive(self):
        data = bytearray()
        while (byte := self.read.read(1)) != b"\0":
            assert byte, "Chromium ended."
            data += byte
        answer = json.loads(data)
        if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(answer["params"])
        if answer.get("method") == "Runtime.consoleAPICalled":
            self.complaints.append(answer["params"])
        return answer

    def open(self, file):
        self.send("Page.navigate", url=file.resolve().as_uri())
        while self.receive().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, text=""):
        codes = {
            "Tab": 9,
            "Enter": 13,
            "Home": 36,
            "ArrowLeft": 37,
            "ArrowUp": 38,
            "ArrowRight": 39,
            "ArrowDown": 40,
        }
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text,
                windowsVirtualKeyCode=codes[key],
            )  # fmt: skip

    def size(self, width, height=900):
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip

    def colour_scheme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.send("Emulation.setEmulatedMedia", features=features)


def binary():
    """The path of the browser. Without one, skip the test, or fail if a browser is required."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"This test needs a browser, and there is none of {', '.join(NAMES)} in PATH."
        if os.environ.get(REQUIRE, "") not in ("", "0"):
            pytest.fail(f"{reason} {REQUIRE} is set, so it must not be skipped.")
        pytest.skip(f"{reason} Install Chromium to run it.")
    return found


@contextmanager
def chromium(folder):
    """A new page. Its profile is below `folder`."""
    program = binary()
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    command = (
        f'exec "{program}" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage '
        f'--no-first-run --user-data-dir="{folder}" --remote-debugging-pipe '
        f"3<&{to_read} 4>&{from_write}"
    )
    process = subprocess.Popen(
        ["/bin/bash", "-c", command],  # also where the PATH has no shell
        pass_fds=(to_read, from_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_read)
    os.close(from_write)
    with open(from_read, "rb") as read, open(to_write, "wb") as write:
        page = Page(read, write)
        try:
            target = page.send("Target.createTarget", url="about:blank")["targetId"]
            attached = page.send("Target.attachToTarget", targetId=target, flatten=True)
            page.session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                page.send(f"{domain}.enable")
            yield page
            page.session = None
            page.send("Browser.close")
        finally:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
