"""RecurrentPPO of sb3-contrib, beside its update written out as a plain loop.

The policy's LSTMs are called once per step wherever an episode begins within the batch. Before
each of its updates the loop below also reads the batch by `torch.lstm_cell` and asks autograd for
the gradient of every state: what the watch stitches together from the calls must be that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from proofs._adapters import plain
from proofs._adapters.compare import compared, tell
from sb3_contrib import RecurrentPPO
from torch import Tensor, nn

import gradreach as gr
from gradreach.integrations.sb3 import WatchCallback

STEPS_OF_A_ROLLOUT, ROLLOUTS, EPOCHS, BATCH = 64, 3, 2, 32
CLIP = 25.0
EVERY = 3
SAMPLED = (0, 6)  # updates before which `gr.measure` measures the batch, as a second opinion
OPTIONS: dict[str, Any] = {"every": EVERY, "cost": "full"}
# The loop's states are those of autograd in float32; the watch scans back in float64 and
# rounds nothing on the way. Both lose about 1e-7 a step over at most 64 of them.
STATE_TOLERANCE = 1e-5


class Recall(gymnasium.Env[Any, Any]):
    """Shows a sign once and asks for it some steps later; episodes are short and differ."""

    observation_space = gymnasium.spaces.Box(-2, 2, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        """Begin an episode of 6 to 19 steps."""
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(6, 20))
        self.sign = int(self.np_random.integers(2))
        return np.array([2 * self.sign - 1, 1, 0], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, Any]:
        """Pay for the sign, at the end only."""
        self.left -= 1
        ended = self.left == 0
        seen = np.array([0, 0, 1 / (1 + self.left)], np.float32)
        return seen, float(ended and action == self.sign), ended, False, {}


def new_algorithm() -> RecurrentPPO:
    """Return the algorithm with its first weights, the same each time."""
    return RecurrentPPO(
        "MlpLstmPolicy",
        Recall(),
        n_steps=STEPS_OF_A_ROLLOUT,
        batch_size=BATCH,
        n_epochs=EPOCHS,
        learning_rate=1e-3,
        max_grad_norm=CLIP,
        vf_coef=20.0,
        policy_kwargs={"lstm_hidden_size": 16, "net_arch": [16]},
        seed=0,
        device="cpu",
    )


def train(callback: WatchCallback | None) -> plain.Trained:
    """Train as users do."""
    algorithm = new_algorithm()
    algorithm.learn(STEPS_OF_A_ROLLOUT * ROLLOUTS, callback=[callback] if callback else None)
    history = None if callback is None else callback.history
    return plain.Trained(plain.weights_of(algorithm.policy), threshold=CLIP, history=history)


# ---- the same, written out


def read(
    lstm: nn.LSTM, features: Tensor, states: tuple[Tensor, Tensor], starts: Tensor, kept: list[Any]
) -> Tensor:
    """Run one LSTM over the padded sequences of a batch, a call for each step."""
    rows = states[0].shape[1]
    outputs = []
    for row, start in zip(
        features.reshape(rows, -1, lstm.input_size).swapaxes(0, 1),
        starts.reshape(rows, -1).swapaxes(0, 1),
        strict=True,
    ):
        stays = (1.0 - start).view(1, rows, 1)
        output, states = lstm(row.unsqueeze(0), (stays * states[0], stays * states[1]))
        outputs.append(output)
    return torch.flatten(torch.cat(outputs).transpose(0, 1), end_dim=1)


def read_by_cells(
    lstm: nn.LSTM, features: Tensor, states: tuple[Tensor, Tensor], starts: Tensor, kept: list[Any]
) -> Tensor:
    """Do the same with torch's cell, whose states autograd can be asked for; keep them."""
    rows = states[0].shape[1]
    hidden, cell = states[0][0], states[1][0]
    for row, start in zip(
        features.reshape(rows, -1, lstm.input_size).swapaxes(0, 1),
        starts.reshape(rows, -1).swapaxes(0, 1),
        strict=True,
    ):
        stays = (1.0 - start)[:, None]
        hidden, cell = torch.lstm_cell(row, (stays * hidden, stays * cell), *lstm._flat_weights)
        kept.append((hidden, cell))
    return torch.flatten(torch.stack([hidden for hidden, _ in kept], 1), end_dim=1)


def loss_of(
    algorithm: RecurrentPPO, batch: Any, read: Callable[..., Tensor], kept: dict[str, list[Any]]
) -> Tensor:
    """Return PPO's loss on one batch of sequences."""
    policy, mask = algorithm.policy, batch.mask > 1e-8
    features = policy.extract_features(batch.observations)
    starts = batch.episode_starts
    latent = read(policy.lstm_actor, features, batch.lstm_states.pi, starts, kept["lstm_actor"])
    seen = read(policy.lstm_critic, features, batch.lstm_states.vf, starts, kept["lstm_critic"])
    latent = policy.mlp_extractor.forward_actor(latent)
    values = policy.value_net(policy.mlp_extractor.forward_critic(seen)).flatten()
    chosen = policy._get_action_dist_from_latent(latent)
    advantages = batch.advantages
    advantages = (advantages - advantages[mask].mean()) / (advantages[mask].std() + 1e-8)
    ratio = torch.exp(chosen.log_prob(batch.actions.long().flatten()) - batch.old_log_prob)
    bounded = torch.clamp(ratio, 0.8, 1.2)
    policy_loss = -torch.mean(torch.min(advantages * ratio, advantages * bounded)[mask])
    value_loss = torch.mean(((batch.returns - values) ** 2)[mask])
    entropy_loss = -torch.mean(chosen.entropy()[mask])
    return policy_loss + algorithm.ent_coef * entropy_loss + algorithm.vf_coef * value_loss


def closure_of(algorithm: RecurrentPPO, batch: Any) -> Callable[[], Tensor]:
    """Return the loss on a batch as a function without arguments."""
    return lambda: loss_of(algorithm, batch, read, {"lstm_actor": [], "lstm_critic": []})


def state_norms(algorithm: RecurrentPPO, batch: Any) -> dict[str, np.ndarray]:
    """Return ‖∂L/∂s_t‖ of both LSTMs as autograd has it, root mean square over the rows."""
    kept: dict[str, list[Any]] = {"lstm_actor": [], "lstm_critic": []}
    loss = loss_of(algorithm, batch, read_by_cells, kept)
    norms = {}
    for name, states in kept.items():
        asked = [each for state in states for each in state]
        gradients = torch.autograd.grad(
            loss, asked, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        squares = torch.stack([each.double().square().sum(-1) for each in gradients])
        norms[f"{name}.l0"] = (squares[0::2] + squares[1::2]).mean(-1).sqrt().numpy()
    return norms


def loop(watched: bool) -> tuple[plain.Trained, list[dict[str, np.ndarray]]]:
    """Train in a loop of one's own on RecurrentPPO's rollouts."""
    algorithm = new_algorithm()
    policy = algorithm.policy
    _, rollout = algorithm._setup_learn(STEPS_OF_A_ROLLOUT * ROLLOUTS)
    watch = gr.watch(policy, policy.optimizer, **OPTIONS) if watched else None
    if watch is not None:
        watch.start()
    norms, states, reaches = [], [], {}
    for _ in range(ROLLOUTS):
        buffer = algorithm.rollout_buffer
        algorithm.collect_rollouts(algorithm.env, rollout, buffer, STEPS_OF_A_ROLLOUT)
        policy.set_training_mode(True)
        for _ in range(EPOCHS):
            for batch in buffer.get(BATCH):
                if not watched:  # the watch must not see these passes
                    if len(states) in SAMPLED:
                        reaches[len(states)] = plain.measured(policy, closure_of(algorithm, batch))
                    states.append(state_norms(algorithm, batch))
                loss = closure_of(algorithm, batch)()
                policy.optimizer.zero_grad()
                loss.backward()
                norms.append(float(nn.utils.clip_grad_norm_(policy.parameters(), CLIP)))
                policy.optimizer.step()
    if watch is not None:
        watch.stop()
    history = None if watch is None else watch.history
    return plain.Trained(plain.weights_of(policy), norms, CLIP, reaches, history), states


def farthest_state(history: gr.History, states: list[dict[str, np.ndarray]]) -> float:
    """Return the largest difference of a state gradient, relative to its layer's largest."""
    worst = 0.0
    for sample in history.samples:
        for name, truth in states[sample.step].items():
            seen = sample.layers[name].norms
            if seen.shape != truth.shape:
                return float("inf")
            worst = max(worst, float(np.max(np.abs(seen - truth)) / np.max(truth)))
    return worst


def refused_alone() -> bool:
    """Whether a callback that is not in a list is refused in words that help."""
    try:
        new_algorithm().learn(STEPS_OF_A_ROLLOUT, callback=WatchCallback())
    except TypeError as error:
        return "callback=[callback]" in str(error)
    return False


def main() -> int:
    """Compare, and tell the figures."""
    torch.set_num_threads(1)
    alone, states = loop(False)
    twin, _ = loop(True)
    callback = WatchCallback(**OPTIONS)
    figures = compared(alone, twin, train(None), train(callback))
    checks = figures["checks"]
    # Two layers without one would agree as well.
    checks["every sample has a reach"] = all(
        layer.reach is not None
        for sample in callback.history.samples
        for layer in sample.layers.values()
    )
    farthest = farthest_state(callback.history, states)
    checks["state gradients are autograd's, step by step"] = farthest <= STATE_TOLERANCE
    checks["both LSTMs are seen in every sample"] = all(
        set(sample.layers) == {"lstm_actor.l0", "lstm_critic.l0"}
        for sample in callback.history.samples
    )
    checks["callback that is not in a list is refused"] = refused_alone()
    figures["states"] = {
        "calls_in_a_pass": [len(each["lstm_actor.l0"]) for each in states],
        "farthest_from_autograd": farthest,
        "tolerance": STATE_TOLERANCE,
    }
    return tell(figures, ("sb3-contrib", "stable-baselines3"))


if __name__ == "__main__":
    sys.exit(main())
