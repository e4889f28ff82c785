"""`gradreach explain`: what a finding means, where its threshold comes from, what helps."""

from __future__ import annotations

import click

from gradreach.cli.lazy_group import HELP

__all__ = ["explain"]


@click.command("explain", context_settings=HELP)
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """Print the page of a finding, or the list of findings without CODE.

    The page says what the finding means, which numbers are its evidence, where its threshold
    comes from, what helps, and when it is wrong.
    """
    from gradreach.diagnosis.pages import codes, page

    if code is None:
        for known in codes():
            click.echo(known)
        return
    try:
        text = page(code)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from error
    click.echo(text.rstrip())
