"""skorch: a NeuralNet with its own clipping callback, beside the plain loop."""

from __future__ import annotations

import sys

import torch
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from skorch import NeuralNetRegressor
from skorch.callbacks import GradientNormClipping

from gradreach.integrations.skorch import WatchCallback


def train(callback: WatchCallback | None) -> plain.Trained:
    """Train in skorch; the module is made, and seeded, where the loop's is."""
    x, y = plain.data()
    first = plain.new_model().state_dict()
    net = NeuralNetRegressor(
        plain.Reader,
        criterion=torch.nn.MSELoss,
        optimizer=torch.optim.Adam,
        lr=0.02,
        batch_size=plain.BATCH,
        max_epochs=1,
        train_split=None,
        verbose=0,
        # skorch calls its callbacks in order, and what is after the clipping sees its result;
        # the watch does not depend on its place.
        callbacks=[GradientNormClipping(plain.CLIP), *([] if callback is None else [callback])],
    )
    net.initialize()
    net.module_.load_state_dict(first)
    net.partial_fit(x, y)
    history = None if callback is None else callback.history
    return plain.Trained(plain.weights_of(net.module_), history=history)


def main() -> int:
    """Compare, and tell the figures."""
    loop, watched_loop = plain.train(False, sampled=(0, 5, 20)), plain.train(True)
    figures = compared(loop, watched_loop, train(None), train(WatchCallback(**plain.OPTIONS)))
    return tell(figures, ("skorch",))


if __name__ == "__main__":
    sys.exit(main())
