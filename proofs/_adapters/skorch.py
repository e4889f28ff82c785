"""skorch: a NeuralNet with its own clipping callback, beside the plain loop.

Also shows that a cross-validation, which trains clones, is seen by the callback in hand, and that
a net with the callback in it can be pickled.
"""

from __future__ import annotations

import pickle
import sys

import torch
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from sklearn.model_selection import cross_val_score
from skorch import NeuralNetRegressor
from skorch.callbacks import GradientNormClipping

from gradreach.integrations.skorch import WatchCallback


def new_net(callback: WatchCallback | None) -> NeuralNetRegressor:
    """Return a net that trains as the loop does."""
    return NeuralNetRegressor(
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


def train(callback: WatchCallback | None) -> plain.Trained:
    """Train in skorch from the loop's first weights."""
    x, y = plain.data()
    first = plain.new_model().state_dict()
    net = new_net(callback)
    net.initialize()
    net.module_.load_state_dict(first)
    net.partial_fit(x, y)
    history = None if callback is None else callback.history
    return plain.Trained(plain.weights_of(net.module_), history=history)


def folds_seen() -> list[int]:
    """Return the number of steps seen in each fold of a cross-validation, and in a plain fit."""
    x, y = (each.numpy() for each in plain.data())
    callback = WatchCallback(**plain.OPTIONS)
    net = new_net(callback)
    cross_val_score(net, x, y, cv=2)
    net.fit(x, y)
    return [len(watch.history) for watch in callback.watches]


def pickles() -> bool:
    """Whether a net is pickled with the callback, and trains again afterwards."""
    x, y = plain.data()
    net = new_net(WatchCallback(**plain.OPTIONS)).fit(x, y)
    again = pickle.loads(pickle.dumps(net))  # noqa: S301  our own, made a line ago
    again.partial_fit(x, y)
    seen = dict(again.callbacks_)["WatchCallback"]
    return len(seen.history) == plain.STEPS and len(seen.watches) == 1


def main() -> int:
    """Compare, and tell the figures."""
    loop, watched_loop = plain.train(False, sampled=(0, 5, 20)), plain.train(True)
    figures = compared(loop, watched_loop, train(None), train(WatchCallback(**plain.OPTIONS)))
    figures["folds"] = folds_seen()
    half = plain.STEPS // 2
    figures["checks"]["folds are seen by the callback in hand"] = figures["folds"] == [
        half,
        half,
        plain.STEPS,
    ]
    figures["checks"]["net is pickled with the callback"] = pickles()
    return tell(figures, ("skorch",))


if __name__ == "__main__":
    sys.exit(main())
