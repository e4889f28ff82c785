"""How much of a weight's gradient each stretch of the past contributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradreach.records import LayerFlow

__all__ = ["Stretch", "recurrent_weight", "stretches"]

EDGES = (3, 10, 30)  # what a short n-gram sees, a clause, a sentence, and all before it


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some consecutive steps before one loss step, and their share of the gradient.

    Attributes:
        first: Nearest step, counted back from the loss: 1 is the step of the loss itself.
        last: Farthest step.
        share: Sum of the steps' shares; all stretches sum to 1. Negative where the steps pull
            against the rest, NaN where the gradient is zero.
    """

    first: int
    last: int
    share: float

    @property
    def label(self) -> str:
        """Return the steps as a heading.

        Example:
            >>> Stretch(1, 3, 0.5).label, Stretch(4, 10, 0.5).label, Stretch(4, 4, 0.5).label
            ('last 3', '4-10', '4')
        """
        if self.first == 1:
            return f"last {self.last}" if self.last > 1 else "last"
        return f"{self.first}-{self.last}" if self.last > self.first else f"{self.first}"


def stretches(layer: LayerFlow, edges: tuple[int, ...] = EDGES) -> tuple[Stretch, ...]:
    """Sum the shares of a layer's recurrent weight over stretches of the past.

    Answers "how far back does the gradient come from" only where all of it comes from one loss
    step: then a step's share is the share of its distance. With a loss at every step it tells
    early from late words of the sequence, not near from far ones, so such a layer is refused.

    Args:
        layer: Measured with a loss that reads one step only, the same in every row.
        edges: Last step of each stretch but the final one, which ends where the sequence began.

    Raises:
        ValueError: The loss of ``layer`` enters at more than one step, its rows end at
            different steps, or it has no recurrent weight.

    Example:
        >>> import torch, gradreach
        >>> _ = torch.manual_seed(0)
        >>> rnn, x = torch.nn.RNN(2, 8), torch.randn(40, 1, 2)
        >>> flow = gradreach.measure(rnn, lambda: rnn(x)[0][-1].sum())
        >>> parts = stretches(flow.layers["rnn"])
        >>> [part.label for part in parts], round(sum(part.share for part in parts), 9)
        (['last 3', '4-10', '11-30', '31-40'], 1.0)
    """
    if len(layer.loss_steps) != 1:
        raise ValueError(
            f"stretches(): argument 'layer' must have its loss at one step; that of {layer.name} "
            f"enters at {len(layer.loss_steps)} steps: measure the loss of the last step alone"
        )
    if len(set(layer.lengths.tolist())) > 1:
        raise ValueError(
            f"stretches(): argument 'layer' must have rows of one length; those of {layer.name} "
            f"have {layer.lengths.min()} to {layer.lengths.max()} steps: measure one length alone"
        )
    step = layer.loss_steps[0]
    position = layer.steps - 1 - step if layer.reverse else step
    shares = layer.shares[recurrent_weight(layer)][position::-1]
    edges = (*(edge for edge in edges if edge < len(shares)), len(shares))
    starts = (0, *edges[:-1])
    return tuple(
        Stretch(start + 1, end, float(np.sum(shares[start:end])))
        for start, end in zip(starts, edges, strict=True)
    )


def recurrent_weight(layer: LayerFlow) -> str:
    """Return the name of the weight between successive states.

    Args:
        layer: A measured layer.

    Raises:
        ValueError: There is none: only the gradient of the layer's inputs was measured.

    Example:
        >>> import torch, gradreach
        >>> rnn, x = torch.nn.RNN(2, 3), torch.randn(5, 1, 2)
        >>> recurrent_weight(gradreach.measure(rnn, lambda: rnn(x)[0].sum()).layers["rnn"])
        'weight_hh_l0'
    """
    for name in layer.contributions:
        if name.startswith("weight_hh"):
            return name
    known = ", ".join(layer.contributions) or "none"
    raise ValueError(
        f"recurrent_weight(): argument 'layer' must have a weight named weight_hh…; {layer.name} "
        f"has {known}: measure a layer whose recurrence is known"
    )
