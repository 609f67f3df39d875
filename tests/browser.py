"""A real Chromium without a window, by the WebDriver protocol (W3C)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.cluster.debian import unpacked
from tests.cluster.processes import Process, wait_until
from tests.ports import free_ports

_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's own name for one


class Browser:
    """One session, with a profile of its own."""

    def __init__(self, session: httpx.Client) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self._post("url", {"url": url})

    def type(self, selector: str, text: str) -> None:
        """Type into a field, key by key."""
        self._post(f"element/{self._find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        """Click what can be seen and is not covered."""
        self._post(f"element/{self._find(selector)}/click", {})

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever it returns
        """Run a script in the page; return what it returns."""
        return self._post("execute/sync", {"script": script, "args": arguments})

    def until(self, expression: str) -> Any:  # noqa: ANN401 - whatever it is
        """Wait until an expression is true, looking at each change of the page; return it."""
        watch = f"""
            const done = arguments[0];
            const check = () => {{
                const found = ({expression});
                if (found) done(found);
                return found;
            }};
            if (check()) return;
            const watcher = new MutationObserver(() => check() && watcher.disconnect());
            const all = {{subtree: true, childList: true, attributes: true, characterData: true}};
            watcher.observe(document, all);
        """
        return self._post("execute/async", {"script": watch, "args": []})

    def complaints(self) -> list[str]:
        """Return what the console holds: faults of scripts, and what a policy has stopped."""
        entries = self._post("se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def _find(self, selector: str) -> str:
        found = self._post("element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _post(self, path: str, body: dict[str, object]) -> Any:  # noqa: ANN401 - as the protocol
        answer = self._session.post(path, json=body)
        value = answer.json()["value"]
        assert answer.is_success, f"{path}: {value['error']}: {value['message']}"
        return value


@contextmanager
def chromium(directory: Path) -> Iterator[Browser]:
    """Run one; ``directory`` holds its profile and log.

    Raises:
        ClusterError: Debian's packages chromium and chromium-driver cannot be had here.
    """
    driver = unpacked("chromedriver")
    port = free_ports()[0]
    process = Process(
        "chromedriver",
        [driver.path, f"--port={port}"],
        directory / "chromedriver.log",
        driver.environment | {"HOME": str(directory)},
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until("An answer of chromedriver", lambda: _answers(client), 30, [process])
            made = client.post("/session", json=_capabilities(driver.root, directory)).json()
            assert "sessionId" in made["value"], made["value"]
            path = f"/session/{made['value']['sessionId']}"
            with httpx.Client(base_url=f"http://127.0.0.1:{port}{path}", timeout=60) as session:
                try:
                    yield Browser(session)
                finally:
                    client.delete(path)
    finally:
        process.kill()


def _capabilities(root: Path, directory: Path) -> dict[str, Any]:
    options = {
        "binary": str(root / "usr/lib/chromium/chromium"),
        "args": [
            "--headless=new",
            "--no-sandbox",  # tests may run as root, and in containers without user namespaces
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            # It speaks with the service and nobody else: no updates, no reports.
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={directory / 'profile'}",
        ],
    }
    wanted = {
        "browserName": "chrome",
        "timeouts": {"script": 30_000},
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    return {"capabilities": {"alwaysMatch": wanted}}


def _answers(client: httpx.Client) -> bool:
    try:
        return bool(client.get("/status").json()["value"]["ready"])
    except httpx.TransportError:
        return False
