"""Writes what stands beside the journal in the folder of a watched training, at its end."""

from __future__ import annotations

import platform

from gradreach.monitor.session import Session
from gradreach.runs.files import WriteError
from gradreach.runs.folder import RunFolder

__all__ = ["write_end"]


def write_end(session: Session, folder: RunFolder) -> None:
    """Write the findings, the first and the latest flow in full, and how it was watched.

    A full disk costs these files; the journal has told what it could.
    """
    meta = session.meta()
    meta["versions"]["python"] = platform.python_version()
    try:
        folder.write_findings([sighting.to_dict() for sighting in session.ordered()])
        for step, flow in session.flows:
            folder.write_flow(int(flow.meta.get("pass", step)), flow.to_dict())
        folder.write_meta({"state": "ended", "not_measured": None, **meta})
    except WriteError as error:
        session.unwritten = str(error)
