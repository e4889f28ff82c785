"""The live page itself: one document with its scripts, filled by what the server sends."""

from __future__ import annotations

from jinja2 import Environment
from markupsafe import Markup

from gradreach.report.page import asset, page_scripts

__all__ = ["live_page"]


def live_page(nonce: str) -> str:
    """Return the page; nothing in it comes from a run, all that does arrives later as data.

    Args:
        nonce: What the scripts and styles of this one answer carry, or the browser runs none.

    Example:
        >>> page = live_page("abc")
        >>> page.count('<script nonce="abc">'), page.count("<script")
        (3, 3)
    """
    styles = "".join(
        asset(name)
        for name in ("templates/page.css", "vendor/uplot/uPlot.min.css", "templates/live.css")
    )
    return (
        Environment(autoescape=True)
        .from_string(asset("templates/live.html.j2"))
        .render(
            nonce=nonce,
            styles=Markup(styles),  # noqa: S704  our own files
            scripts=[Markup(script) for script in page_scripts("live.js")],  # noqa: S704
        )
    )
