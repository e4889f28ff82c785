"""Keras on its torch backend: the adapter refuses, and a watch says that it sees nothing."""

from __future__ import annotations

import os
import sys

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
from proofs._adapters.compare import tell

import gradreach as gr
from gradreach.integrations.keras import WatchCallback


def main() -> int:
    """Try both ways, and tell what they said."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.Input((20, 3)), keras.layers.LSTM(8), keras.layers.Dense(1)]
    )
    model.compile(optimizer="sgd", loss="mse")
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(32, 20, 3)), draw.normal(size=(32, 1))
    try:
        model.fit(x, y, verbose=0, callbacks=[WatchCallback(every=1)])
        said = ""
    except gr.NotMeasurableError as error:
        said = str(error)
    with gr.watch(model, cost="full") as watched:
        model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    figures = {
        "checks": {
            "the adapter refuses": "torch.nn.LSTM" in said,
            "no gradient flow is made up": not watched.flows and not watched.history.samples,
            "training goes on all the same": watched.trouble is None,
        },
        "said": said,
        "findings": [str(finding) for finding in watched.findings],
    }
    return tell(figures, ("keras",))


if __name__ == "__main__":
    sys.exit(main())
