"""The playground in a real Chromium: its story holds, it asks for nothing, it can be worked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose
from tests.playground.engine import CHROMIUM, chromium_or_skip

from gradreach.flow.scalar_bptt import ScalarWeights, terms, unroll
from gradreach.report.playground.page import playground_page

SETTLED = "html[data-settled=true]"
QUICK = "#preset=relu-exactly-one"  # it trains nothing
P = "gradreachPlayground"


@dataclass
class Opened:
    """One page and everything it has said and asked for."""

    page: Any
    address: str
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def at(self, fragment: str = "") -> Any:
        self.page.goto("about:blank")
        self.page.goto(self.address + fragment)
        self.page.wait_for_selector(SETTLED, timeout=60_000)
        return self.page


@pytest.fixture(scope="module")
def chromium(request: pytest.FixtureRequest) -> Iterator[Any]:
    def lacks(what: str) -> None:
        if request.config.getoption("--require-all"):
            pytest.fail(f"machine lacks {what} (--require-all)", pytrace=False)
        pytest.skip(f"machine lacks {what}")

    sync_api = chromium_or_skip(lacks)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    path = tmp_path_factory.mktemp("playground") / "playground.html"
    path.write_text(playground_page(version="test"), encoding="utf-8")
    with open_page(chromium, path, width=1280) as own:
        yield own


class open_page:  # noqa: N801 - reads as the call it is
    """Open the page in a window of a width; at the end it must have been silent."""

    def __init__(self, browser: Any, path: Path, width: int) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        page = self.context.new_page()
        self.own = Opened(page, path.as_uri())
        page.on("console", lambda message: self.own.said.append(message.text))
        page.on("pageerror", lambda error: self.own.said.append(str(error)))
        page.on("dialog", lambda dialog: (self.own.said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.own.asked.append(request.url))

    def __enter__(self) -> Opened:
        return self.own

    def __exit__(self, *_: object) -> None:
        self.context.close()


def told(page: Any) -> tuple[str, str, str, str]:
    texts = ("flow-badge", "flow-text", "training-badge", "training-text")
    badge, text, training_badge, training_text = (page.inner_text(f"#{name}") for name in texts)
    return badge, text, training_badge, training_text


# Badge of the gradient, what its sentence says; badge of the training, what its sentence says.
STORY = {
    "three-weights": (
        "Reaches the first step", "0.188", "Stops at a floor",
        "not without a bias: 000 gives 0.5 whatever the weights",
    ),
    "one-bias": (
        "Reaches the first step", "geometric mean", "Learns",
        "with one hidden bias 5 of 5 seeds learn all four",
    ),
    "vanishing": (
        "Vanishes", "99 steps back 5.57e−36", "Stays at chance",
        "its gradient does not vanish, the long-term summands do",
    ),
    "saturated": (
        "Vanishes", "w=3 vanishes in saturation", "Stays at chance", "short-term ones dominate",
    ),
    "blind-network": (
        "Vanishes", "19 steps back 7.28e−5", "Stays at chance", "8 of 16 right",
    ),
    "activation": ("Reaches the first step", "a dead unit contributes 0", "Learns", "all 16"),
    "initialisation": ("Reaches the first step", "W does; diag(phi') shrinks", "Learns", "all 16"),
    "residual": ("Explodes", "h_{t-1} is added", "Learns", "clipping bounds the step only"),
    "skip": ("Reaches the first step", "h_{t-8} is added", "Learns", "all 16"),
    "lstm": ("Reaches the first step", "by the additive cell", "Learns", "all 16"),
    "gru": ("Reaches the first step", "the gate z keeps", "Learns", "all 16"),
    "relu-exactly-one": ("Preserved", "1 preserves, above 1 grows as w_h^T", "Not trained", ""),
    "relu-above-one": ("Explodes", "2.71e17", "Dead", "a dead unit contributes 0"),
    "explosion": ("Explodes", "834 times", "Diverges", "dominated by the long product"),
    "clipping": ("Explodes", "834 times", "Learns", "clipping bounds the step only"),
    "learning-rate": ("Explodes", "834 times", "Learns", "all 16"),
    "lstm-instead": ("Reaches the first step", "by the additive cell", "Learns", "all 16"),
}  # fmt: skip


def test_story_has_no_page_that_is_not_tested(opened):
    page = opened.at()

    assert page.evaluate(f"{P}.PRESETS.map((preset) => preset.id)") == list(STORY)


@pytest.mark.parametrize("preset", STORY)
def test_preset_comes_to_its_stated_outcome(preset, opened):
    page = opened.at(f"#preset={preset}")

    badge, text, training_badge, training_text = told(page)

    wanted = STORY[preset]
    assert (badge, training_badge) == (wanted[0], wanted[2])
    assert wanted[1] in text
    assert wanted[3] in training_text
    assert training_text in page.inner_text("#announce") or page.text_content("#announce")


def test_words_in_quotation_marks_are_those_of_the_guide(opened):
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "playground.md").read_text("utf-8")
    words = opened.at(QUICK).evaluate(f"Object.values({P}.WORDS)")

    assert len(words) == 14
    assert [quote for quote in words if f"| {quote} |" not in guide] == []


def test_page_is_silent_and_asks_for_nothing(opened):
    assert opened.said == []
    assert {url.partition("#")[0] for url in opened.asked} <= {opened.address, "about:blank"}


def test_numbers_shown_are_those_of_scalar_bptt(opened):
    page = opened.at("#preset=vanishing&T=40&w_h=1.25&w_in=-0.5&w_out=2&b=0.3&of=w_h&epochs=0")
    flow = page.evaluate(f"{P}.compute({P}.shown.settings)")

    page.click("#network summary")
    rows = page.locator("#steps-table tbody tr")

    run = unroll(ScalarWeights(-0.5, 1.25, 2.0, 0.3), flow["inputs"], flow["target"])
    apart = terms(run, "w_h")
    assert_allclose(flow["terms"]["w_h"]["share"], apart.shares, atol=1e-6)
    assert_allclose(flow["products"]["log10"], apart.products.log10, atol=1e-6)
    assert rows.count() == 40
    assert rows.nth(39).locator("td").nth(3).inner_text() == "1"
    cell = rows.nth(10).locator("td").nth(3).inner_text().replace("−", "-")
    assert_allclose(float(cell), apart.products.values[10], rtol=6e-3)


def test_pictures_draw_what_was_computed(opened):
    page = opened.at("#preset=blind-network&epochs=0")
    flow = page.evaluate(f"{P}.compute({P}.shown.settings)")

    circles = page.locator("#product svg circle")
    bars = page.locator("#terms svg rect")

    assert circles.count() == bars.count() == 20
    heights = [float(circles.nth(k).get_attribute("cy")) for k in range(20)]
    log10 = flow["products"]["log10"]
    scale = (heights[0] - heights[-1]) / (log10[-1] - log10[0])
    assert_allclose([heights[-1] - log * scale for log in log10], heights, atol=0.1)
    assert page.locator("#network svg text", has_text="…").count() == 1


def test_address_holds_what_is_shown_and_brings_it_back(opened):
    page = opened.at("#preset=blind-network&epochs=10")
    page.fill("#n-w_h", "0.63")
    page.press("#n-w_h", "Enter")
    page.check("#c-residual")
    page.check("#of-b")
    page.wait_for_selector(SETTLED)
    page.fill("#epoch", "7")
    page.wait_for_timeout(400)
    shared = page.evaluate("location.hash")

    assert shared == "#preset=blind-network&w_h=0.63&residual=1&epochs=10&of=b&epoch=7"
    before = told(page)

    again = opened.at(shared)

    assert told(again) == before
    assert again.evaluate(f"{P}.shown.epoch") == 7
    assert again.is_checked("#of-b")
    assert again.inner_text("#flow-text").startswith("After epoch 7: ")


HOSTILE = [
    "#preset=<img src=x onerror=alert(1)>",
    "#preset=__proto__&cell=constructor",
    "#preset=relu-exactly-one&T=1e9&w_h=NaN&units=-3&epochs=Infinity",
    "#preset=relu-exactly-one&w_h=0x10&seed=1;alert(1)&b=%3Cscript%3Ealert(1)%3C/script%3E",
    "#preset=relu-exactly-one&__proto__=1&constructor=1&toString=1&hasOwnProperty=0",
    "#javascript:alert(1)",
    "#%00%ff%E2%80%AE&&&===&=",
    "#preset=relu-exactly-one&epoch=-5&of=__proto__&cell=rnn%22onload=alert(1)",
    "#" + "a=1&" * 30_000,
    "#preset=relu-exactly-one&T=" + "9" * 5_000,
]


def test_hostile_address_changes_nothing(opened):
    first = f"JSON.stringify({P}.PRESETS[0].settings)"
    quick = f"JSON.stringify({P}.PRESETS.find((each) => each.id === '{QUICK[8:]}').settings)"

    for hostile in HOSTILE:
        page = opened.at(hostile)

        wanted = page.evaluate(quick if "preset=relu" in hostile else first)
        assert page.evaluate(f"JSON.stringify({P}.shown.settings)") == wanted
        assert page.evaluate(f"{P}.shown.epoch") == 0
        assert page.locator("main script, main img, nav img, nav script").count() == 0
        assert page.evaluate("({}).polluted === undefined && ({}).T === undefined")
        assert opened.said == []


def test_address_changed_by_hand_is_followed(opened):
    page = opened.at(QUICK)

    page.evaluate(
        "() => new Promise((done) => { addEventListener('hashchange', () => setTimeout(done, 0),"
        " { once: true }); location.hash = '#preset=relu-exactly-one&T=7&w_h=2'; })"
    )

    assert page.evaluate(f"{P}.shown.settings.T") == 7
    assert page.inner_text("#flow-badge") == "Explodes"


def test_values_typed_out_of_range_fall_back_to_what_was_there(opened):
    page = opened.at(QUICK)

    for typed in ("1e99", "", "0", "201"):
        page.locator("#n-T").evaluate("(box, text) => { box.value = text; }", typed)
        page.locator("#n-T").dispatch_event("change")
        assert page.input_value("#n-T") == "100"

    page.fill("#n-T", "12")
    page.press("#n-T", "Enter")
    assert page.evaluate(f"{P}.shown.settings.T") == 12


def test_page_can_be_worked_by_keyboard_alone(opened):
    page = opened.at(QUICK)
    seen: dict[str, str] = {}
    for _ in range(140):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.textContent")
        if name in seen:
            break
        seen[name] = page.evaluate(
            "(() => { const e = document.activeElement, labels = [...(e.labels || [])];"
            " return e.getAttribute('aria-label') || labels.map((l) => l.textContent).join(' ')"
            " || (e.getAttribute('aria-labelledby') || '').split(' ').map((id) =>"
            " id && document.getElementById(id).textContent).join('') || e.textContent; })()"
        )

    controls = page.evaluate(
        "[...document.querySelectorAll('button, select, input')].filter((e) => !e.disabled"
        " && e.type !== 'radio').map((e) => e.id)"
    )
    assert set(controls) <= set(seen)
    assert all(label.strip() for label in seen.values()), seen

    page.focus("#c-w_h")
    before = page.input_value("#n-w_h")
    page.keyboard.press("ArrowRight")
    assert float(page.input_value("#n-w_h")) == pytest.approx(float(before) + 0.01)
    page.focus("#next")
    page.keyboard.press("Enter")
    page.wait_for_selector(SETTLED)
    assert page.evaluate(f"{P}.shown.preset") == "relu-above-one"
    assert page.get_attribute("#p-relu-above-one", "aria-current") == "true"


def test_training_can_be_followed_epoch_by_epoch(opened):
    page = opened.at("#preset=one-bias")
    untrained = told(page)[1]

    page.fill("#epoch", "1000")

    trained = page.evaluate(f"{P}.train({P}.shown.settings)")
    flow = page.evaluate(
        f"{P}.compute({P}.shown.settings,"
        f" {{ weights: {P}.train({P}.shown.settings).weights[1000] }})"
    )
    assert told(page)[1] != untrained
    assert trained["learnedAt"] == 123
    assert flow["prediction"] > 0.99  # 101 → 1


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_window_and_can_be_read(width, scheme, chromium, opened):
    context = chromium.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, device_scale_factor=1
    )
    page = context.new_page()
    page.goto(opened.address + "#preset=relu-exactly-one")
    page.wait_for_selector(SETTLED)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        "[...document.querySelectorAll('main *, nav *, svg text')].filter((e) => "
        "e.checkVisibility() && e.textContent && "
        "parseFloat(getComputedStyle(e).fontSize) < 9).length"
    )
    assert small == 0
    ratios = page.evaluate(CONTRASTS)
    assert min(ratios.values()) >= 4.5, ratios  # WCAG 2.2, AA for text
    context.close()


# Of every kind of text, the contrast with the nearest background that is painted.
CONTRASTS = """() => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const found = parts(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const found = {};
  for (const e of document.querySelectorAll("h1, p, .badge, label, button, summary, svg text")) {
    if (!e.checkVisibility() || e.closest(".off, .unseen")) continue;
    const style = getComputedStyle(e);
    const ink = parts(e.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(e))].sort((x, y) => y - x);
    const name = `${e.tagName} ${e.getAttribute("class") || ""} ${e.id}`;
    found[name] = Math.min(found[name] || 99, (a + 0.05) / (b + 0.05));
  }
  return found;
}"""
