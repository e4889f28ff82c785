"""Faulty trainings that can be repaired, and trainings in which nothing is to be repaired.

A case is a script of this folder with arguments. Where it is repairable, ``by_hand`` says with
which arguments a person who knows the fault would have run it instead: calibrate.py runs both on
the seeds 0, 1 and 2, the one must miss the criterion on each, the other meet it on each. A cure
may of course be another.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASES", "METRIC", "REPAIRABLE", "SEEDS", "UNREPAIRABLE", "Case"]

METRIC = r"held-out error (\S+)"  # printed by each script at its end, smaller is better
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Case:
    """One training.

    Args:
        kind: What is wrong with it; several cases may share it.
        script: Name of the file in this folder, without ending.
        args: Its arguments, without ``--seed``.
        criterion: What the error must not exceed for the task to count as learned; ``None`` where
            there is nothing to be learned, so that no error counts.
        by_hand: Arguments of a repaired training; ``None`` where nothing is to be repaired.
        healthy: Whether the training meets the criterion as it is.
    """

    kind: str
    script: str
    args: str
    criterion: float | None
    by_hand: str | None = None
    healthy: bool = False

    @property
    def name(self) -> str:
        """Unique among the cases."""
        return f"{self.script} {self.args}"

    @property
    def repairable(self) -> bool:
        """Whether a cure is known."""
        return self.by_hand is not None

    def command(self, seed: int) -> list[str]:
        """Return script and arguments, for ``python`` or after ``gradreach cure --``."""
        return [f"{self.script}.py", *self.args.split(), "--seed", str(seed)]


RECALL = "--task recall"

REPAIRABLE = (
    # Default tanh layers contract: what the first steps showed is gone at the last.
    Case("vanishing", "last_step", "--task adding", 0.05, "--task adding --cell gru"),
    Case("vanishing", "last_step", RECALL, 0.1, f"{RECALL} --orthogonal 1"),
    Case("vanishing", "last_step", "--task order --length 40 --steps 400", 0.1,
         "--task order --length 40 --steps 400 --cell gru"),
    Case("vanishing", "last_step", "--task first --length 30 --recurrent-std 0.05", 0.1,
         "--task first --length 30 --orthogonal 1"),
    # A GRU keeps half of its state in a step, an LSTM too, until biases say otherwise.
    Case("gates half open", "last_step", f"{RECALL} --cell gru", 0.1,
         f"{RECALL} --cell gru --bias 3"),
    Case("gates half open", "last_step", "--task first --length 20 --cell gru", 0.1,
         "--task first --length 20 --cell gru --bias 3"),
    Case("gates half open", "last_step", f"{RECALL} --length 16 --cell lstm", 0.1,
         f"{RECALL} --length 16 --cell lstm --bias 3"),
    Case("gates half open", "cell_loop", "--cell lstm", 0.1, "--cell lstm --forget 3"),
    # A bias that was meant to open the forget gate has the wrong sign.
    Case("closed gates", "last_step", f"{RECALL} --length 12 --cell lstm --bias -5", 0.1,
         f"{RECALL} --length 12 --cell lstm --bias 2"),
    Case("closed gates", "last_step", f"{RECALL} --length 16 --cell lstm --bias -6", 0.1,
         f"{RECALL} --length 16 --cell lstm --bias 3"),
    Case("exploding", "last_step",
         f"{RECALL} --cell relu --identity 1.2 --optimizer sgd --lr 0.05", 0.6,
         f"{RECALL} --cell relu --identity 1.2 --optimizer sgd --lr 0.05 --clip 1"),
    Case("exploding", "last_step",
         f"{RECALL} --cell relu --identity 1.1 --optimizer sgd --lr 0.05", 0.6,
         f"{RECALL} --cell relu --identity 1.1 --optimizer sgd --lr 0.05 --clip 1"),
    Case("exploding", "last_step",
         "--task first --cell relu --identity 1.05 --optimizer sgd --lr 0.02", 0.35,
         "--task first --cell relu --identity 1.05 --optimizer sgd --lr 0.02 --clip 1"),
    Case("clip before backward", "last_step",
         f"{RECALL} --cell relu --identity 1.2 --optimizer sgd --lr 0.05 --clip 1 --clip-early",
         0.6, f"{RECALL} --cell relu --identity 1.2 --optimizer sgd --lr 0.05 --clip 1"),
    Case("clip before backward", "last_step",
         "--task first --cell relu --identity 1.05 --optimizer sgd --lr 0.02 --clip 1 --clip-early",
         0.35, "--task first --cell relu --identity 1.05 --optimizer sgd --lr 0.02 --clip 1"),
    Case("clip far too small", "stream", "--cell lstm --lag 2 --sgd --lr 1 --clip 0.001", 0.05,
         "--cell lstm --lag 2 --sgd --lr 1 --clip 1"),
    Case("clip far too small", "stream", "--cell rnn --lag 2 --sgd --lr 0.5 --clip 0.001", 0.05,
         "--cell rnn --lag 2 --sgd --lr 0.5 --clip 1"),
    Case("clip far too small", "stream", "--cell gru --lag 2 --sgd --lr 1 --clip 0.001", 0.05,
         "--cell gru --lag 2 --sgd --lr 1 --clip 1"),
    Case("learning rate too high", "stream", "--cell lstm --lag 2 --sgd --lr 30", 0.05,
         "--cell lstm --lag 2 --sgd --lr 3"),
    Case("learning rate too high", "stream", "--cell rnn --lag 2 --sgd --lr 10", 0.05,
         "--cell rnn --lag 2 --sgd --lr 1"),
    Case("learning rate too high", "stream", "--cell rnn --lag 2 --lr 0.5", 0.05,
         "--cell rnn --lag 2 --lr 0.05"),
    Case("learning rate too high", "last_step",
         f"{RECALL} --length 12 --cell lstm --bias 2 --lr 0.5", 0.1,
         f"{RECALL} --length 12 --cell lstm --bias 2 --lr 0.05"),
    Case("learning rate too low", "stream", "--cell gru --lag 2 --lr 1e-5", 0.05,
         "--cell gru --lag 2 --lr 0.01"),
    Case("learning rate too low", "stream", "--cell gru --lag 2 --sgd --lr 0.01", 0.05,
         "--cell gru --lag 2 --sgd --lr 1"),
    Case("learning rate too low", "stream", "--cell rnn --lag 2 --sgd --lr 0.003", 0.05,
         "--cell rnn --lag 2 --sgd --lr 0.3"),
    Case("state cut off", "cell_loop", "--cell gru --detach 5", 0.1, "--cell gru"),
    Case("state cut off", "cell_loop", "--cell lstm --forget 3 --detach 5", 0.1,
         "--cell lstm --forget 3"),
    Case("state cut off", "cell_loop", "--cell gru --length 14 --detach 7", 0.1,
         "--cell gru --length 14"),
    Case("windows too short", "stream", "--cell lstm --lag 5 --window 4 --updates 800", 0.05,
         "--cell lstm --lag 5 --window 16 --updates 400"),
    Case("growing graph", "stream", "--cell lstm --lag 2 --keep-graph", 0.05,
         "--cell lstm --lag 2"),
    Case("growing graph", "stream", "--cell rnn --lag 2 --keep-graph", 0.05,
         "--cell rnn --lag 2"),
    # One step too long pushes all units below zero for every input.
    Case("dying units", "last_step", f"{RECALL} --length 12 --cell relu --identity 1 --lr 0.1",
         0.1, f"{RECALL} --length 12 --cell relu --identity 1 --lr 0.01"),
    Case("saturated units", "last_step", f"{RECALL} --length 12 --scale-input 1000", 0.1,
         f"{RECALL} --length 12"),
)  # fmt: skip

UNREPAIRABLE = (
    Case("labels by lot", "hopeless", "--data fresh", 0.4),
    Case("labels by lot", "hopeless", "--data fresh --cell rnn", 0.4),
    Case("labels by lot, learned by heart", "hopeless", "--data fixed", 0.4),
    Case("labels by lot, learned by heart", "hopeless", "--data fixed --cell gru", 0.4),
    Case("a third of the labels wrong", "hopeless", "--data flipped", 0.25),
    Case("noise floor", "hopeless", "--data noise", 0.8),
    Case("noise floor", "hopeless", "--data noise --cell gru", 0.8),
    Case("target independent of the input", "hopeless", "--data independent", 0.8),
    Case("target independent of the input", "hopeless", "--data independent --cell rnn", 0.8),
    Case("solved", "hopeless", "--data echo", 0.02, healthy=True),
    Case("healthy", "stream", "--cell lstm --lag 2", 0.05, healthy=True),
    Case("healthy", "stream", "--cell gru --lag 4", 0.05, healthy=True),
    Case("healthy", "last_step", f"{RECALL} --orthogonal 1", 0.1, healthy=True),
    Case("healthy", "cell_loop", "--cell gru", 0.1, healthy=True),
)

CASES = (*REPAIRABLE, *UNREPAIRABLE)
