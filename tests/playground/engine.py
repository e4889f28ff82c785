"""Runs the playground's own arithmetic: in node where it is there, else in Chromium."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gradreach.report.playground.page as page_module

SOURCES = Path(page_module.__file__).parent
CHROMIUM = "/usr/bin/chromium"

# Numbers that JSON has no word for travel as text.
TOLD = """
(value) => JSON.stringify(value, (_, each) => (ArrayBuffer.isView(each) ? Array.from(each)
  : typeof each === "number" && !Number.isFinite(each) ? String(each) : each))
"""
ODD = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def chromium_or_skip(lacks: Any) -> Any:
    """Return playwright's sync API, or skip with the name of what is not there."""
    try:
        from playwright import sync_api
    except ModuleNotFoundError:
        lacks("playwright")
    if not Path(CHROMIUM).exists():
        lacks("Chromium")
    return sync_api


def run_calls(calls: list[tuple[str, list[Any]]], lacks: Any) -> list[Any]:
    """Call functions of the playground by name and return what they return."""
    made = f"{json.dumps(calls)}.map(([name, args]) => P[name](...args))"
    found: list[Any] = evaluated(made, lacks)
    return found


def evaluated(expression: str, lacks: Any) -> Any:
    """Return the value of an expression in which ``P`` is the playground."""
    node = shutil.which("node")
    whole = f"((P) => ({TOLD})({expression}))(globalThis.gradreachPlayground)"
    told = _in_node(node, whole) if node else _in_chromium(whole, lacks)
    return _numbers(json.loads(told))


def _in_node(node: str, expression: str) -> str:
    parts = [(SOURCES / name).read_text("utf-8") for name in ("arithmetic.js", "story.js")]
    program = "\n".join([*parts, f"process.stdout.write({expression});"])
    done = subprocess.run(
        [node, "-"], input=program, capture_output=True, text=True, encoding="utf-8", check=True
    )
    return done.stdout


def _in_chromium(expression: str, lacks: Any) -> str:
    sync_api = chromium_or_skip(lacks)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        for name in ("arithmetic.js", "story.js"):
            page.evaluate(f"() => {{ {(SOURCES / name).read_text('utf-8')} }}")
        told: str = page.evaluate(f"() => {expression}")
        browser.close()
    return told


def _numbers(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _numbers(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_numbers(value) for value in plain]
    return ODD.get(plain, plain) if isinstance(plain, str) else plain
