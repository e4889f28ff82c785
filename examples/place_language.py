"""Train a recurrent network to remember a place until its language is named, many words later.

    python examples/place_language.py --cell lstm

Short:  "Marathi is spoken in Maharashtra."
Long:   "Maharashtra is a beautiful place. I went there last year, … but I could not enjoy it
        properly because I don't understand Marathi."

The place decides the language, or the language the place; ``--distances`` says how many words
apart the two stand. The facts are real (Unicode CLDR through ``babel``, and the language acts of
Indian states), and so is the text between the two words (Python's language reference, or --text).
This is an ordinary training script in plain PyTorch; it knows nothing of the tool that may be
watching it.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

UNKNOWN = "<unk>"
WORD = re.compile(r"[a-z]+(?:['’][a-z]+)?|[.,;:!?()]")
NOT_PROSE = re.compile(r">>>|::=|\|")  # doctests, grammar rules, tables

# CLDR lists official languages by country only. For these states: the language for which the
# state's own act was made, as its ISO 639 code (CLDR spells it out). Some acts allow a further
# language beside it, usually English.
INDIAN_STATES = {
    "Andhra Pradesh": "te",  # Andhra Pradesh Official Language Act, 1966
    "Assam": "as",  # Assam Official Language Act, 1960
    "Goa": "kok",  # Goa, Daman and Diu Official Language Act, 1987
    "Gujarat": "gu",  # Gujarat Official Languages Act, 1960
    "Karnataka": "kn",  # Karnataka Official Language Act, 1963
    "Kerala": "ml",  # Kerala Official Languages (Legislation) Act, 1969
    "Maharashtra": "mr",  # Maharashtra Official Languages Act, 1964
    "Odisha": "or",  # Orissa Official Language Act, 1954
    "Punjab": "pa",  # Punjab Official Language Act, 1967
    "Tamil Nadu": "ta",  # Tamil Nadu Official Language Act, 1956
    "West Bengal": "bn",  # West Bengal Official Language Act, 1961
}

# {x} is the word the reader is given, {y} the one that follows from it. A short sentence fixes
# their distance (2 to 5); opener, running text and closer give any distance from 5 upwards.
# Every word of the held-out templates occurs in training ones, but no held-out template does.
PLACE_TO_LANGUAGE, LANGUAGE_TO_PLACE = "place to language", "language to place"
DIRECTIONS = (PLACE_TO_LANGUAGE, LANGUAGE_TO_PLACE)


@dataclass(frozen=True)
class Templates:
    """The sentences of one direction: whole short ones, and the two ends of long ones."""

    short: tuple[str, ...]
    openers: tuple[str, ...]
    closers: tuple[str, ...]


TRAINING_TEMPLATES = {
    PLACE_TO_LANGUAGE: Templates(
        short=(
            "{x} speaks {y}",
            "everybody in {x} spoke {y}",
            "my friend from {x} speaks {y}",
            "in {x} they spoke {y}",
            "in {x} everybody understands {y}",
            "in {x} i had learned {y}",
            "in {x} my friend spoke {y}",
            "in {x} we still speak {y}",
            "in {x} everybody there speaks {y}",
        ),
        openers=(
            "{x} .",
            "we drove through {x} .",
            "i went to {x} last year .",
            "my friend lives in {x} .",
            "{x} is a beautiful country .",
            "{x} is the place where we stayed .",
        ),
        closers=(
            "where they speak {y}",
            "so we learned {y}",
            "so i had to learn {y}",
            "but i could not understand {y}",
            "and my friend there spoke {y}",
            "we could not enjoy it properly because everybody spoke {y}",
            "last year i went there , and i still don't understand {y}",
        ),
    ),
    LANGUAGE_TO_PLACE: Templates(
        short=(
            "{x} in {y}",
            "i learned {x} in {y}",
            "they speak {x} in {y}",
            "we spoke {x} in {y}",
            "i spoke {x} only in {y}",
            "{x} is a language in {y}",
            "{x} is understood in {y}",
        ),
        openers=(
            "{x} .",
            "everybody spoke {x} .",
            "my friend had to learn {x} .",
            "i learned {x} last year .",
            "{x} is a beautiful language .",
            "{x} is the language we spoke .",
        ),
        closers=(
            "i stayed in {y}",
            "when i went to {y}",
            "because my friend lives in {y}",
            "i could not enjoy it , but it is spoken in {y}",
            "we still don't understand why everybody there comes from {y}",
        ),
    ),
}
HELD_OUT_TEMPLATES = {
    PLACE_TO_LANGUAGE: Templates(
        short=(
            "my friend in {x} speaks {y}",
            "in {x} everybody spoke {y}",
            "in {x} my friend speaks {y}",
            "in {x} they still speak {y}",
            "in {x} everybody there spoke {y}",
        ),
        openers=("we stayed in {x} .", "{x} is a beautiful place ."),
        closers=(
            "where everybody spoke {y}",
            "but my friend could not understand {y}",
            "i went there last year , but i could not enjoy it properly because"
            " i don't understand {y}",
        ),
    ),
    LANGUAGE_TO_PLACE: Templates(
        short=(
            "they spoke {x} in {y}",
            "my friend spoke {x} only in {y}",
            "{x} is spoken in {y}",
        ),
        openers=("my friend learned {x} .", "{x} is the language i learned last year ."),
        closers=(
            "we went to {y}",
            "we could not understand it properly , but my friend lives in {y}",
        ),
    ),
}


def as_word(name: str) -> str:
    """Write a name as one word, so that its distance to others is defined: ``tamil_nadu``."""
    return re.sub(r" \(.*\)", "", name).lower().replace(" ", "_")


def load_facts() -> list[tuple[str, str]]:
    """Return (place, language) pairs: the states above, and countries with one language.

    A country counts if CLDR gives it exactly one official language, at least half of its people
    use that language, and it is the country that CLDR thinks of first for that language.
    """
    try:
        from babel import Locale
        from babel.core import get_global
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"place_language: the facts come from CLDR, and {error.name} is not installed; "
            "run `pip install babel`."
        ) from error
    english = Locale("en")
    facts = [(place, english.languages[code]) for place, code in INDIAN_STATES.items()]
    likely = get_global("likely_subtags")
    for territory, languages in sorted(get_global("territory_languages").items()):
        official = [
            code
            for code, language in languages.items()
            if language["official_status"] in ("official", "de_facto_official")
        ]
        if len(official) != 1 or languages[official[0]]["population_percent"] < 50:
            continue
        if likely.get(official[0], "").endswith(f"_{territory}"):
            facts.append((english.territories[territory], english.languages[official[0]]))
    return [(as_word(place), as_word(language)) for place, language in facts]


def load_running_text(path: Path | None = None) -> list[str]:
    """Return the words of a text file, or of the language reference that comes with Python."""
    if path is not None:
        paragraphs = re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))
    else:
        from pydoc_data.topics import topics

        paragraphs = [part for name in sorted(topics) for part in topics[name].split("\n\n")]
    # The topics quote each other; a paragraph counts once, or held-out text would be trained on.
    distinct = dict.fromkeys(" ".join(part.lower().split()) for part in paragraphs)
    return [word for part in distinct if not NOT_PROSE.search(part) for word in WORD.findall(part)]


@dataclass(frozen=True)
class Sentences:
    """Everything sentences are made of, for training or held out."""

    templates: dict[str, Templates]
    text: list[str]
    answers: dict[str, list[tuple[str, str]]]  # by direction: (given word, word that follows)


@dataclass(frozen=True)
class Sentence:
    """One sentence, and where in it the two words stand."""

    words: list[str]
    given_at: int
    answer_at: int


def build_answers(facts: Sequence[tuple[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Return the questions of each direction; a language of two places asks for neither."""
    places = Counter(language for _, language in facts)
    return {
        PLACE_TO_LANGUAGE: list(facts),
        LANGUAGE_TO_PLACE: [
            (language, place) for place, language in facts if places[language] == 1
        ],
    }


def load_data(path: Path | None = None) -> tuple[Sentences, Sentences]:
    """Return what training sentences are made of, and the held-out ones: the last fifth of text."""
    answers = build_answers(load_facts())
    words = load_running_text(path)
    names = {name for pairs in answers.values() for pair in pairs for name in pair}
    words = [word for word in words if word not in names]  # no answer by accident
    cut = len(words) * 4 // 5
    return (
        Sentences(TRAINING_TEMPLATES, words[:cut], answers),
        Sentences(HELD_OUT_TEMPLATES, words[cut:], answers),
    )


LEAD = 4  # words before the given one in the longest template
TAIL = 3  # words after the answer, so that the answer is not always the last word


def words_apart(template: str) -> int:
    """Return how many words after the given one the answer stands in a template."""
    words = template.split()
    return words.index("{y}") - words.index("{x}")


def make_sentence(
    data: Sentences, *, direction: str, distance: int, rng: random.Random
) -> Sentence:
    """Write one sentence of ``LEAD + distance + TAIL`` words, the two words ``distance`` apart."""
    if distance < 2:
        raise ValueError(
            f"make_sentence: `distance` must be at least 2 words, got {distance}; in the shortest "
            "sentence one word stands between the two, so choose 2 or more."
        )
    templates = data.templates[direction]
    long = [f"{first} ... {last}" for first in templates.openers for last in templates.closers]
    # The running text, "...", may be empty: then the two words stand `words_apart` - 1 apart.
    fitting = [t for t in templates.short if words_apart(t) == distance]
    fitting += [t for t in long if words_apart(t) - 1 <= distance]
    template = rng.choice(fitting)
    given, answer = rng.choice(data.answers[direction])

    length = LEAD + distance + TAIL
    if len(data.text) <= length:
        raise ValueError(
            f"make_sentence: `distance` {distance} needs more than {length} words of running text, "
            f"got {len(data.text)}; choose a longer --text."
        )
    start = rng.randrange(len(data.text) - length)
    text = iter(data.text[start : start + length])
    words: list[str] = []
    for word in (*template.split(), "."):
        if word == "...":
            words += [next(text) for _ in range(distance - words_apart(template) + 1)]
        else:
            words.append({"{x}": given, "{y}": answer}.get(word, word))
    words += [next(text) for _ in range(length - len(words))]
    given_at = template.split().index("{x}")
    return Sentence(words, given_at, given_at + distance)


def build_vocabulary(data: Sentences, size: int) -> dict[str, int]:
    """Number the words: unknown, all names, all template words, the ``size`` commonest others."""
    names = [name for pairs in data.answers.values() for pair in pairs for name in pair]
    templates = " ".join(
        " ".join((*t.short, *t.openers, *t.closers)) for t in data.templates.values()
    )
    common = [word for word, _ in Counter(data.text).most_common(size)]
    words = dict.fromkeys([UNKNOWN, *names, *templates.split(), *common])
    return {word: number for number, word in enumerate(w for w in words if w not in ("{x}", "{y}"))}


@dataclass(frozen=True)
class Batch:
    """Sentences of one length as numbers."""

    inputs: Tensor  # (B, T) words
    targets: Tensor  # (B, T) the word after each
    answer_at: Tensor  # (B,) the step at which the answer is the target
    reverse: Tensor  # (B,) True where a language asks for its place


def make_batch(
    data: Sentences, vocabulary: dict[str, int], *, distance: int, batch: int, rng: random.Random
) -> Batch:
    """Write ``batch`` sentences of one distance, both directions equally often."""
    directions = [DIRECTIONS[index % 2] for index in range(batch)]
    sentences = [make_sentence(data, direction=d, distance=distance, rng=rng) for d in directions]
    words = torch.tensor([[vocabulary.get(w, 0) for w in s.words] for s in sentences])
    return Batch(
        inputs=words[:, :-1],
        targets=words[:, 1:],
        answer_at=torch.tensor([s.answer_at - 1 for s in sentences]),
        reverse=torch.tensor([d == LANGUAGE_TO_PLACE for d in directions]),
    )


class PlaceLanguage(nn.Module):
    """Embedding, one recurrent layer and a linear head that scores every word."""

    def __init__(self, vocab_size: int, *, cell: str, hidden: int, max_distance: int) -> None:
        super().__init__()
        kind = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM, "chrono": nn.LSTM}[cell]
        self.embedding = nn.Embedding(vocab_size, hidden)
        self.rnn = kind(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, vocab_size)
        if cell == "chrono":
            self.set_chrono_biases(max_distance)

    @torch.no_grad()
    def set_chrono_biases(self, max_distance: int) -> None:
        """Spread the forgetting times over the distances (Tallec & Ollivier 2018, section 2)."""
        hidden = self.rnn.hidden_size
        forget = torch.empty(hidden).uniform_(1, max_distance - 1).log()
        self.rnn.bias_hh_l0[: 2 * hidden] = 0
        self.rnn.bias_ih_l0[: 2 * hidden] = torch.cat([-forget, forget])  # gates i, f, g, o

    def forward(self, words: Tensor) -> Tensor:
        """Score the word after each of ``words``: ``(B, T)`` to logits ``(B, T, V)``."""
        output, _ = self.rnn(self.embedding(words))
        logits: Tensor = self.head(output)
        return logits


def build_model(args: argparse.Namespace, vocab_size: int) -> PlaceLanguage:
    """Build the network that the options ask for."""
    return PlaceLanguage(
        vocab_size, cell=args.cell, hidden=args.hidden, max_distance=max(args.train_distances)
    )


def next_word_loss(model: nn.Module, batch: Batch, answer_weight: float) -> Tensor:
    """Return the cross-entropy over all words plus the answers' own, in nats per word."""
    logits = model(batch.inputs)
    rows = torch.arange(len(logits))
    every_word = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    answers = F.cross_entropy(logits[rows, batch.answer_at], batch.targets[rows, batch.answer_at])
    return every_word + answer_weight * answers


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    clip: float,
    answer_weight: float,
) -> float:
    """Take one optimizer step and return the loss before it."""
    model.train()
    optimizer.zero_grad()
    loss = next_word_loss(model, batch, answer_weight)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def accuracy(model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Return how often the best-scored of *all* words is the answer, by direction."""
    model.eval()
    rows = torch.arange(len(batch.inputs))
    logits = model(batch.inputs)[rows, batch.answer_at]
    right = (logits.argmax(-1) == batch.targets[rows, batch.answer_at]).float()
    return right[~batch.reverse].mean().item(), right[batch.reverse].mean().item()


def baselines(batch: Batch) -> tuple[float, float]:
    """Return the accuracy of the commonest answer, and of a random one, over both directions."""
    majority = chance = 0.0
    for side in (~batch.reverse, batch.reverse):
        rows = side.nonzero().squeeze(1)
        _, counts = batch.targets[rows, batch.answer_at[rows]].unique(return_counts=True)
        majority += counts.max().item() / len(rows) / 2
        chance += 1 / len(counts) / 2
    return majority, chance


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="A place decides a language many words later.")
    parser.add_argument("--cell", choices=["rnn", "gru", "lstm", "chrono"], default="rnn")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--answer-weight", type=float, default=2.0)
    parser.add_argument("--train-distances", type=int, nargs="+", default=[2, 4, 10, 50, 100])
    parser.add_argument("--distances", type=int, nargs="+", default=[2, 4, 10, 50, 100])
    parser.add_argument("--common-words", type=int, default=300, help="of the running text")
    parser.add_argument("--text", type=Path, help="a text file to take the running text from")
    parser.add_argument("--test-sentences", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=500)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train on all distances at once, then report the accuracy at each."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    train, held_out = load_data(args.text)
    vocabulary = build_vocabulary(train, args.common_words)
    model = build_model(args, len(vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    print(
        f"{len(train.answers[PLACE_TO_LANGUAGE])} places, {len(train.text)} words of running text "
        f"for training, {len(held_out.text)} held out, {len(vocabulary)} different"
    )

    started = time.perf_counter()
    for step in range(1, args.steps + 1):
        distance = rng.choice(args.train_distances)
        batch = make_batch(train, vocabulary, distance=distance, batch=args.batch, rng=rng)
        loss = train_step(model, optimizer, batch, clip=args.clip, answer_weight=args.answer_weight)
        if step % args.log_every == 0 or step == args.steps:
            print(f"step {step:5d}  distance {distance:3d}  loss {loss:.3f}", flush=True)
    print(f"{args.steps} steps in {time.perf_counter() - started:.0f} s")

    print(f"{'distance':>8}  {DIRECTIONS[0]}  {DIRECTIONS[1]}  majority  chance")
    for distance in args.distances:
        test = make_batch(
            held_out,
            vocabulary,
            distance=distance,
            batch=args.test_sentences,
            rng=random.Random(f"test {distance}"),
        )
        forward, backward = accuracy(model, test)
        majority, chance = baselines(test)
        print(f"{distance:8d}  {forward:17.3f}  {backward:17.3f}  {majority:8.3f}  {chance:6.3f}")


if __name__ == "__main__":
    main()
