"""A real Chromium, driven by playwright; where there is none, these tests are skipped by name."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Visit:
    """One page in a context of its own, with all that it asked for and complained about."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", self._dialog)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", self._console)

    def until(self, expression: str, *, seconds: float = 30.0) -> None:
        """Wait until an expression holds; playwright's own way is eval, which our pages forbid."""
        latest = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < latest, f"never came: {expression}"
            self.page.wait_for_timeout(20)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")


@pytest.fixture(scope="module")
def started() -> Iterator[Any]:
    """Start Chromium once a file; yield what is missing where that cannot be."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        yield "Chromium"
        return
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        yield "playwright"
        return
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(started: Any, lacks: Callable[[str], Any]) -> Iterator[Callable[..., Visit]]:
    """Open pages; they are closed at the end of the test."""
    if isinstance(started, str):
        lacks(started)
    visits: list[Visit] = []

    def visit(**options: Any) -> Visit:
        made = Visit(started, **({"viewport": {"width": 1280, "height": 900}} | options))
        visits.append(made)
        return made

    yield visit
    for each in visits:
        each.context.close()
