"""A headless Chromium, and a page in it that notes whatever it says and asks for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@dataclass
class Watched:
    """A page, with what its console said and which addresses it asked for beyond files and data."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def open(self, path: Path) -> None:
        """Open a file, and wait until everything in it is drawn."""
        self.page.goto(path.as_uri())
        self.page.wait_for_function("window.Bokeh && Bokeh.documents.every(each => each.is_idle)")

    def value(self, script: str) -> Any:
        return self.page.evaluate(script)


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium; skip where it or playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield started
        finally:
            started.close()


def watch(started: Any, width: int = 1400) -> Watched:
    """Open a page of a given width that is watched."""
    watched = Watched(started.new_page(viewport={"width": width, "height": 900}))
    watched.page.on("console", lambda message: watched.said.append(message.text))
    watched.page.on("pageerror", lambda error: watched.said.append(str(error)))
    watched.page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else watched.asked.append(request.url),
    )
    return watched
