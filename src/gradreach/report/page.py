"""What all pages stand on: templates, style, scripts inside the page, and what it may do."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from gradreach.display.visible import visible, visible_deep

__all__ = ["asset", "json_in_page", "page_scripts", "render_page"]

UPLOT = "vendor/uplot/uPlot.iife.min.js"


def render_page(template: str, /, *, data: Any = None, **context: Any) -> str:
    """Return a page from one of the templates beside this file.

    A template extends ``page.html.j2`` (blocks ``head`` and ``main``) and takes what it shows
    from the macros of ``parts.html.j2``. All text is escaped and made visible. A page with
    ``data`` gets the scripts that draw it, and may run nothing else; one without runs none.

    Args:
        template: File name in ``report/templates``.
        data: What the page's scripts draw, plain data: ``charts`` and ``maps`` by the id of
            the figure in the page (see ``charts.js``); ``None`` where there is nothing.
        context: What the template shows; ``title`` is needed by every page.

    Example:
        >>> page = render_page("page.html.j2", title="A & B")
        >>> "<title>A &amp; B</title>" in page, "<script" in page
        (True, False)
    """
    scripts = page_scripts("report.js") if data is not None else []
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        _environment()
        .get_template(template)
        .render(
            styles=Markup(_styles(plots=data is not None)),  # noqa: S704  our own files
            scripts=[Markup(script) for script in scripts],  # noqa: S704
            policy=f"default-src 'none'; style-src 'unsafe-inline'"
            f"{f'; script-src {allowed}' if allowed else ''}",
            data=Markup(json_in_page(data)) if data is not None else None,  # noqa: S704
            **context,
        )
    )


def page_scripts(own: str) -> list[str]:
    """Return the scripts of a page: uPlot with its licence, our charts, and the page's own."""
    licence = "\n".join(f" * {line}".rstrip() for line in asset("vendor/uplot/LICENSE").split("\n"))
    return [f"/*!\n{licence}\n */\n{asset(UPLOT)}", _script("charts.js"), _script(own)]


def json_in_page(plain: Any) -> str:
    r"""Return plain data as JSON that may stand inside a script element.

    No ``<`` in it can end the element; NaN and the infinities become the strings ``"NaN"``,
    ``"Infinity"`` and ``"-Infinity"``.

    Example:
        >>> print(json_in_page({"name": "</script>", "loss": [1.5, float("nan")]}))
        {"name":"\u003c/script\u003e","loss":[1.5,"NaN"]}
    """
    text = json.dumps(_finite(visible_deep(plain)), allow_nan=False, separators=(",", ":"))
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


@cache
def asset(name: str) -> str:
    """Return one of the files that travel with this package."""
    return files("gradreach.report").joinpath(name).read_text("utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(lambda name: asset(f"templates/{name}")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    """Make what a template shows visible; pictures, which are markup, have seen to it before."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _script(name: str) -> str:
    text = asset(f"templates/{name}")
    assert "</script" not in text.lower()
    return text


def _styles(*, plots: bool) -> str:
    return asset("templates/page.css") + (asset("vendor/uplot/uPlot.min.css") if plots else "")


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
