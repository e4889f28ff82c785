"""Train a recurrent network to predict the next word of English prose.

    python examples/next_word.py --cell lstm --layers 2

The text is Python's own language reference, which every Python carries in
``pydoc_data.topics``: nothing is downloaded. This is an ordinary training script in
plain PyTorch; it knows nothing of the tool that may be watching it.
"""

from __future__ import annotations

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterator
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNKNOWN = "<unk>"
WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?|[.,;:!?()]")
NOT_PROSE = re.compile(r">>>|::=|\|")  # doctests, grammar rules, tables
CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def load_words() -> tuple[list[str], list[str]]:
    """Return the words for training and those held out: every fifth topic is held out."""
    train: list[str] = []
    held_out: list[str] = []
    seen: set[str] = set()
    for index, name in enumerate(sorted(topics)):
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            text = " ".join(paragraph.lower().split())
            # Topics quote each other; a paragraph counts once, or training text would be held out.
            if text in seen or NOT_PROSE.search(text):
                continue
            seen.add(text)
            (held_out if index % 5 == 2 else train).extend(WORD.findall(text))
    return train, held_out


def build_vocabulary(words: list[str], min_count: int = 3) -> dict[str, int]:
    """Number the words by falling frequency; rarer ones than ``min_count`` become unknown."""
    frequent = [word for word, count in Counter(words).most_common() if count >= min_count]
    return {word: number for number, word in enumerate([UNKNOWN, *frequent])}


def encode(words: list[str], vocabulary: dict[str, int]) -> Tensor:
    """Turn words into their numbers, shape ``(number of words,)``."""
    return torch.tensor([vocabulary.get(word, vocabulary[UNKNOWN]) for word in words])


class NextWord(nn.Module):
    """Embedding, recurrent layers and a linear head that scores every word of the vocabulary."""

    def __init__(
        self, vocab_size: int, *, cell: str, hidden: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, hidden)
        between = dropout if layers > 1 else 0.0
        self.rnn = CELLS[cell](hidden, hidden, layers, dropout=between, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocab_size)

    def forward(self, words: Tensor) -> Tensor:
        """Score the word after each of ``words``: ``(B, T)`` to logits ``(B, T, V)``."""
        output, _ = self.rnn(self.dropout(self.embedding(words)))
        logits: Tensor = self.head(self.dropout(output))
        return logits


def build_model(args: argparse.Namespace, vocab_size: int) -> NextWord:
    """Build the network that the options ask for."""
    return NextWord(
        vocab_size,
        cell=args.cell,
        hidden=args.hidden,
        layers=args.layers,
        dropout=args.dropout,
    )


def batches(
    words: Tensor, *, seq_len: int, batch: int, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random windows without end: words ``(B, T)`` and the word after each ``(B, T)``."""
    if len(words) <= seq_len:
        raise ValueError(
            f"batches: `words` must be longer than `seq_len`, got {len(words)} words for windows "
            f"of {seq_len}; choose a smaller --seq-len."
        )
    while True:
        starts = torch.randint(len(words) - seq_len, (batch, 1), generator=generator)
        windows = words[starts + torch.arange(seq_len + 1)]
        yield windows[:, :-1], windows[:, 1:]


def next_word_loss(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over all words of the batch, in nats per word."""
    logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor
) -> float:
    """Take one optimizer step and return the loss before it."""
    model.train()
    optimizer.zero_grad()
    loss = next_word_loss(model, inputs, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(model: nn.Module, words: Tensor, *, seq_len: int) -> float:
    """Return the cross-entropy on held-out words, in nats per word."""
    model.eval()
    count = (len(words) - 1) // seq_len
    inputs = words[: count * seq_len].view(count, seq_len)
    targets = words[1 : count * seq_len + 1].view(count, seq_len)
    return next_word_loss(model, inputs, targets).item()


def unigram_loss(train: Tensor, held_out: Tensor, vocab_size: int) -> float:
    """Return the held-out cross-entropy of word frequencies alone (add-one smoothed)."""
    counts = torch.bincount(train, minlength=vocab_size).double() + 1
    return float(-(counts / counts.sum()).log()[held_out].mean())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Next-word prediction on Python's language reference."
    )
    parser.add_argument("--cell", choices=sorted(CELLS), default="rnn")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--seq-len", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=100)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train, and compare the held-out perplexity with that of word frequencies alone."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)

    train_words, held_out_words = load_words()
    vocabulary = build_vocabulary(train_words)
    train, held_out = encode(train_words, vocabulary), encode(held_out_words, vocabulary)
    print(f"{len(train)} words for training, {len(held_out)} held out, {len(vocabulary)} different")

    model = build_model(args, len(vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    stream = batches(train, seq_len=args.seq_len, batch=args.batch)
    for step in range(1, args.steps + 1):
        loss = train_step(model, optimizer, *next(stream))
        if step % args.log_every == 0 or step == args.steps:
            print(f"step {step:5d}  loss {loss:.3f}  perplexity {math.exp(loss):.1f}")

    perplexity = math.exp(evaluate(model, held_out, seq_len=args.seq_len))
    baseline = math.exp(unigram_loss(train, held_out, len(vocabulary)))
    print(f"held-out perplexity {perplexity:.1f}  (word frequencies alone: {baseline:.1f})")


if __name__ == "__main__":
    main()
