// The story of the playground: settings to begin from, and what happens told in one sentence.
(function () {
  "use strict";

  const { settingsFrom, learnedAt } = globalThis.gradreachPlayground;
  const LN2 = Math.log(2);

  // What is exactly true. Word by word; docs/guides/playground.md shows the same words, and a test
  // holds the two together.
  const WORDS = {
    relu: "the factor of an active step is exactly w_h: 1 preserves, above 1 grows as w_h^T, below 1 vanishes; a dead step gives 0",
    scalar: "geometric mean of abs(w phi'(z_t)) vs 1 (sign irrelevant, phi' counts: w=3 vanishes in saturation)",
    tanh: "tanh' in (0,1], =1 exactly at 0",
    leaky: "LeakyReLU: alpha or 1",
    dead: "a dead unit contributes 0; the product is over diag(0/1)W, so W alone decides growth, and the state is unbounded",
    unbounded: "ReLU without I/orthogonal init is more likely to explode",
    oneW: "an RNN has one W: its gradient does not vanish, the long-term summands do; short-term ones dominate the sum, so W learns only short dependencies",
    matrix: "only the product along the data decides",
    orthogonal: "W does; diag(phi') shrinks unless phi is linear/modReLU-like",
    cell: "by the additive cell (constant error carousel)",
    forget: "with f<1 the cell does decay, prod f_t. That is why forget-bias/chrono init exist",
    clip: "clipping bounds the step only; it rescales short- and long-term terms alike (global norm)",
    noBias: "not without a bias: 000 gives 0.5 whatever the weights, and 101, 001 fall on the same side (best 2 of 4 over 1.06 M weight settings, loss floor ½ ln 2)",
    withBias: "with one hidden bias 5 of 5 seeds learn all four",
  };

  const ONE = { w_in: 0.5, w_h: 0.5, w_out: -1 };
  const MANY = {
    units: 8, T: 20, w_h: 1, w_in: 1, w_out: 0.3, b: 0.2, clip: 1, learning_rate: 0.3, seed: 3,
  };
  // Calibrated away from cliffs: a last digit more or less in a weight changes no outcome.
  const GATED = {
    cell: "lstm", units: 4, T: 20, init: "orthogonal", w_in: 0.5, w_h: 0.3, w_out: 0.5, seed: 29,
    forget_bias: 5, learning_rate: 0.3, clip: 0.5, epochs: 400,
  };
  const BURSTING = {
    units: 8, T: 20, activation: "relu", w_h: 1.5, w_in: 0.5, w_out: 0.3, b: -0.1, seed: 3,
    learning_rate: 0.25,
  };

  // `flow` and `training` are the outcomes that the tests hold each preset to.
  const CHAPTERS = [
    {
      title: "The smallest network",
      presets: [
        {
          id: "three-weights", title: "Three weights cannot",
          look: "One neuron, four sequences of three bits; the label is the first bit. Follow the training curve: it stops at a floor.",
          settings: { ...ONE, w_in: 0.27, w_h: -0.46, w_out: -0.92, bias: false, epochs: 1000 },
          flow: "reaches", training: "floor",
        },
        {
          id: "one-bias", title: "One bias more",
          look: "The same start with one hidden bias b. Pull the epoch slider under the training curve to see the gradient change while it learns.",
          settings: { ...ONE, w_in: 0.27, w_h: -0.46, w_out: -0.92, b: -0.97, epochs: 1000 },
          flow: "reaches", training: "learns",
        },
      ],
    },
    {
      title: "Long-term dependency: the gradient vanishes",
      presets: [
        {
          id: "vanishing", title: "A hundred steps",
          look: "The same neuron over 100 steps. Each factor is below 1; see how their product falls on the logarithmic axis, and which bars are left of the sum.",
          settings: { ...ONE, w_h: 0.9, T: 100 },
          flow: "vanishes", training: "chance",
        },
        {
          id: "saturated", title: "w_h = 3 vanishes too",
          look: "A weight far above 1, and the product falls even faster: φ' counts.",
          settings: { ...ONE, w_in: 1, w_h: 3, T: 100 },
          flow: "vanishes", training: "chance",
        },
        {
          id: "blind-network", title: "Eight units, blind",
          look: "Eight tanh units, W_h with spectral radius 1, 20 steps. The sequences come in pairs that differ in the first bit only, so a blind network stays at ln 2. The remedies that follow begin here.",
          settings: MANY,
          flow: "vanishes", training: "chance",
        },
      ],
    },
    {
      title: "Four remedies for vanishing",
      presets: [
        {
          id: "activation", title: "1 · Another activation",
          look: "One change: ReLU in place of tanh. Where a unit is active its derivative is 1.",
          settings: { ...MANY, activation: "relu" },
          flow: "reaches", training: "learns",
        },
        {
          id: "initialisation", title: "2 · Initialisation",
          look: "One change: W_h begins as a rotation. It keeps every direction; only φ' shrinks.",
          settings: { ...MANY, init: "orthogonal" },
          flow: "reaches", training: "learns",
        },
        {
          id: "residual", title: "3 · Residual connection",
          look: "One change: h_t = φ(…) + h_{t-1}. The way back no longer has to go through W_h: it even grows, and the clipping at 1 takes care of that.",
          settings: { ...MANY, residual: true },
          flow: "explodes", training: "learns",
        },
        {
          id: "skip", title: "3 · Skip connection",
          look: "One change: h_t = φ(…) + h_{t-8}. Twenty steps are two leaps and a few steps.",
          settings: { ...MANY, skip: 8 },
          flow: "reaches", training: "learns",
        },
        {
          id: "lstm", title: "4 · LSTM",
          look: "Forget bias 5: the gate stands at σ(5) = 0.993. Lower it and see Π f fall (dashed).",
          settings: GATED,
          flow: "reaches", training: "learns",
        },
        {
          id: "gru", title: "4 · GRU",
          look: "z is the gate that keeps; its bias starts at 2.",
          settings: { ...MANY, cell: "gru", forget_bias: 2, w_out: 1, learning_rate: 1 },
          flow: "reaches", training: "learns",
        },
      ],
    },
    {
      title: "The explosion",
      presets: [
        {
          id: "relu-exactly-one", title: "ReLU at exactly 1",
          look: "One neuron, ReLU, w_h = 1: every factor is 1 and nothing is lost in 100 steps. Then try 0.99 and 1.01.",
          settings: { w_in: 0.5, w_h: 1, w_out: -1, activation: "relu", T: 100, learning_rate: 0.001, epochs: 0 },
          flow: "preserves", training: "untrained",
        },
        {
          id: "relu-above-one", title: "ReLU above 1",
          look: "w_h = 1.5: the first step's term is 10^17 times the last one's and makes up the sum.",
          settings: { w_in: 0.5, w_h: 1.5, w_out: -1, activation: "relu", T: 100, learning_rate: 0.01 },
          flow: "explodes", training: "dead",
        },
        {
          id: "explosion", title: "The training explodes",
          look: "Eight ReLU units, spectral radius 1.5, learning rate 0.25, no clipping. The loss jumps, then is no number any more.",
          settings: BURSTING,
          flow: "explodes", training: "diverges",
        },
      ],
    },
    {
      title: "Three remedies for exploding",
      presets: [
        {
          id: "clipping", title: "1 · Clip the gradient",
          look: "One change: the norm of the gradient is clipped at 0.3. The product is as large as before; the step is not.",
          settings: { ...BURSTING, clip: 0.3 },
          flow: "explodes", training: "learns",
        },
        {
          id: "learning-rate", title: "2 · Learning rate",
          look: "One change: learning rate 0.03 in place of 0.25.",
          settings: { ...BURSTING, learning_rate: 0.03 },
          flow: "explodes", training: "learns",
        },
        {
          id: "lstm-instead", title: "3 · LSTM",
          look: "The product of an LSTM stays near 1 where that of the ReLU network was 834. Clipped at 0.3 as before; without clipping plain gradient descent makes even this one jump: try it.",
          settings: { ...GATED, clip: 0.3 },
          flow: "reaches", training: "learns",
        },
      ],
    },
  ];

  const PRESETS = CHAPTERS.flatMap((chapter) => chapter.presets);
  for (const preset of PRESETS) preset.settings = settingsFrom(preset.settings);

  // ------------------------------------------------------------------------- words

  /** Write a number with three digits, any magnitude: 1e-500 is not 0. */
  function number(value, digits = 3) {
    if (Number.isNaN(value)) return "NaN";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
    return text.replace("e+", "e").replace(/-/g, "−");
  }

  function power(log10, sign = 1) {
    if (log10 === -Infinity) return "exactly 0";
    if (Number.isNaN(log10)) return "NaN";
    if (Math.abs(log10) < 300) return number(sign * Math.pow(10, log10));
    return number(sign * Math.pow(10, log10 - Math.floor(log10))) + "e" + String(Math.floor(log10)).replace("-", "−");
  }

  /** Name what becomes of the gradient on its way from step T to step 1. */
  function flowOutcome(flow) {
    if (flow.outcome !== "finite") return flow.outcome;
    const log = flow.products.log10[0];
    if (Number.isNaN(log)) return "overflow";
    if (log === -Infinity) return "cut";
    if (Math.abs(log) < 0.005) return "preserves";
    if (log >= 1) return "explodes";
    return log < -2 ? "vanishes" : "reaches";
  }

  const BADGES = {
    vanishes: "Vanishes", cut: "Cut off", preserves: "Preserved", reaches: "Reaches the first step",
    explodes: "Explodes", overflow: "Overflow", saturated: "No gradient", fitted: "Fitted",
    learns: "Learns", chance: "Stays at chance", floor: "Stops at a floor", diverges: "Diverges",
    fluctuates: "Fluctuates", dead: "Dead", stuck: "Does not learn", falling: "Still falling", untrained: "Not trained",
    running: "Training …",
  };

  /** Say in one sentence what happens to the gradient and why. */
  function explainFlow(flow) {
    const outcome = flowOutcome(flow);
    return { outcome, badge: BADGES[outcome], text: `${whatHappens(flow, outcome)}: ${whyFlow(flow, outcome)}.` };
  }

  function whatHappens(flow, outcome) {
    const { settings, products, perStep } = flow, steps = flow.inputs.length - 1;
    const left = power(products.log10[0], products.signs[0]), mean = number(perStep);
    const ways = `${steps} steps back`;
    switch (outcome) {
      case "overflow": return "A state has left the range of numbers";
      case "saturated": return "The answer is wrong and nothing comes back: ŷ has rounded to exactly 0 or 1, so ∂L/∂logit is exactly 0";
      case "fitted": return "The answer is right to the last digit, so ∂L/∂logit is exactly 0 and there is nothing to send back";
      case "cut": return `Exactly nothing of the gradient arrives ${ways}`;
      case "preserves": return `The gradient arrives ${ways} as it left, ${mean}× per step`;
      case "explodes": return `The gradient grows ${mean}× per step, to ${left} times its size ${ways}`;
      case "vanishes": return `The gradient shrinks to ${mean}× per step; ${ways} ${left} of it is left`;
      default: return settings.T === 3
        ? `Of the gradient ${left} reaches the first step, ${mean}× per step`
        : `The gradient reaches the first step: ${mean}× per step, ${left} of it ${ways}`;
    }
  }

  const quoted = (...names) => names.map((name) => `“${WORDS[name]}”`).join("; ");

  function whyFlow(flow, outcome) {
    const { settings } = flow, { cell, units, activation } = settings;
    if (outcome === "overflow") return quoted("dead");
    if (outcome === "saturated") return "a squared error behind a sigmoid has no gradient there, a cross-entropy has";
    if (outcome === "fitted") return "a gradient is a difference yet to be made";
    if (cell === "lstm") {
      return outcome === "vanishes" || outcome === "cut" ? quoted("forget")
        : `it is carried ${quoted("cell")}; ${quoted("forget")}`;
    }
    if (cell === "gru") return `the gate z keeps the state additively, ${number(flow.gates.mean.reduce((s, v) => s + v, 0) / flow.gates.mean.length)} of it per step; ${quoted("matrix")}`;
    if (settings.residual || settings.skip >= 2) {
      const way = [settings.residual && "h_{t-1}", settings.skip >= 2 && `h_{t-${settings.skip}}`].filter(Boolean).join(" and ");
      return `${way} is added to h_t, so each such step back has a factor of φ'·w_h + 1 or a way of exactly 1; ${quoted("matrix")}`;
    }
    if (units === 1) {
      if (activation === "tanh") return `${quoted("tanh")}, and what decides is the ${quoted("scalar")}`;
      return activation === "relu" ? quoted("relu") : `${quoted("leaky")}; ${quoted("scalar")}`;
    }
    if (activation === "tanh" && settings.init === "orthogonal") return `of what keeps the gradient, ${quoted("orthogonal")}`;
    if (activation === "tanh") return `${quoted("tanh")}, and ${quoted("matrix")}`;
    if (activation === "relu") return `${quoted("dead")}${outcome === "explodes" ? "; " + quoted("unbounded") : ""}`;
    return `${quoted("leaky")}; ${quoted("matrix")}`;
  }

  /** Name what a training came to. */
  function trainingOutcome(record) {
    const { losses, settings } = record;
    if (!record.done) return "running";
    if (record.divergedAt !== null || !Number.isFinite(losses[losses.length - 1])) return "diverges";
    if (settings.epochs === 0) return "untrained";
    const last = losses[losses.length - 1];
    if (learnedAt(record) !== null && last < 0.5 * LN2) return "learns";
    if (isThreeWeights(settings)) return "floor";
    // Every logit exactly 0: no answer is given to anything.
    if (record.correct[losses.length - 1] === 0 && Math.abs(last - LN2) < 1e-12) return "dead";
    if (jumps(losses) >= 5) return "fluctuates";
    if (Math.abs(last - LN2) < 0.02) return "chance";
    const before = losses[Math.floor(losses.length * 0.8)];
    return last < before - 0.01 ? "falling" : "stuck";
  }

  const isThreeWeights = (settings) =>
    settings.T === 3 && settings.units === 1 && settings.cell === "rnn" && !settings.bias
    && !settings.residual && settings.skip < 2 && settings.loss === "bce";

  /** Count the epochs in which the loss rose by more than 0.05 nats. */
  const jumps = (losses) => losses.filter((loss, i) => i > 0 && !(loss <= losses[i - 1] + 0.05)).length;

  function lowest(list) {
    return list.reduce((least, value) => (value < least ? value : least), Infinity);
  }

  /** Say in one sentence what the training came to and why. */
  function explainTraining(record, flow) {
    const outcome = trainingOutcome(record);
    return { outcome, badge: BADGES[outcome], text: `${whatCameOfIt(record, outcome)}${whyTraining(record, outcome, flow)}.` };
  }

  function whatCameOfIt(record, outcome) {
    const { losses, correct, count, settings } = record;
    const last = losses[losses.length - 1], right = `${correct[correct.length - 1]} of ${count} right`;
    const epochs = losses.length - 1;
    switch (outcome) {
      case "running": return `Epoch ${epochs}: loss ${number(last)}`;
      case "untrained": return "No epochs were asked for";
      case "diverges": return record.divergedAt === null
        ? `The loss is ${number(last)} after ${epochs} epochs`
        : `The loss jumps and update ${record.divergedAt} makes the weights infinite or NaN`;
      case "learns": return `It learns all ${count}, for good after epoch ${learnedAt(record)}: loss ${number(last)}`;
      case "fluctuates": return `The loss rose by more than 0.05 in ${jumps(losses)} of ${epochs} epochs and stands at ${number(last)}, ${right}`;
      case "floor": return `The best in ${epochs} epochs is ${Math.max(...correct)} of 4 and the loss ${number(lowest(losses), 4)}, above ½ ln 2 = 0.3466`;
      case "chance": return `After ${epochs} epochs the loss is ${number(last)}, that of a coin (ln 2 = 0.693), ${right}`;
      case "dead": return `The updates have killed ${settings.units === 1 ? "the unit" : "the units"}: the state is 0 for every sequence, ŷ = 0.5, none of ${count} is answered`;
      case "falling": return `After ${epochs} epochs the loss is ${number(last)} and still falling, ${right}`;
      default: return `After ${epochs} epochs the loss is ${number(last)}, ${right}${settings.clip ? "" : ", without clipping"}`;
    }
  }

  function whyTraining(record, outcome, flow) {
    const { settings } = record, of = flow ? flowOutcome(flow) : null;
    if (outcome === "floor") return `; the network cannot learn the four, ${quoted("noBias")}`;
    if (outcome === "learns") {
      if (settings.T === 3 && settings.units === 1 && settings.bias) return `, as ${quoted("withBias")}`;
      if (record.clipped > 0 && of === "explodes") return `, with ${record.clipped} updates clipped: ${quoted("clip")}`;
      return "";
    }
    if (outcome === "dead") return `; ${quoted("dead")}`;
    if (outcome === "chance" && of === "vanishes") return `: ${quoted("oneW")}`;
    if (["diverges", "fluctuates", "stuck"].includes(outcome) && of === "explodes") {
      return ": the update is dominated by the long product, and a high learning rate amplifies it";
    }
    return "";
  }

  Object.assign(globalThis.gradreachPlayground, {
    WORDS, CHAPTERS, PRESETS, flowOutcome, trainingOutcome, explainFlow, explainTraining, number, power,
  });
})();
