"""Schedules of the learning rate that depend on the step alone, in plain torch or in ours."""

from __future__ import annotations

import ast
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch.optim import Optimizer

from gradreach.treatments.call_text import CallText
from gradreach.treatments.edit import Edit
from gradreach.treatments.imports_of import Imports
from gradreach.treatments.optimizer_treatment import OptimizerTreatment
from gradreach.treatments.places import RATE_SET
from gradreach.treatments.rate_factor import scale_steps
from gradreach.treatments.sites import Site
from gradreach.treatments.source_file import NoLineError, SourceFile

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule(OptimizerTreatment):
    """A factor on the learning rate for each step, whatever else sets the rate."""

    @abstractmethod
    def factor_of(self, step: int) -> float:
        """Return the factor of a step, from 0."""

    @abstractmethod
    def formula(self) -> tuple[str, tuple[str, ...]]:
        """Return :meth:`factor_of` as an expression of ``step``, and the modules it needs."""

    def act(self, optimizer: Optimizer) -> None:
        """Multiply the rate at each step from now on."""
        scale_steps(optimizer, self.factor_of)

    def plain_edits(self, sites: Sequence[Site]) -> list[Edit]:
        """Write a scheduler of torch's that the optimizer's own steps drive.

        Raises:
            NoLineError: The script sets rates itself, or builds its optimizer in an expression.
        """
        if any(site.kind == RATE_SET for site in sites):
            raise NoLineError("the script changes the learning rate itself")
        built = [site for site in sites if site.kind == "optimizer"]
        if not built:
            raise NoLineError("no optimizer was seen to be built")
        edits = [edit for site in built for edit in self._lines(site)]
        return list(dict.fromkeys(edits))

    def _lines(self, site: Site) -> list[Edit]:
        if not site.file or site.outer is not None:
            raise NoLineError(f"{site.what} is built by a library")
        source = SourceFile.read(site.file)
        found = CallText.find(source.tree, source.text, site)
        if found is None or not source.alone(found.node):
            raise NoLineError(f"{site.what} is built within an expression")
        statement = source.statement_of(found.node)
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise NoLineError(f"{site.what} is given no single name")
        target = statement.targets[0]
        if not isinstance(target, ast.Name | ast.Attribute):
            raise NoLineError(f"{site.what} is given no plain name")
        names = Imports.of(source.tree)
        scheduler, needed = names.text_of("torch.optim.lr_scheduler.LambdaLR", site.file)
        optimizer, name = source.segment(target), source.fresh("schedule")
        text, modules = self.formula()
        edits = [each for each in [needed] if each is not None]
        edits += [
            Edit.insertion(site.file, names.first_line, 0, f"import {module}\n")
            for module in modules
            if module not in names.names
        ]
        lines = [
            f"{name} = {scheduler}({optimizer}, lambda step: {text})",
            # The name is bound now: a loop may build several.
            f"{optimizer}.register_step_post_hook(lambda *_, its={name}: its.step())",
        ]
        return [*edits, *source.lines_after(statement, lines)]
