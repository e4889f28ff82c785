"""The part of a layer's record that is computed on first access, from the states that were kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gradreach.records.array_record import ArrayRecord
from gradreach.records.conditions import Conditions
from gradreach.records.jacobian_cost import JacobianCost
from gradreach.records.jacobian_summary import JacobianSummary
from gradreach.records.lyapunov_spectrum import LyapunovSpectrum
from gradreach.records.state_sensitivity import StateSensitivity
from gradreach.records.state_space import StateSpace

__all__ = ["FromStates"]

# Name of the property, and of the key in a saved record -> its record.
DERIVED: dict[str, type[ArrayRecord]] = {
    "jacobian": JacobianSummary,
    "lyapunov": LyapunovSpectrum,
    "sensitivity": StateSensitivity,
    "conditions": Conditions,
}


class FromStates:
    """Adds to a layer's record what its Jacobians say.

    The values are computed once, in float64 on the CPU, from the states and weights of the
    measured pass: training on in between changes nothing. No random stream is touched.
    """

    name: str
    source: str
    states: StateSpace | None
    derived: dict[str, ArrayRecord]

    @property
    def jacobian(self) -> JacobianSummary:
        """Singular values of ∂s_t/∂s_{t-1} at each step, and of ∂s_T/∂s_0, for 4 sequences.

        Other numbers of sequences: ``layer.states.jacobian(sequences=16)``.

        Raises:
            LookupError: The record was loaded, and the values were not computed before saving.

        Cost:
            State size S ≤ 128: a singular value decomposition of S×S for up to 512 steps and a
            QR factorisation for all, per sequence; S = 64: 1.5 ms, S = 128: 6 ms a step. Above,
            some 40 products with the Jacobian a step. ``layer.jacobian_cost()`` tells it.

        Example:
            >>> import gradreach as gr, torch
            >>> rnn = torch.nn.RNN(1, 3)
            >>> _ = rnn.weight_hh_l0.data.copy_(0.5 * torch.eye(3))
            >>> flow = gr.measure(rnn, lambda: rnn(torch.zeros(9, 1, 1))[0].sum())
            >>> bool(flow.layers["rnn"].jacobian.largest.max() <= 0.5)
            True
        """
        found = self._derived("jacobian", lambda states: states.jacobian())
        assert isinstance(found, JacobianSummary)
        return found

    @property
    def lyapunov(self) -> LyapunovSpectrum:
        """Finite-time Lyapunov exponents along 4 sequences, nats per step, the largest first.

        All S of them for S ≤ 128, else the 32 largest. The first 10 + T/10 steps are dropped.
        Other numbers: ``layer.states.lyapunov(exponents=5, sequences=16)``.

        Raises:
            LookupError: The record was loaded, and the values were not computed before saving.

        Cost:
            Per step and sequence one product of the Jacobian with k vectors and one QR
            factorisation of S×k, O(S·k²): 0.3 ms at S = k = 64, 2 ms at S = k = 128.

        Reference:
            Engelken, Wolf & Abbott (2023), Lyapunov spectra of chaotic recurrent neural
            networks. arXiv:2006.02427. Vogt et al. (2022), On Lyapunov exponents for RNNs.

        Example:
            >>> import gradreach as gr, torch
            >>> rnn = torch.nn.RNN(1, 3)
            >>> for weight in rnn.parameters():
            ...     _ = weight.data.zero_()
            >>> _ = rnn.weight_hh_l0.data.copy_(0.5 * torch.eye(3))
            >>> flow = gr.measure(rnn, lambda: rnn(torch.zeros(40, 1, 1))[0].sum())
            >>> flow.layers["rnn"].lyapunov.exponents.round(6)  # ln 0.5
            array([-0.693147, -0.693147, -0.693147])
        """
        found = self._derived("lyapunov", lambda states: states.lyapunov())
        assert isinstance(found, LyapunovSpectrum)
        return found

    @property
    def sensitivity(self) -> StateSensitivity:
        """‖dh_t/dW_hh‖ over the steps, for 4 sequences: the curse of memory.

        Raises:
            LookupError: The record was loaded, and the values were not computed before saving.

        Cost:
            One forward pass with as many directions of W_hh as it has entries (up to 1,024),
            else with 16 random ones, which leave a standard error of some per cent.

        Reference:
            Zucchet & Orvieto (2024), Recurrent neural networks: vanishing and exploding
            gradients are not the end of the story. arXiv:2405.21064.
        """
        found = self._derived("sensitivity", lambda states: states.sensitivity())
        assert isinstance(found, StateSensitivity)
        return found

    @property
    def conditions(self) -> Conditions:
        """What follows from W_hh alone, and what the data say; ``print`` it.

        Raises:
            LookupError: The record was loaded, and the values were not computed before saving.

        Cost:
            One singular value decomposition and one set of eigenvalues of W_hh, O(H³), and
            λ_1: one product of the Jacobian with one vector per step and sequence.

        Reference:
            Pascanu, Mikolov & Bengio (2013), section 2.1. ICML; arXiv:1211.5063.
        """
        found = self._derived("conditions", lambda states: states.conditions())
        assert isinstance(found, Conditions)
        return found

    def jacobian_cost(self) -> JacobianCost:
        """Return what ``jacobian``, ``lyapunov``, ``sensitivity`` and ``conditions`` would cost.

        Raises:
            LookupError: The record was loaded, or has no states.
        """
        return self._states("jacobian_cost()").cost()

    def _derived(self, name: str, compute: Callable[[StateSpace], ArrayRecord]) -> ArrayRecord:
        if name not in self.derived:
            self.derived[name] = compute(self._states(name))
        return self.derived[name]

    def _states(self, wanted: str) -> StateSpace:
        if self.states is None and self.source == "inputs":
            raise LookupError(
                f"{self.name}: only the gradient of its inputs was measured (source 'inputs'); "
                f"there is no state to compute `{wanted}` from: see `lag_profile` and `reach()`"
            )
        if self.states is None:
            raise LookupError(
                f"{self.name}: this record keeps no states to compute `{wanted}` from; measure "
                f"again in this process and read `{wanted}` before saving the record"
            )
        return self.states

    def _derived_to_dict(self) -> dict[str, Any]:
        """Return what was computed so far, and nothing else."""
        return {name: self.derived[name].to_dict() for name in DERIVED if name in self.derived}

    @staticmethod
    def _derived_from_dict(plain: Mapping[str, Any]) -> dict[str, ArrayRecord]:
        return {name: kind.from_dict(plain[name]) for name, kind in DERIVED.items()
                if name in plain}  # fmt: skip
