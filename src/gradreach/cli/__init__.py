"""The command line. Nothing here imports torch before a command that needs it runs."""

from __future__ import annotations

import click

from gradreach import __version__
from gradreach.cli.ending import EndingGroup
from gradreach.cli.lazy_group import HELP

__all__ = ["main"]

# In the order of --help: what most people come for first.
COMMANDS = {
    "diagnose": (
        "gradreach.cli.diagnose:diagnose",
        "Run an unmodified training script and say what is wrong with its gradient.",
    ),
    "cure": (
        "gradreach.cli.cure:cure",
        "Try remedies on a training script, unedited, against the script as it is.",
    ),
    "train": (
        "gradreach.cli.train:train",
        "Train one built-in task, watched, and say how well it went.",
    ),
    "report": (
        "gradreach.cli.report:report",
        "Print what a watched run came to, and write its report.",
    ),
    "serve": (
        "gradreach.cli.serve:serve",
        "Show runs as a page that grows while they train.",
    ),
    "demo": (
        "gradreach.cli.demo:demo",
        "Show how far back the gradient reaches, on real networks.",
    ),
    "explain": (
        "gradreach.cli.explain:explain",
        "Print the page of a finding, or the list of findings without CODE.",
    ),
    "info": ("gradreach.cli.info:info", "Print versions and what does the computing here."),
}


@click.group(
    cls=EndingGroup,
    lazy=COMMANDS,
    running_scripts=["diagnose"],
    context_settings=HELP,
    epilog="Exit codes: 0 healthy, 1 problem found, 2 usage error, 3 could not measure.",
)
@click.version_option(__version__, prog_name="gradreach", message="%(prog)s %(version)s")
def main() -> None:
    """Measure how far back in time the gradient of a recurrent network reaches."""
