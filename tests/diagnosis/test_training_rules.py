"""Each rule over training at its threshold, on histories written by hand."""

from __future__ import annotations

import numpy as np
import pytest
from tests.diagnosis.histories_by_hand import found_in_batch, history_of, probe, sample

import gradreach as gr
from gradreach.records import Event, History, LayerSample, Sample

FALLING = 0.99 ** np.arange(200)
FLAT = np.ones(200)
STEPS = (0, 1, 2, 50, 100, 150)


def told(history: History, **how: int) -> list[tuple[str, str]]:
    return [(found.code, found.severity) for found in gr.diagnose(history, **how)]


def one(history: History) -> gr.Finding:
    (found,) = gr.diagnose(history)
    return found


def too_long(alpha: float) -> float:
    """Lowest at a tenth of the step; 1.5 times as high after it."""
    return 1 - 0.2 * 10 * alpha + 2.5 * alpha**2


def too_short(alpha: float) -> float:
    return 1 - 0.001 * alpha


def right(alpha: float) -> float:
    return 1 - 0.3 * alpha + 0.15 * alpha**2


def probes(along, steps=STEPS):
    return tuple(probe(step, along) for step in steps)


# ------------------------------------------------------------------ too short, healthy


@pytest.mark.parametrize(("steps", "expected"), [(0, True), (39, True), (40, False)])
def test_short_training_gets_no_verdict_but_the_number_of_steps_needed(steps, expected):
    found = gr.diagnose(history_of(FALLING[:steps]))

    assert [each.code for each in found] == (["blind-probe"] if expected else [])
    assert all("40 are needed" in each.cause for each in found)


def test_falling_loss_is_healthy():
    assert told(history_of(FALLING, probes=probes(right))) == []


def test_empty_history_raises_nothing():
    assert told(History(rows={})) == [("blind-probe", "note")]


# ------------------------------------------------------------------ learning rate


@pytest.mark.parametrize(
    ("end", "expected"), [(0.49, []), (0.51, [("learning-rate-too-high", "warning")])]
)
def test_too_long_steps_are_a_fault_only_with_nothing_to_show_for_them(end, expected):
    loss = np.concatenate([np.ones(50), np.linspace(1, end, 100), np.full(50, end)])

    assert told(history_of(loss, probes=probes(too_long))) == expected


def test_loss_above_its_start_for_too_long_steps_is_an_error():
    found = one(history_of(np.linspace(1, 9, 200), probes=probes(too_long)))

    assert (found.code, found.severity) == ("learning-rate-too-high", "error")
    assert found.numbers["best_scale"] == 0.1
    assert found.explains == ("stagnated-training",)


def test_steps_of_the_right_length_are_no_fault_whatever_the_loss_does():
    assert told(history_of(np.linspace(1, 9, 200), probes=probes(right))) == [
        ("stagnated-training", "note")
    ]


def test_probe_of_another_batch_does_not_count():
    foreign = tuple(
        gr_probe.__class__(step=gr_probe.step, scales=gr_probe.scales, losses=gr_probe.losses,
                           slope=-1.0, mismatch=0.9)
        for gr_probe in probes(too_long)
    )  # fmt: skip

    assert ("learning-rate-too-high", "error") not in told(
        history_of(np.linspace(1, 9, 200), probes=foreign)
    )


def test_without_probes_too_long_steps_are_an_unverified_note():
    loss = np.concatenate([[1.0], np.full(199, 5.0)])
    found = gr.diagnose(history_of(loss, update_norm=8.0))

    high = next(each for each in found if each.code == "learning-rate-too-high")
    assert high.severity == "note"
    assert "unverified" in high.cause


@pytest.mark.parametrize(
    ("left", "expected"), [(0.55, []), (0.9, [("learning-rate-too-low", "warning")])]
)
def test_too_short_steps_are_a_fault_where_most_of_the_loss_is_left(left, expected):
    loss = np.linspace(1, 2 * left - 1, 200)
    alarms = [each for each in told(history_of(loss, probes=probes(too_short)))
              if each[1] != "note"]  # fmt: skip

    assert alarms == expected


def test_too_short_steps_explain_that_the_loss_stands_still():
    found = one(history_of(np.linspace(1, 0.99, 200), probes=probes(too_short)))

    assert found.code == "learning-rate-too-low"
    assert found.numbers["explains"][0]["numbers"]["because"] == "learning-rate-too-low"
    assert found.numbers["best_scale"] == 100.0


def test_without_probes_too_short_steps_are_an_unverified_note():
    found = gr.diagnose(history_of(FLAT, update_norm=1e-5, gradient_cosine=0.9))

    assert ("learning-rate-too-low", "note") in [(each.code, each.severity) for each in found]


# ------------------------------------------------------------------ stagnation, five reasons


def because(history: History) -> str:
    for found in gr.diagnose(history):
        if found.code == "stagnated-training":
            return found.numbers["because"]
        for symptom in found.numbers.get("explains", ()):
            if symptom["code"] == "stagnated-training":
                return symptom["numbers"]["because"]
    return "no stagnation"


def in_every_sample(*codes: str):
    return tuple(sample(step, *map(found_in_batch, codes)) for step in STEPS)


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        (history_of(FLAT, samples=in_every_sample("vanishing-gradient")),
         "nothing-reaches-the-past"),
        (history_of(FLAT, samples=in_every_sample("truncated-gradient")),
         "nothing-reaches-the-past"),
        (history_of(FLAT, samples=in_every_sample("exploding-gradient")),
         "updates-undo-each-other"),
        (history_of(FLAT, probes=probes(too_long)), "updates-undo-each-other"),
        (history_of(FLAT, samples=in_every_sample("dead-units")), "dead-units"),
        (history_of(FLAT, probes=probes(too_short)), "learning-rate-too-low"),
        (history_of([1.0] * 50 + [0.04] * 150, samples=in_every_sample("vanishing-gradient")),
         "solved"),
        (history_of(FLAT, gradient_cosine=0.0), "noise-floor"),
        (history_of(FLAT, gradient_cosine=-0.9, probes=probes(right)), "batches-contradict"),
        (history_of(FLAT), "unexplained"),
        (history_of(FALLING), "no stagnation"),
    ],
)  # fmt: skip
def test_stagnation_names_its_reason(history, reason):
    assert because(history) == reason


@pytest.mark.parametrize(
    "code", ["truncated-gradient", "dead-units", "closed-gate", "exploding-gradient"]
)
def test_cause_seen_in_the_samples_carries_the_stagnation(code):
    found = one(history_of(FLAT, samples=in_every_sample(code)))

    assert (found.code, found.explains) == (code, ("stagnated-training",))


@pytest.mark.parametrize(("fall", "flat"), [(0.019, True), (0.021, False)])
def test_loss_stands_still_below_two_percent_from_quarter_to_quarter(fall, flat):
    loss = np.concatenate([np.full(150, 1.0), np.full(50, 1 - fall)])

    assert (because(history_of(loss)) != "no stagnation") is flat


# ------------------------------------------------------------------ what samples show, in time


def test_finding_of_few_late_samples_is_none_of_the_training():
    samples = tuple(sample(step, *([found_in_batch("closed-gate")] if step == 100 else []))
                    for step in STEPS)  # fmt: skip

    often = tuple(sample(step, *([found_in_batch("closed-gate")] if step != 100 else []))
                  for step in STEPS)  # fmt: skip

    assert told(history_of(FALLING, samples=often)) == [("closed-gate", "warning")]
    assert told(history_of(FALLING, samples=(*samples, sample(120), sample(140)))) == []


def test_what_arose_under_too_long_steps_is_their_doing():
    samples = (sample(0), *(sample(step, found_in_batch("dead-units")) for step in STEPS[1:]))
    history = history_of(np.linspace(1, 9, 200), samples=samples, probes=probes(too_long))

    found = one(history)

    assert found.code == "learning-rate-too-high"
    assert set(found.explains) == {"dead-units", "stagnated-training"}


def test_what_was_there_before_any_update_is_not_their_doing():
    history = history_of(np.linspace(1, 9, 200), samples=in_every_sample("dead-units"),
                         probes=probes(too_long))  # fmt: skip

    assert [code for code, _ in told(history)] == ["learning-rate-too-high", "dead-units"]


def test_exploding_recurrence_explains_steps_that_are_too_long():
    history = history_of(np.linspace(1, 9, 200), samples=in_every_sample("exploding-gradient"),
                         probes=probes(too_long))  # fmt: skip

    found = one(history)

    assert found.code == "exploding-gradient"
    assert set(found.explains) == {"learning-rate-too-high", "stagnated-training"}


def test_short_reach_is_a_note_where_the_task_is_solved_with_it():
    loss = [1.0] * 50 + [0.04] * 150
    history = history_of(loss, samples=in_every_sample("vanishing-gradient"))

    assert told(history) == [("vanishing-gradient", "note"), ("stagnated-training", "note")]
    assert ("vanishing-gradient", "warning") in told(history, needs_lag=50)


# ------------------------------------------------------------------ not finite


def test_nan_out_of_nowhere_is_the_data_and_names_its_step_and_place():
    loss = np.where(np.arange(60) < 50, 1.0, np.nan)
    event = Event(kind="nonfinite", step=50, text="parameter rnn.weight_hh_l0, step 7, row 3")
    found = one(history_of(loss, nonfinite=np.where(np.arange(60) < 50, 0, 9), events=(event,)))

    assert (found.code, found.severity) == ("nonfinite-value", "error")
    assert found.numbers["step"] == 50
    assert found.numbers["because"] == "sudden"
    assert "step 7, row 3" in found.cause


def test_nan_that_the_loss_grew_into_is_the_end_of_too_long_steps():
    loss = np.array([1.0, 10.0, 1e4, 1e9, np.nan, np.nan])
    norms = np.array([1.0, 10.0, 1e4, 1e9, np.nan, np.nan])
    history = history_of(loss, gradient_norm=norms, nonfinite=[0, 0, 0, 0, 9, 9],
                         probes=probes(too_long, (0, 1, 2)))  # fmt: skip

    found = one(history)

    assert found.code == "learning-rate-too-high"
    assert found.explains == ("nonfinite-value",)


@pytest.mark.parametrize(("skipped", "severity"), [(2, "note"), (40, "warning")])
def test_steps_that_were_not_taken_are_a_note_unless_there_are_many(skipped, severity):
    bad = np.arange(200) < skipped
    history = history_of(FALLING, nonfinite=bad * 5.0, taken=1.0 - bad)

    assert told(history) == [("nonfinite-value", severity)]


# ------------------------------------------------------------------ clipping


@pytest.mark.parametrize(
    ("order", "seen", "expected", "reason"),
    [
        (2, 0.0, "error", "before backward"),
        (3, 65536.0, "error", "before unscale"),
        (1, 0.99, "note", "never reached"),
        (1, 99.0, None, None),
        (1, 101.0, "warning", "always by a large factor"),
    ],
)
def test_clipping_that_does_nothing_is_told_apart(order, seen, expected, reason):
    history = history_of(FALLING, clip_calls=1.0, clip_order=order, clip_threshold=1.0,
                         clip_seen=seen)  # fmt: skip

    found = gr.diagnose(history)

    assert [(each.code, each.severity, each.numbers["because"]) for each in found] == (
        [("ineffective-clipping", expected, reason)] if expected else []
    )


def test_clipping_tells_threshold_share_and_norms():
    seen = np.where(np.arange(200) % 4 == 0, 3.0, 300.0)
    history = history_of(FALLING, clip_calls=1.0, clip_order=1, clip_threshold=0.5,
                         clip_seen=200.0 * seen, gradient_norm=seen, clipped_norm=0.5)  # fmt: skip

    found = one(history)

    assert found.numbers["threshold"] == 0.5
    assert found.numbers["share_clipped"] == 1.0
    assert (found.numbers["norm_before"], found.numbers["norm_after"]) == (300.0, 0.5)


def test_hundredfold_clipping_explains_steps_that_are_too_short():
    history = history_of(FLAT, clip_calls=1.0, clip_order=1, clip_threshold=1.0, clip_seen=1e4,
                         probes=probes(too_short))  # fmt: skip

    found = one(history)

    assert found.code == "ineffective-clipping"
    assert set(found.explains) == {"learning-rate-too-low", "stagnated-training"}


# ------------------------------------------------------------------ single updates, swings


@pytest.mark.parametrize(
    ("length", "after", "expected"),
    [
        (9.0, 3.0, []),
        (11.0, 3.0, [("exploding-update", "warning")]),
        (11.0, 0.4, []),
    ],
)
def test_single_long_update_is_a_fault_where_the_loss_is_worse_for_it(length, after, expected):
    steps = np.arange(200)
    loss = np.where(steps <= 150, FALLING, after * np.maximum(0.99 ** (steps - 150), 0.1))
    history = history_of(loss, update_norm=np.where(steps == 150, length * 0.01, 0.01))

    assert [each for each in told(history) if each[1] != "note"] == expected


def test_swings_from_step_to_step_are_told_apart_from_the_noise_of_batches():
    noise = np.random.default_rng(0).normal(size=200)
    swings = 1.0 + 0.3 * np.where(np.arange(200) % 2, 1.0, -1.0) + 0.01 * noise

    assert told(history_of(swings, gradient_cosine=0.0))[0] == ("oscillating-loss", "warning")
    assert told(history_of(1.0 + 0.3 * noise, gradient_cosine=0.0)) == [
        ("stagnated-training", "note")
    ]


def test_slow_swings_are_momentum_and_tell_their_period():
    found = gr.diagnose(
        history_of(1.0 + 0.5 * np.sin(np.arange(300) * 2 * np.pi / 30), update_cosine=0.9)
    )[0]

    assert found.code == "oscillating-loss"
    assert found.numbers["because"] == "momentum"
    assert abs(found.numbers["period"] - 30) <= 3


# ------------------------------------------------------------------ scale, and the record


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_verdict_over_training_is_free_of_the_scale_of_the_loss(factor):
    def scaled(along):
        return lambda alpha: factor * along(alpha)

    for loss, along in ((FLAT, too_short), (np.linspace(1, 9, 200), too_long), (FALLING, right)):
        plain = history_of(loss, probes=probes(along))
        other = history_of(factor * loss, gradient_norm=factor, clipped_norm=factor,
                           probes=probes(scaled(along)))  # fmt: skip

        assert told(plain) == told(other)


def test_diagnosis_of_a_loaded_history_is_the_same():
    history = history_of(np.linspace(1, 9, 200), samples=in_every_sample("exploding-gradient"),
                         probes=probes(too_long))  # fmt: skip

    assert gr.diagnose(History.from_dict(history.to_dict())) == gr.diagnose(history)


def test_finding_of_a_model_that_was_trained_before_another_is_kept():
    """Of the first model there are no samples late in the run."""
    cut = gr.Finding(
        code="vanishing-gradient", severity="warning", cause="", counter_check="", layer="a.l0"
    )
    layer = LayerSample(
        kind="tanh", norms=np.ones(3), lag_profile=np.ones(3), reach=3, decay_per_step=1.0,
        dead=0.0, saturated=0.0,
    )  # fmt: skip
    samples = [
        Sample(step=n, number=n, reason="cadence", layers={name: layer}, findings=found)
        for n, (name, found) in enumerate([("a.l0", (cut,))] * 4 + [("b.l0", ())] * 12)
    ]

    found = gr.diagnose(History(rows={}, samples=tuple(samples)))

    assert [each.code for each in found if each.severity == "warning"] == ["vanishing-gradient"]


@pytest.mark.parametrize(("seen", "first"), [(1.0, "learning_rate"), (50.0, "clipping")])
def test_too_short_steps_name_the_clipping_that_shortens_them(seen, first):
    clips = {"clip_calls": 1.0, "clip_order": 1.0, "clip_threshold": 1.0, "clip_seen": seen}

    found = gr.diagnose(history_of(np.linspace(1, 0.99, 200), probes=probes(too_short), **clips))

    assert [each.remedies[0] for each in found if each.code == "learning-rate-too-low"] == [first]
