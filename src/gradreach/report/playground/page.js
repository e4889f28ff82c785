// The page of the playground: its controls, its address, and who draws what when.
(function () {
  "use strict";

  const P = globalThis.gradreachPlayground;
  const { SETTINGS, CHAPTERS, PRESETS, number, power } = P;
  const byId = (id) => document.getElementById(id);

  // ------------------------------------------------------------------------- what is shown

  const shown = { settings: PRESETS[0].settings, preset: PRESETS[0].id, epoch: 0, of: "w_in" };
  let flow = null, trainer = null, timer = 0;

  const LABELS = {
    cell: "Cell", units: "Units H", T: "Steps T", activation: "φ", init: "W_h from", w_in: "w_in", w_h: "w_h",
    w_out: "w_out", b: "b", bias: "Hidden bias b is there and trained", residual: "Residual: h_t = … + h_{t-1}",
    skip: "Skip: h_t = … + h_{t-s}, s = (0: none)", forget_bias: "Bias of the keeping gate (LSTM f, GRU z)",
    learning_rate: "Learning rate η", clip: "Clip ‖∂L/∂w‖ at (0: never)", loss: "Loss", epochs: "Epochs", seed: "Seed", sequence: "Sequence",
  };
  const WORDS_FOR = {
    rnn: "simple RNN", lstm: "LSTM", gru: "GRU", relu: "ReLU", leaky_relu: "Leaky ReLU (0.01)", tanh: "tanh", bce: "cross-entropy on the logit",
    squared_error: "squared error behind σ", random: "random numbers", identity: "identity · scale", orthogonal: "rotation · scale",
  };
  const GROUPS = [
    ["Network", ["cell", "units", "T", "activation"]],
    ["Weights to begin with", ["w_in", "w_h", "w_out", "bias", "b", "init", "seed"]],
    ["Connections and gates", ["residual", "skip", "forget_bias"]],
    ["Training", ["learning_rate", "clip", "epochs", "loss", "sequence"]],
  ];
  const LOGARITHMIC = ["learning_rate"], SHORT = ["units", "T", "w_in", "w_h", "w_out", "b", "epochs", "seed"];

  /** Which settings do something here. */
  function applies(name, { cell, units, bias, skip }) {
    if (["activation", "residual", "skip"].includes(name)) return cell === "rnn";
    if (name === "forget_bias") return cell !== "rnn";
    if (name === "b") return cell === "rnn" && bias;
    if (["init", "seed"].includes(name)) return units > 1 || cell !== "rnn";
    return true;
  }

  function labelOf(name, { cell, units }) {
    if (units > 1 || cell !== "rnn") {
      if (name === "w_in" || name === "w_out") return `${name}: ±`;
      if (name === "w_h") return "W_h: ρ";
    }
    return LABELS[name];
  }

  // ------------------------------------------------------------------------- controls

  function make(tag, properties = {}, ...children) {
    const { aria, ...rest } = properties, element = Object.assign(document.createElement(tag), rest);
    for (const [key, value] of Object.entries(aria || {})) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const toPlace = (name, value) => (LOGARITHMIC.includes(name) ? Math.log10(value) : value);
  const fromPlace = (name, place) => (LOGARITHMIC.includes(name) ? Number(Math.pow(10, place).toPrecision(3)) : place);

  function buildControls() {
    const form = byId("controls");
    form.addEventListener("submit", (event) => event.preventDefault());
    for (const [title, names] of GROUPS) {
      form.append(make("fieldset", {}, make("legend", { textContent: title }), ...names.map(control)));
    }
    const of = byId("terms-choice");
    for (const name of ["w_in", "w_h", "b"]) {
      const radio = make("input", { type: "radio", name: "of", value: name, id: `of-${name}` });
      radio.addEventListener("change", () => { shown.of = name; drawTerms(); writeAddress(); });
      of.append(make("span", {}, radio, " ", make("label", { htmlFor: radio.id, textContent: name })));
    }
  }

  function control(name) {
    const about = SETTINGS[name], label = make("label", { id: `l-${name}`, htmlFor: `c-${name}` });
    if (name === "sequence") return row(name, label, make("select", { id: "c-sequence" }));
    if (about.choices) {
      const options = about.choices.map((choice) => make("option", { value: choice, textContent: WORDS_FOR[choice] }));
      return row(name, label, make("select", { id: `c-${name}` }, ...options));
    }
    if (typeof about.value === "boolean") {
      const made = row(name, make("input", { type: "checkbox", id: `c-${name}` }), label);
      made.classList.add("switch");
      return made;
    }
    const log = LOGARITHMIC.includes(name), step = log ? 0.01 : about.step;
    label.className = SHORT.includes(name) ? "" : "long";
    const range = make("input", { type: "range", id: `c-${name}`, min: toPlace(name, about.low), max: toPlace(name, about.high), step });
    const exact = make("input", { type: "number", id: `n-${name}`, min: about.low, max: about.high, step: "any", aria: { "aria-labelledby": `l-${name}` } });
    return row(name, label, range, exact);
  }

  function row(name, ...children) {
    const made = make("div", { className: "control", id: `r-${name}` }, ...children);
    for (const input of made.querySelectorAll("input, select")) {
      input.addEventListener(input.type === "number" || input.tagName === "SELECT" ? "change" : "input", () => changed(name, input));
    }
    return made;
  }

  function changed(name, input) {
    let value = input.value;
    if (input.type === "checkbox") value = input.checked;
    else if (input.type === "range") value = fromPlace(name, Number(input.value));
    else if (input.type === "number" || name === "sequence") value = input.value === "" ? NaN : Number(input.value);
    const settings = P.settingsFrom({ ...shown.settings, [name]: value });
    // A value that is not taken over falls back to what was there, not to the default.
    show({ settings: accepted(name, value) ? settings : shown.settings }, input.type === "range" ? name : null);
  }

  function accepted(name, value) {
    const about = SETTINGS[name];
    if (about.choices) return about.choices.includes(value);
    return typeof about.value === "boolean" || (value >= about.low && value <= about.high);
  }

  function showControls(moved) {
    const { settings } = shown;
    for (const name of Object.keys(SETTINGS)) {
      const input = byId(`c-${name}`), on = applies(name, settings);
      byId(`r-${name}`).classList.toggle("off", !on);
      byId(`l-${name}`).textContent = labelOf(name, settings);
      if (name === "sequence") showSequences(input);
      else if (input.type === "checkbox") input.checked = settings[name];
      else if (input.type === "range") {
        if (moved !== name) input.value = String(toPlace(name, settings[name]));
        if (LOGARITHMIC.includes(name)) input.setAttribute("aria-valuetext", String(settings[name]));
      } else input.value = settings[name];
      input.disabled = !on;
      const exact = byId(`n-${name}`);
      if (exact) { exact.value = String(settings[name]); exact.disabled = !on; }
    }
    for (const name of ["w_in", "w_h", "b"]) byId(`of-${name}`).checked = shown.of === name;
  }

  function showSequences(select) {
    const data = P.sequencesOf(shown.settings);
    const bits = (list) => list.slice(0, 12).join("") + (list.length > 12 ? "…" : "");
    select.replaceChildren(...data.map(([inputs, label], i) => make("option", { value: String(i), textContent: `${bits(inputs)} → ${label}` })));
    select.value = String(Math.min(shown.settings.sequence, data.length - 1));
  }

  // ------------------------------------------------------------------------- story

  function buildStory() {
    for (const chapter of CHAPTERS) {
      const buttons = chapter.presets.map((preset) => {
        const button = make("button", { type: "button", id: `p-${preset.id}`, textContent: preset.title });
        button.addEventListener("click", () => turnTo(preset));
        return button;
      });
      byId("chapters").append(make("div", { className: "chapter" }, make("h3", { textContent: chapter.title }), make("div", {}, ...buttons)));
    }
    byId("back").addEventListener("click", () => turn(-1));
    byId("next").addEventListener("click", () => turn(1));
  }

  function turn(by) {
    const at = PRESETS.findIndex((preset) => preset.id === shown.preset);
    turnTo(PRESETS[(at + by + PRESETS.length) % PRESETS.length]);
  }

  function turnTo(preset) {
    show({ preset: preset.id, settings: preset.settings });
  }

  function showStory() {
    for (const preset of PRESETS) {
      const button = byId(`p-${preset.id}`), here = preset.id === shown.preset;
      if (here) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    const at = PRESETS.findIndex((each) => each.id === shown.preset), preset = PRESETS[at];
    byId("title").textContent = `${at + 1} of ${PRESETS.length} · ${preset.title}.`;
    const same = Object.keys(SETTINGS).every((name) => preset.settings[name] === shown.settings[name]);
    byId("look").textContent = same ? preset.look : `(Changed.) ${preset.look}`;
  }

  // ------------------------------------------------------------------------- address

  /** Say all that is shown in the part of the address behind #, which never leaves the browser. */
  function addressOf() {
    const preset = PRESETS.find((each) => each.id === shown.preset), parts = [`preset=${preset.id}`];
    for (const name of Object.keys(SETTINGS)) {
      const value = shown.settings[name];
      if (value !== preset.settings[name]) parts.push(`${name}=${typeof value === "boolean" ? Number(value) : value}`);
    }
    if (shown.of !== "w_in") parts.push(`of=${shown.of}`);
    if (shown.epoch > 0) parts.push(`epoch=${shown.epoch}`);
    return "#" + parts.join("&");
  }

  let writing = 0;
  function writeAddress() {
    clearTimeout(writing);  // browsers refuse to change the address many times a second
    writing = setTimeout(() => {
      if (location.hash !== addressOf()) history.replaceState(null, "", addressOf());
    }, 200);
  }

  /** Read an address. Only known names and values within their ranges are taken over. */
  function readAddress(hash) {
    const found = { preset: PRESETS[0].id, of: "w_in", epoch: 0, settings: null };
    const said = new Map();
    for (const part of hash.slice(1, 2000).split("&")) {
      const [name, value] = [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)];
      if (!said.has(name)) said.set(name, value);
    }
    const preset = PRESETS.find((each) => each.id === said.get("preset")) || PRESETS[0];
    found.preset = preset.id;
    const settings = { ...preset.settings };
    for (const [name, about] of Object.entries(SETTINGS)) {
      if (!said.has(name)) continue;
      const value = valueOf(said.get(name), about);
      if (value !== null) settings[name] = value;
    }
    found.settings = P.settingsFrom(settings);
    if (["w_in", "w_h", "b"].includes(said.get("of"))) found.of = said.get("of");
    if (/^\d{1,4}$/.test(said.get("epoch") || "")) found.epoch = Number(said.get("epoch"));
    return found;
  }

  function valueOf(text, about) {
    if (about.choices) return about.choices.includes(text) ? text : null;
    if (typeof about.value === "boolean") return text === "1" ? true : text === "0" ? false : null;
    if (!/^-?\d{1,4}(\.\d{1,17})?$/.test(text)) return null;
    const value = Number(text);
    return value >= about.low && value <= about.high ? value : null;
  }

  // ------------------------------------------------------------------------- showing

  function show(change, moved = null) {
    Object.assign(shown, { epoch: 0 }, change);
    document.documentElement.dataset.settled = "false";
    showControls(moved);
    showStory();
    startTraining(shown.epoch);
    computeFlow();
    drawFlow();
    writeAddress();
  }

  function startTraining(wanted) {
    clearTimeout(timer);
    trainer = P.training(shown.settings);
    trainer.advance(1);
    const mine = trainer;
    let drawn = 0;
    function slice() {
      if (mine !== trainer) return;
      const until = performance.now() + 14;
      let more = true;
      while (more && performance.now() < until) more = mine.advance(1);
      if (!more || performance.now() - drawn > 120) {
        drawTraining();
        drawn = performance.now();
      }
      if (more) timer = setTimeout(slice, 0);
      else settled(wanted);
    }
    timer = setTimeout(slice, 0);
    drawTraining();
  }

  function settled(wanted) {
    const most = trainer.record.weights.length - 1;
    if (wanted > 0) {
      shown.epoch = Math.min(wanted, most);
      computeFlow();
      drawFlow();
    }
    drawTraining();
    fillOpenTables();
    byId("announce").textContent = `${byId("flow-badge").textContent}. ${byId("flow-text").textContent} ${byId("training-badge").textContent}. ${byId("training-text").textContent}`;
    writeAddress();
    document.documentElement.dataset.settled = "true";
  }

  function computeFlow() {
    const trained = shown.epoch > 0 && trainer ? trainer.record.weights[shown.epoch] : undefined;
    flow = P.compute(shown.settings, { weights: trained });
  }

  const TONES = {
    vanishes: "shrink", cut: "shrink", explodes: "grow", overflow: "grow", preserves: "keep", reaches: "keep", learns: "keep",
    diverges: "grow", fluctuates: "grow", chance: "shrink", floor: "shrink", dead: "grow", stuck: "grow",
  };

  function tell(where, said, prefix = "") {
    const badge = byId(`${where}-badge`);
    badge.textContent = said.badge;
    badge.className = `badge ${TONES[said.outcome] || "plain"}`;
    byId(`${where}-text`).textContent = prefix + said.text;
  }

  const UNITS_TEXT = {
    rnn: "h_t = φ(W_in·x_t + W_h·h_{t-1} + b)", lstm: "c_t = f·c_{t-1} + i·g, h_t = o·tanh(c_t)", gru: "h_t = (1 − z)·n + z·h_{t-1}",
  };

  function formula({ cell, units, bias, residual, skip }) {
    let text = UNITS_TEXT[cell];
    if (cell === "rnn" && units === 1) text = `h_t = φ(x_t·w_in + h_{t-1}·w_h${bias ? " + b" : ""})`;
    if (cell === "rnn" && residual) text += " + h_{t-1}";
    if (cell === "rnn" && skip >= 2) text += ` + h_{t-${skip}}`;
    return `${text},  ŷ = σ(${units === 1 ? "h_T·w_out" : "w_out·h_T"})`;
  }

  function drawFlow() {
    const { settings } = shown, one = settings.cell === "rnn" && settings.units === 1;
    tell("flow", P.explainFlow(flow), shown.epoch > 0 ? `After epoch ${shown.epoch}: ` : "");
    byId("formula").textContent = formula(settings);
    byId("network-text").textContent = one
      ? `Above each connection its factor ∂h_t/∂h_{t-1} = φ'(a_t)·w_h${settings.residual ? " + 1" : ""}; in the circles h_t. Blue shrinks, orange grows, green keeps.`
      : `Above each connection what this step makes of the product of the Jacobians (its norm); in the circles the mean |h_t|. Blue shrinks, orange grows, green keeps.`;
    byId("product-text").textContent = one
      ? `∂h_T/∂h_k: the factors from step k + 1 to T multiplied. ${power(flow.products.log10[0], flow.products.signs[0])} at step 1.`
      : `‖∂s_T/∂s_k‖: the Jacobians from step k + 1 to T multiplied${settings.cell === "lstm" ? ", s = (h, c)" : ""}. ${power(flow.products.log10[0])} at step 1.`;
    P.drawNetwork(hostOf("network"), flow);
    P.drawProduct(hostOf("product"), flow);
    drawTerms();
    fillOpenTables();
  }

  const hostOf = (figure) => byId(figure).querySelector(".picture");

  function drawTerms() {
    const terms = flow.terms[shown.of], T = flow.inputs.length, tenth = Math.max(1, Math.floor(T / 10));
    const name = shown.settings.units > 1 || shown.settings.cell !== "rnn" ? { w_in: "W_in", w_h: "W_h", b: "b" }[shown.of] : shown.of;
    byId("terms-of").textContent = `∂L/∂${name}`;
    const part = (from, to) => terms.share.slice(from, to).reduce((sum, value) => sum + value, 0);
    const steps = T < 10 ? ["step 1", `step ${T}`] : [`the first ${tenth} steps`, `the last ${tenth} steps`];
    byId("terms-text").textContent = terms.reason ? `∂L/∂${name} = ${number(terms.total)}: ${terms.reason}.`
      : `Σ c_k = ${number(terms.total)}${name === shown.of ? "" : " (its norm)"}. Of it ${number(100 * part(0, tenth))} % comes from ${steps[0]}, ${number(100 * part(T - tenth, T))} % from ${steps[1]}.`;
    P.drawTerms(hostOf("terms"), flow, shown.of);
  }

  function drawTraining() {
    const { record } = trainer, slider = byId("epoch"), most = record.weights.length - 1;
    slider.max = String(Math.max(most, 0));
    slider.disabled = !record.done;
    if (record.done) slider.value = String(Math.min(shown.epoch, most));
    byId("epoch-value").textContent = `${Math.min(shown.epoch, Math.max(most, 0))} of ${Math.max(most, 0)}`;
    const { learning_rate, clip } = shown.settings;
    byId("epoch-text").textContent = `Each epoch w ← w − ${learning_rate}·∂L/∂w over ${record.count} sequences${clip > 0 ? `, ‖∂L/∂w‖ clipped at ${clip}` : ""}.`;
    P.drawTraining(hostOf("training"), record, Math.min(shown.epoch, Math.max(most, 0)));
    tell("training", P.explainTraining(record, shown.epoch === 0 ? flow : P.compute(shown.settings)));
  }

  // ------------------------------------------------------------------------- tables

  function table(id, caption, heads, rows) {
    const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col", textContent: text })));
    const body = rows.map((cells) => make("tr", {}, make("th", { scope: "row", textContent: cells[0] }), ...cells.slice(1).map((text) => make("td", { textContent: text }))));
    byId(id).replaceChildren(make("caption", { textContent: caption }), make("thead", {}, head), make("tbody", {}, ...body));
  }

  function fillOpenTables() {
    const open = (id) => byId(id).closest("details").open;
    if (open("steps-table")) {
      const gate = flow.gates, names = Object.keys(flow.terms);
      table("steps-table", "One row a timestep: the factor of the step, the product from there to T, its terms of ∂L/∂w",
        ["t", "x_t", "h_t", "factor", "product", ...(gate ? [gate.letter] : []), ...names.flatMap((name) => [`c_k of ${name}`, "share"])],
        flow.inputs.map((x, i) => [i + 1, x, number(flow.states[i + 1][0]), i === 0 ? "–" : number(flow.factors[i]), power(flow.products.log10[i], flow.products.signs[i]),
          ...(gate ? [number(gate.mean[i])] : []), ...names.flatMap((name) => [power(flow.terms[name].log10[i], flow.terms[name].signs[i]), number(flow.terms[name].share[i])])]));
    }
    if (open("epochs-table")) {
      const { record } = trainer, every = Math.max(1, Math.floor(record.losses.length / 50));
      const rows = record.losses.map((loss, e) => [e, number(loss, 4), `${record.correct[e]} of ${record.count}`, number(record.norms[e])]);
      table("epochs-table", "One row an epoch, of long trainings some", ["epoch", "loss", "right", "‖∂L/∂w‖"], rows.filter((_, e) => e % every === 0 || e === rows.length - 1));
    }
  }

  // ------------------------------------------------------------------------- begin

  buildControls();
  buildStory();
  byId("epoch").addEventListener("input", (event) => {
    shown.epoch = Number(event.target.value);
    computeFlow();
    drawFlow();
    drawTraining();
    writeAddress();
  });
  for (const details of document.querySelectorAll("figure details")) details.addEventListener("toggle", fillOpenTables);
  if (matchMedia("(max-width: 46rem)").matches) byId("settings").open = byId("story").open = false;
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawFlow(); drawTraining(); } });
  addEventListener("hashchange", () => { if (location.hash !== addressOf()) show(readAddress(location.hash)); });
  show(readAddress(location.hash));
  P.shown = shown;
})();
