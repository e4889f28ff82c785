"""`gradreach info`: versions, and what does the computing on this machine."""

from __future__ import annotations

import json
import platform
from typing import Any

import click

from gradreach import __version__
from gradreach.cli.lazy_group import HELP

__all__ = ["gathered_info", "info"]


def gathered_info() -> dict[str, Any]:
    """Return what a bug report needs, as plain data.

    Example:
        >>> gathered_info()["kernels"].split()[0] in ("native", "reference")
        True
    """
    import numpy as np
    import torch

    from gradreach.kernels import status

    kernels = status()
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "gradreach": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "kernels": str(kernels),
        "kernel_status": kernels.to_dict(),
        "threads": torch.get_num_threads(),
        "gpus": devices,
    }


@click.command("info", context_settings=HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def info(as_json: bool) -> None:
    """Print versions and what does the computing here."""
    try:
        told = gathered_info()
    except ValueError as error:  # a setting of the environment that does not exist
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps({"schema_version": 1, **told}))
        return
    del told["kernel_status"]  # the fields of the sentence, for programs
    for name, value in told.items():
        shown = ", ".join(value) or "none" if isinstance(value, list) else value
        click.echo(f"{name:<11}{shown}")
