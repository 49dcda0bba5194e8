"""A page in headless Chromium, driven through a pipe by its DevTools protocol.

As a command it takes pictures: python -m tests.report.chromium PAGE.html OUT_FOLDER
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --hide-scrollbars "
    "--remote-debugging-pipe"
).split()
PATIENCE = 60.0  # seconds for one answer


class Chromium:
    """A browser with one page; a context manager."""

    def __init__(self, folder: Path):
        self.folder, self.sent, self.rest = folder, 0, b""
        self.events: list[dict] = []

    def __enter__(self) -> "Chromium":
        theirs_in, self.to = os.pipe()
        self.of, theirs_out = os.pipe()
        command = [PROGRAM, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"]
        # The protocol is read from descriptor 3 and written to 4.
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.session = None
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in pages if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.to)
        os.close(self.of)

    def call(self, method: str, **params) -> dict:
        """One command of the protocol, and its result; events that come meanwhile are kept."""
        self.sent += 1
        message = {"id": self.sent, "method": method, "params": params}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.sent:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, event: str) -> None:
        """Until an event of that name comes."""
        while not any(one.get("method") == event for one in self.events):
            self.events.append(self._next())

    def _next(self) -> dict:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.of], [], [], max(0, end - time.monotonic()))
            part = os.read(self.of, 1 << 20) if ready else b""
            if not part:
                raise TimeoutError("Chromium does not answer")
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def open(self, page: Path, width: int, height: int = 900) -> None:
        """Shows a file in a window of that size, px."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.wait_for("Page.loadEventFired")
        self.run("document.fonts.ready.then(() => 1)")

    def run(self, expression: str):
        """The value of a JavaScript expression."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def complaints(self) -> list[str]:
        """What the page wrote to the console as an error, and exceptions of its scripts."""
        self.run("new Promise(done => setTimeout(done, 50))")  # they may be late
        found = []
        for event in self.events:
            params = event.get("params", {})
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(params["exceptionDetails"]["text"])
            if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
                found.append(params["entry"]["text"])
            if event.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
                found.append(str(params["args"]))
        return found

    def requests(self) -> list[str]:
        """The addresses that the page asked for, but for what is inside it and itself."""
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in asked[1:] if not url.startswith("data:")]

    def picture(self, file: Path, top: int) -> None:
        """Writes what the window shows when the page is scrolled to `top`, px."""
        self.run(f"window.scrollTo(0, {top})")
        content = self.call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(content))


def main(page: str, out: str) -> None:
    """Pictures of a page from top to bottom, in a wide and a narrow window."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with Chromium(folder / "profile") as browser:
        for width, height in ((1280, 1400), (400, 1400)):
            browser.open(Path(page), width, height)
            whole = browser.run("document.documentElement.scrollHeight")
            for k, top in enumerate(range(0, whole, height)):
                browser.picture(folder / f"{width}_{k:02d}.png", top)
            print(width, whole, browser.complaints(), browser.requests())


if __name__ == "__main__":
    main(*sys.argv[1:])
