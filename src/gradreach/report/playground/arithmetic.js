// The arithmetic of the playground: small recurrent networks, forwards and backwards, in float64.
//
// No page in here: a browser, node and the tests run the same functions. The one-neuron network
// is that of gradreach/flow/scalar_bptt.py, the others are those of torch.nn and gradreach.nn
// (gate order i f g o; r z n), and the tests hold each number to theirs.
(function () {
  "use strict";

  const LEAKY_SLOPE = 0.01;  // torch.nn.LeakyReLU's default
  const GATES = { rnn: 1, lstm: 4, gru: 3 };

  // What can be set: a number with its range, a choice, or a switch. The page makes its controls
  // of this table, and an address or a caller can ask for nothing that is not in it.
  const SETTINGS = {
    cell: { choices: ["rnn", "lstm", "gru"], value: "rnn" },
    units: { low: 1, high: 8, step: 1, value: 1 },
    T: { low: 3, high: 200, step: 1, value: 3 },
    activation: { choices: ["tanh", "relu", "leaky_relu"], value: "tanh" },
    init: { choices: ["random", "identity", "orthogonal"], value: "random" },
    w_in: { low: -3, high: 3, step: 0.01, value: 0.5 },
    w_h: { low: -3, high: 3, step: 0.01, value: 0.5 },
    w_out: { low: -3, high: 3, step: 0.01, value: -1 },
    b: { low: -3, high: 3, step: 0.01, value: 0 },
    bias: { value: true },
    residual: { value: false },
    skip: { low: 0, high: 20, step: 1, value: 0 },
    forget_bias: { low: -4, high: 6, step: 0.1, value: 0 },
    learning_rate: { low: 0.001, high: 10, step: 0.001, value: 0.5 },
    clip: { low: 0, high: 5, step: 0.01, value: 0 },
    loss: { choices: ["bce", "squared_error"], value: "bce" },
    epochs: { low: 0, high: 2000, step: 50, value: 300 },
    seed: { low: 0, high: 99, step: 1, value: 0 },
    sequence: { low: 0, high: 15, step: 1, value: 0 },
  };

  /** Return whole settings: what is missing, unknown, out of range or of another kind is not
   *  taken over. Whole numbers are those whose step is 1. */
  function settingsFrom(given) {
    const settings = {};
    for (const [name, about] of Object.entries(SETTINGS)) {
      settings[name] = about.value;
      if (given === null || typeof given !== "object" || !Object.hasOwn(given, name)) continue;
      const value = given[name];
      if (about.choices) {
        if (about.choices.includes(value)) settings[name] = value;
      } else if (typeof about.value === "boolean") {
        if (typeof value === "boolean") settings[name] = value;
      } else if (typeof value === "number" && value >= about.low && value <= about.high) {
        settings[name] = Number.isInteger(about.step) ? Math.round(value) : value;
      }
    }
    return settings;
  }

  // ------------------------------------------------------------------------- numbers

  /** mulberry32: a small generator with 2^32 states; the same seed draws the same everywhere. */
  function generator(seed) {
    let state = (seed * 0x9e3779b1 + 0x6a09e667) >>> 0;
    return function () {
      state = (state + 0x6d2b79f5) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 15), z | 1);
      z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
      return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
    };
  }

  const sigmoid = (z) => (z >= 0 ? 1 / (1 + Math.exp(-z)) : Math.exp(z) / (1 + Math.exp(z)));

  // `0 where a <= 0`, so that NaN passes through; the derivative at the kink is torch's.
  const ACTIVATIONS = {
    tanh: { value: Math.tanh, slope: (a, u) => 1 - u * u },
    relu: { value: (a) => (a <= 0 ? 0 : a), slope: (a) => (a <= 0 ? 0 : 1) },
    leaky_relu: {
      value: (a) => (a <= 0 ? LEAKY_SLOPE * a : a),
      slope: (a) => (a <= 0 ? LEAKY_SLOPE : 1),
    },
  };

  /** x · 2^power without a detour over infinity: 2^1074 is not a float, its halves are. */
  function shifted(x, power) {
    const half = Math.trunc(power / 2);
    return x * Math.pow(2, half) * Math.pow(2, power - half);
  }

  /** Scale numbers to around 1 in place; return the power of two that was taken out. */
  function normalise(values) {
    let top = 0;
    for (const value of values) top = Math.max(top, Math.abs(value));
    if (!(top > 0) || top === Infinity) return 0;
    const power = Math.floor(Math.log2(top));
    for (let i = 0; i < values.length; i++) values[i] = shifted(values[i], -power);
    return power;
  }

  /** Numbers with one power of two beside them: products over 200 steps leave float64. */
  const scaled = (values, power) => ({ values, power: power + normalise(values) });

  function addScaled(a, b) {
    if (a === undefined) return b;
    if (b === undefined) return a;
    const zero = (each) => each.values.every((value) => value === 0);
    if (zero(a)) return b;
    if (zero(b)) return a;
    const [large, small] = a.power >= b.power ? [a, b] : [b, a];
    const values = large.values.map((v, i) => v + shifted(small.values[i], small.power - large.power));
    return scaled(values, large.power);
  }

  const log10Of = (size, power) => Math.log10(size) + power * Math.LOG10E * Math.LN2;

  /** Euclidean length without overflow of the squares. */
  function length(values) {
    const top = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (!(top > 0) || !Number.isFinite(top)) return values.some(Number.isNaN) ? NaN : top;
    let sum = 0;
    for (const value of values) sum += (value / top) * (value / top);
    return top * Math.sqrt(sum);
  }

  /** Largest singular value of a matrix of rows, by one-sided Jacobi rotations. */
  function spectralNorm(rows) {
    const columns = Array.from(rows[0], (_, j) => Float64Array.from(rows, (row) => row[j]));
    if (!columns.every((column) => column.every(Number.isFinite))) return NaN;
    for (let sweep = 0; sweep < 30; sweep++) {
      let turned = false;
      for (let p = 0; p < columns.length; p++) {
        for (let q = p + 1; q < columns.length; q++) turned = rotate(columns[p], columns[q]) || turned;
      }
      if (!turned) break;
    }
    return columns.reduce((most, column) => Math.max(most, length(column)), 0);
  }

  function rotate(a, b) {
    let aa = 0, bb = 0, ab = 0;
    for (let i = 0; i < a.length; i++) { aa += a[i] * a[i]; bb += b[i] * b[i]; ab += a[i] * b[i]; }
    if (Math.abs(ab) <= 1e-15 * Math.sqrt(aa * bb) || ab === 0) return false;
    const zeta = (bb - aa) / (2 * ab);
    const t = (zeta >= 0 ? 1 : -1) / (Math.abs(zeta) + Math.sqrt(1 + zeta * zeta));
    const c = 1 / Math.sqrt(1 + t * t), s = c * t;
    for (let i = 0; i < a.length; i++) {
      const old = a[i];
      a[i] = c * old - s * b[i];
      b[i] = s * old + c * b[i];
    }
    return true;
  }

  /** Spectral radius of a square matrix of rows: ‖A^(2^n)‖^(1/2^n), n = 40. */
  function spectralRadius(rows) {
    let power = rows.map((row) => Float64Array.from(row));
    let log = 0, weight = 1;
    for (let n = 0; n < 40; n++) {
      const size = length(power.flatMap((row) => Array.from(row)));
      if (!(size > 0)) return size;
      log += Math.log(size) * weight;
      weight /= 2;
      power = power.map((row) => row.map((value) => value / size));
      power = power.map((row) => row.map((_, j) => {
        let sum = 0;
        for (let k = 0; k < row.length; k++) sum += row[k] * power[k][j];
        return sum;
      }));
    }
    return Math.exp(log);
  }

  // ------------------------------------------------------------------------- network and data

  /** Return the weights that the settings ask for. One neuron has them as they are set; more
   *  units draw theirs: input and output uniform in ±w_in and ±w_out, W_h with the spectral
   *  radius |w_h| (gated cells: each gate's block of it). */
  function weightsOf(settings) {
    const { cell, units: H, w_in, w_h, w_out, b, bias, forget_bias } = settings;
    const start = bias ? b : 0;
    if (cell === "rnn" && H === 1) {
      return { W_in: [w_in], W_h: [[w_h]], b: [start], w_out: [w_out] };
    }
    const random = generator(settings.seed);
    const uniform = (scale) => scale * (2 * random() - 1);
    const G = GATES[cell];
    const W_in = Array.from({ length: G * H }, () => uniform(w_in));
    const W_h = [];
    for (let gate = 0; gate < G; gate++) W_h.push(...recurrentBlock(settings, random));
    const out = Array.from({ length: H }, () => uniform(w_out));
    const biases = new Array(G * H).fill(cell === "rnn" ? start : 0);
    // The keeping gate: f of i f g o, z of r z n. Its bias starts there and is trained if b is.
    if (cell !== "rnn") biases.fill(forget_bias, H, 2 * H);
    return { W_in, W_h, b: biases, w_out: out };
  }

  function recurrentBlock({ units: H, init, w_h }, random) {
    const rows = Array.from({ length: H }, () => Array.from({ length: H }, () => 2 * random() - 1));
    if (init === "identity") return rows.map((row, i) => row.map((_, j) => (i === j ? w_h : 0)));
    if (init === "orthogonal") return orthogonal(rows).map((row) => row.map((value) => value * w_h));
    const radius = spectralRadius(rows);
    return rows.map((row) => row.map((value) => (value * w_h) / radius));
  }

  function orthogonal(rows) {
    const done = [];
    for (const row of rows) {
      let own = row;
      for (let again = 0; again < 2; again++) {  // twice is enough (Kahan)
        for (const other of done) {
          const overlap = own.reduce((sum, value, i) => sum + value * other[i], 0);
          own = own.map((value, i) => value - overlap * other[i]);
        }
      }
      const size = length(own);
      done.push(own.map((value) => value / size));
    }
    return done;
  }

  /** Return the sequences to learn; the label of each is its first bit. For T = 3 the four of the
   *  smallest network. Longer ones come in pairs that differ in the first bit only: whoever is
   *  blind to it answers both alike, and is exactly at chance. */
  function sequencesOf(settings) {
    if (settings.T === 3) {
      return [[[1, 0, 1], 1], [[0, 0, 1], 0], [[0, 0, 0], 0], [[1, 1, 1], 1]];
    }
    const random = generator(1000 + settings.T);
    const pairs = [];
    for (let n = 0; n < 8; n++) {
      const rest = Array.from({ length: settings.T - 1 }, () => (random() < 0.5 ? 0 : 1));
      pairs.push([[1, ...rest], 1], [[0, ...rest], 0]);
    }
    return pairs;
  }

  // ------------------------------------------------------------------------- forward

  /** Run the network over one sequence and keep what the way back needs. */
  function forward(settings, weights, inputs) {
    const run = { inputs, h: [new Float64Array(settings.units)], steps: [] };
    if (settings.cell === "lstm") run.c = [new Float64Array(settings.units)];
    for (let t = 1; t <= inputs.length; t++) STEPS[settings.cell].forward(settings, weights, run, t);
    run.logit = run.h[inputs.length].reduce((sum, value, j) => sum + value * weights.w_out[j], 0);
    return run;
  }

  function preActivations(weights, run, t) {
    const x = run.inputs[t - 1], h = run.h[t - 1], { W_in, W_h, b } = weights;
    const a = new Float64Array(W_in.length);
    for (let i = 0; i < a.length; i++) {
      const row = W_h[i];
      let sum = x * W_in[i];
      for (let j = 0; j < h.length; j++) sum += h[j] * row[j];
      a[i] = sum + b[i];
    }
    return a;
  }

  /** Add W_hᵀ·local to a vector. */
  function addBack(weights, local, into) {
    for (let i = 0; i < local.length; i++) {
      const row = weights.W_h[i], value = local[i];
      for (let j = 0; j < into.length; j++) into[j] += value * row[j];
    }
  }

  // One step of each cell, forwards, and backwards from the adjoint of (h_t, c_t) to those of the
  // step before. `local` is ∂L/∂a_t as the input sees it, `recurrent` as W_h sees it. Plain loops:
  // a training makes some 100,000 steps while somebody moves a slider.
  const STEPS = {
    rnn: {
      forward(settings, weights, run, t) {
        const phi = ACTIVATIONS[settings.activation], a = preActivations(weights, run, t);
        const before = run.h[t - 1], h = new Float64Array(a.length), slope = new Float64Array(a.length);
        const earlier = settings.skip >= 2 && t > settings.skip ? run.h[t - settings.skip] : null;
        for (let j = 0; j < a.length; j++) {
          const u = phi.value(a[j]);
          slope[j] = phi.slope(a[j], u);
          h[j] = u + (settings.residual ? before[j] : 0) + (earlier ? earlier[j] : 0);
        }
        run.h.push(h);
        run.steps.push({ a, slope });
      },
      backward(settings, weights, run, t, dh) {
        const { slope } = run.steps[t - 1], H = dh.length;
        const local = new Float64Array(H), back = new Float64Array(H);
        for (let j = 0; j < H; j++) {
          local[j] = dh[j] * slope[j];
          if (settings.residual) back[j] = dh[j];
        }
        addBack(weights, local, back);
        return { local, recurrent: local, dh: back };
      },
    },
    lstm: {
      forward(settings, weights, run, t) {
        const H = settings.units, a = preActivations(weights, run, t), before = run.c[t - 1];
        const [i, f, g, o, c, tanhC, h] = vectors(7, H);
        for (let j = 0; j < H; j++) {
          i[j] = sigmoid(a[j]);
          f[j] = sigmoid(a[H + j]);
          g[j] = Math.tanh(a[2 * H + j]);
          o[j] = sigmoid(a[3 * H + j]);
          c[j] = f[j] * before[j] + i[j] * g[j];
          tanhC[j] = Math.tanh(c[j]);
          h[j] = o[j] * tanhC[j];
        }
        run.c.push(c);
        run.h.push(h);
        run.steps.push({ a, i, f, g, o, tanhC });
      },
      backward(settings, weights, run, t, dh, dc) {
        const H = settings.units, { i, f, g, o, tanhC } = run.steps[t - 1], before = run.c[t - 1];
        const local = new Float64Array(4 * H), [back, total, cell] = vectors(3, H);
        for (let j = 0; j < H; j++) {
          total[j] = dc[j] + dh[j] * o[j] * (1 - tanhC[j] * tanhC[j]);  // ∂L/∂c_t, all paths
          local[j] = total[j] * g[j] * i[j] * (1 - i[j]);
          local[H + j] = total[j] * before[j] * f[j] * (1 - f[j]);
          local[2 * H + j] = total[j] * i[j] * (1 - g[j] * g[j]);
          local[3 * H + j] = dh[j] * tanhC[j] * o[j] * (1 - o[j]);
          cell[j] = total[j] * f[j];
        }
        addBack(weights, local, back);
        return { local, recurrent: local, dh: back, dc: cell, total };
      },
    },
    gru: {
      forward(settings, weights, run, t) {
        const H = settings.units, x = run.inputs[t - 1], before = run.h[t - 1], { W_in, W_h, b } = weights;
        const [r, z, n, inner, h] = vectors(5, H);
        for (let j = 0; j < 3 * H; j++) {
          const row = W_h[j], fromInput = x * W_in[j] + b[j];
          let sum = 0;
          for (let k = 0; k < H; k++) sum += before[k] * row[k];
          if (j < H) r[j] = sigmoid(fromInput + sum);
          else if (j < 2 * H) z[j - H] = sigmoid(fromInput + sum);
          else {
            inner[j - 2 * H] = sum;
            n[j - 2 * H] = Math.tanh(fromInput + r[j - 2 * H] * sum);
          }
        }
        for (let j = 0; j < H; j++) h[j] = (1 - z[j]) * n[j] + z[j] * before[j];
        run.h.push(h);
        run.steps.push({ r, z, n, inner });
      },
      backward(settings, weights, run, t, dh) {
        const H = settings.units, { r, z, n, inner } = run.steps[t - 1], before = run.h[t - 1];
        const [local, recurrent] = vectors(2, 3 * H), back = new Float64Array(H);
        for (let j = 0; j < H; j++) {
          const dn = dh[j] * (1 - z[j]) * (1 - n[j] * n[j]);
          local[j] = recurrent[j] = dn * inner[j] * r[j] * (1 - r[j]);
          local[H + j] = recurrent[H + j] = dh[j] * (before[j] - n[j]) * z[j] * (1 - z[j]);
          local[2 * H + j] = dn;
          recurrent[2 * H + j] = dn * r[j];
          back[j] = dh[j] * z[j];
        }
        addBack(weights, recurrent, back);
        return { local, recurrent, dh: back };
      },
    },
  };

  function vectors(count, size) {
    const made = [];
    for (let n = 0; n < count; n++) made.push(new Float64Array(size));
    return made;
  }

  /** Return the loss and ∂L/∂logit; the cross-entropy from the logit of the wrong answer, as
   *  ŷ - target would cancel to a few digits where ŷ is close to the target. */
  function lossOf(kind, logit, target) {
    if (kind === "bce") {
      const wrong = target === 1 ? -logit : logit;
      const value = Math.max(wrong, 0) + Math.log1p(Math.exp(-Math.abs(wrong)));
      return { value, gradient: target === 1 ? -sigmoid(wrong) : sigmoid(wrong) };
    }
    const prediction = sigmoid(logit), error = prediction - target;
    return { value: error * error, gradient: 2 * error * prediction * (1 - prediction) };
  }

  // ------------------------------------------------------------------------- backward

  /** Sweep from T to 1 with the adjoint of the last state; `visit(t, adjoint, step)` at each step.
   *  Each adjoint carries its own power of two, so nothing under- or overflows on the way. */
  function sweep(settings, weights, run, lastH, lastC, visit) {
    const T = run.inputs.length, H = settings.units;
    const waiting = new Array(T + 1);
    waiting[T] = scaled(Float64Array.from([...lastH, ...lastC]), 0);
    for (let t = T; t >= 1; t--) {
      const adjoint = waiting[t];
      waiting[t] = undefined;
      const dh = adjoint.values.slice(0, H), dc = adjoint.values.slice(H);
      const step = STEPS[settings.cell].backward(settings, weights, run, t, dh, dc);
      visit(t, adjoint, step);
      const back = Float64Array.from([...step.dh, ...(step.dc || [])]);
      waiting[t - 1] = addScaled(waiting[t - 1], scaled(back, adjoint.power));
      if (settings.cell === "rnn" && settings.skip >= 2 && t > settings.skip) {
        waiting[t - settings.skip] = addScaled(waiting[t - settings.skip], scaled(dh, adjoint.power));
      }
    }
  }

  /** Return ‖∂s_T/∂s_k‖₂ for k = 1 … T as log10 and sign (of a single number; else 1). */
  function products(settings, weights, run) {
    const T = run.inputs.length, H = settings.units, S = run.c ? 2 * H : H;
    const rows = Array.from({ length: T }, () => []);
    for (let s = 0; s < S; s++) {
      const unit = Array.from({ length: S }, (_, j) => (j === s ? 1 : 0));
      sweep(settings, weights, run, unit.slice(0, H), unit.slice(H), (t, adjoint) => {
        rows[t - 1].push(adjoint);
      });
    }
    const log10 = [], signs = [];
    for (const matrix of rows) {
      const top = Math.max(...matrix.map((row) => (row.values.some((v) => v !== 0) ? row.power : -Infinity)));
      if (top === -Infinity) { log10.push(-Infinity); signs.push(0); continue; }
      const together = matrix.map((row) => row.values.map((v) => shifted(v, row.power - top)));
      log10.push(log10Of(spectralNorm(together), top));
      signs.push(S === 1 ? Math.sign(together[0][0]) : 1);
    }
    return { log10, signs };
  }

  /** Return the terms c_k of ∂L/∂w for w_in, w_h and b: size, sign where w is one number, signed
   *  share ⟨c_k, Σc⟩/‖Σc‖², the sum, and why there are no shares where there are none. */
  function termsOf(parts, outcome) {
    const top = Math.max(...parts.map((part) => (part.some ? part.power : -Infinity)));
    const relative = parts.map((part) => (top === -Infinity ? 0 : Math.max(part.power - top, -2000)));
    const size = parts[0].outer[0].length * parts[0].outer[1].length;
    const total = new Float64Array(size);
    parts.forEach((part, k) => eachEntry(part.outer, (value, at) => {
      total[at] += shifted(value, relative[k]);
    }));
    const whole = length(total);
    const share = parts.map((part, k) => {
      let dot = 0;
      eachEntry(part.outer, (value, at) => { dot += shifted(value, relative[k]) * (total[at] / whole); });
      return whole > 0 && Number.isFinite(whole) ? dot / whole : NaN;
    });
    const norms = parts.map((part) => length(part.outer[0]) * length(part.outer[1]));
    const one = size === 1;
    return {
      log10: norms.map((norm, k) => (norm === 0 ? -Infinity : log10Of(norm, parts[k].power))),
      signs: parts.map((part) => (one ? Math.sign(part.outer[0][0] * part.outer[1][0]) || 0 : 1)),
      share,
      total: top === -Infinity ? 0 : shifted(one ? total[0] : whole, top),
      totalLog10: whole > 0 ? log10Of(whole, top) : -Infinity,
      reason: Number.isNaN(share[0]) ? whyNoShares(outcome, whole, norms) : null,
    };
  }

  function eachEntry([left, right], visit) {
    let at = 0;
    for (const a of left) for (const b of right) visit(a * b, at++);
  }

  function whyNoShares(outcome, whole, norms) {
    if (outcome === "overflow") return "a state left the range of float64, so the terms are not numbers";
    if (outcome === "saturated") return "ŷ has rounded to exactly 0 or 1 and ∂L/∂logit to exactly 0: no step gets any";
    if (outcome === "fitted") return "the answer is right to the last digit: ∂L/∂logit is exactly 0";
    if (norms.every((norm) => norm === 0)) return "every term is exactly 0 (dead steps, w_out = 0, or nothing that w acted on)";
    return "the terms cancel to exactly 0, so none has a share";
  }

  function outcomeOf(run, gradient, target) {
    const finite = run.h.every((h) => h.every(Number.isFinite)) && Number.isFinite(run.logit);
    if (!finite) return "overflow";
    if (gradient !== 0) return "finite";
    return (run.logit > 0 ? 1 : run.logit < 0 ? 0 : null) === target ? "fitted" : "saturated";
  }

  /** Take the gradient of one sequence apart.
   *
   *  Args: settings; optional `weights` in place of those the settings ask for, and `sequence`, a
   *  pair [bits, label], in place of the chosen one. All lists have one entry a step, 1 … T. */
  function compute(given, options = {}) {
    const settings = settingsFrom(given);
    const weights = options.weights || weightsOf(settings);
    const data = sequencesOf(settings);
    const [inputs, target] = options.sequence || data[Math.min(settings.sequence, data.length - 1)];
    const run = forward(settings, weights, inputs), T = inputs.length, H = settings.units;
    const loss = lossOf(settings.loss, run.logit, target);
    const parts = { w_in: [], w_h: [], b: [] }, stateLog10 = new Array(T);
    const lastH = weights.w_out.map((w) => w * loss.gradient);
    sweep(settings, weights, run, lastH, run.c ? new Array(H).fill(0) : [], (t, adjoint, step) => {
      const { power } = adjoint;
      const put = (name, left, right) => {
        const some = left.some((v) => v !== 0) && right.some((v) => v !== 0);
        parts[name][t - 1] = { outer: [Array.from(left), Array.from(right)], power, some };
      };
      put("w_in", step.local, [inputs[t - 1]]);
      put("w_h", step.recurrent, run.h[t - 1]);
      put("b", step.local, [1]);
      const state = step.total ? [...adjoint.values.slice(0, H), ...step.total] : adjoint.values;
      stateLog10[t - 1] = log10Of(length(Array.from(state)), power);
    });
    const outcome = outcomeOf(run, loss.gradient, target);
    const product = products(settings, weights, run);
    const result = {
      settings, weights, inputs, target, outcome,
      states: run.h.map((h) => Array.from(h)),
      gates: gatesOf(settings, run),
      logit: run.logit, prediction: sigmoid(run.logit),
      lossValue: loss.value, lossGradient: loss.gradient,
      stateLog10, products: product, factors: factorsOf(settings, weights, run, product),
      terms: {},
    };
    for (const name of Object.keys(parts)) result.terms[name] = termsOf(parts[name], outcome);
    result.perStep = perStep(product, T);
    return result;
  }

  /** Return what each step multiplies the product by. One neuron: ∂h_t/∂h_{t-1} = φ'(a_t)·w_h, 1
   *  more with a residual connection. Else how much longer the product of the matrices becomes. */
  function factorsOf(settings, weights, run, product) {
    if (settings.cell === "rnn" && settings.units === 1) {
      return run.steps.map((step) => step.slope[0] * weights.W_h[0][0] + (settings.residual ? 1 : 0));
    }
    return run.steps.map((_, at) => (at === 0 ? NaN : Math.pow(10, product.log10[at - 1] - product.log10[at])));
  }

  /** The gate that keeps, by step: its mean over the units, and log10 of its product to step T,
   *  averaged over the units. */
  function gatesOf(settings, run) {
    const letter = { lstm: "f", gru: "z" }[settings.cell];
    if (!letter) return null;
    const keep = run.steps.map((step) => step[letter]), mean = (list) => list.reduce((s, v) => s + v, 0) / list.length;
    const productLog10 = new Array(keep.length);
    let sum = new Float64Array(settings.units);
    for (let t = keep.length; t >= 1; t--) {
      productLog10[t - 1] = mean(sum);
      sum = sum.map((value, j) => value + Math.log10(keep[t - 1][j]));
    }
    return { letter, mean: keep.map(mean), productLog10 };
  }

  /** Factor per step of the whole way from step T to step 1, T - 1 factors; 0 where it is cut. */
  function perStep(product, T) {
    const all = product.log10[0];
    return all === -Infinity ? 0 : Math.pow(10, all / (T - 1));
  }

  // ------------------------------------------------------------------------- training

  /** Return a training that is yet to run: `advance(n)` makes up to n epochs of full-batch gradient
   *  descent, w ← w - η·∂L/∂w, and returns whether there is more to do. Row e of the record is the
   *  network after e updates. */
  function training(given, options = {}) {
    const settings = settingsFrom(given), data = options.sequences || sequencesOf(settings);
    let weights = copyOf(options.weights || weightsOf(settings));
    const record = {
      settings, losses: [], correct: [], norms: [], weights: [], count: data.length,
      divergedAt: null, done: false, clipped: 0,
    };
    function epoch() {
      const { loss, correct, gradient } = lossAndGradient(settings, weights, data);
      const norm = length(flat(gradient));
      record.losses.push(loss);
      record.correct.push(correct);
      record.norms.push(norm);
      record.weights.push(weights);
      if (record.losses.length > settings.epochs) { record.done = true; return; }
      // torch.nn.utils.clip_grad_norm_, its 1e-6 included
      const factor = settings.clip > 0 ? Math.min(1, settings.clip / (norm + 1e-6)) : 1;
      if (factor < 1) record.clipped += 1;
      const next = updated(weights, gradient, settings.learning_rate * factor);
      if (!flat(next).every(Number.isFinite)) {
        record.divergedAt = record.losses.length;
        record.done = true;
        return;
      }
      weights = next;
    }
    return {
      record,
      advance(most) {
        for (let n = 0; n < most && !record.done; n++) epoch();
        return !record.done;
      },
    };
  }

  /** Run a whole training; see `training`. */
  function train(given, options) {
    const one = training(given, options);
    while (one.advance(1000));
    return { ...one.record, learnedAt: learnedAt(one.record) };
  }

  /** First epoch from which every sequence is right until the end; null if there is none. */
  function learnedAt(record) {
    const { correct, count } = record;
    if (record.divergedAt !== null || correct[correct.length - 1] < count) return null;
    let epoch = correct.length - 1;
    while (epoch > 0 && correct[epoch - 1] === count) epoch--;
    return epoch;
  }

  function lossAndGradient(settings, weights, data) {
    const H = settings.units, T = data[0][0].length;
    const gradient = copyOf(weights, 0);
    let loss = 0, correct = 0;
    for (const [inputs, target] of data) {
      const run = forward(settings, weights, inputs);
      const own = lossOf(settings.loss, run.logit, target);
      loss += own.value;
      // A logit of exactly 0 decides nothing: not right.
      if (target === 1 ? run.logit > 0 : run.logit < 0) correct += 1;
      const g = own.gradient, waiting = new Array(T + 1);
      for (let j = 0; j < H; j++) gradient.w_out[j] += g * run.h[T][j];
      waiting[T] = new Float64Array(H);
      for (let j = 0; j < H; j++) waiting[T][j] = weights.w_out[j] * g;
      let dc = new Float64Array(H);
      for (let t = T; t >= 1; t--) {
        const dh = waiting[t], step = STEPS[settings.cell].backward(settings, weights, run, t, dh, dc);
        accumulate(gradient, step, inputs[t - 1], run.h[t - 1]);
        addWaiting(waiting, t - 1, step.dh);
        if (step.dc) dc = step.dc;
        if (settings.cell === "rnn" && settings.skip >= 2 && t > settings.skip) {
          addWaiting(waiting, t - settings.skip, dh);
        }
      }
    }
    for (const part of [gradient.W_in, gradient.b, gradient.w_out, ...gradient.W_h]) {
      for (let i = 0; i < part.length; i++) part[i] /= data.length;
    }
    if (!settings.bias) gradient.b.fill(0);
    return { loss: loss / data.length, correct, gradient };
  }

  function addWaiting(waiting, at, adjoint) {
    const into = waiting[at] || (waiting[at] = new Float64Array(adjoint.length));
    for (let j = 0; j < adjoint.length; j++) into[j] += adjoint[j];
  }

  function accumulate(gradient, step, x, h) {
    for (let i = 0; i < step.local.length; i++) {
      gradient.W_in[i] += step.local[i] * x;
      gradient.b[i] += step.local[i];
      const row = gradient.W_h[i];
      for (let j = 0; j < row.length; j++) row[j] += step.recurrent[i] * h[j];
    }
  }

  function copyOf(weights, filled) {
    const copy = (list) => (filled === undefined ? Float64Array.from(list) : new Float64Array(list.length).fill(filled));
    return { W_in: copy(weights.W_in), W_h: weights.W_h.map(copy), b: copy(weights.b), w_out: copy(weights.w_out) };
  }

  const flat = (weights) => [weights.W_in, ...weights.W_h, weights.b, weights.w_out].flatMap((part) => Array.from(part));

  function updated(weights, gradient, rate) {
    const less = (list, by) => list.map((value, i) => value - rate * by[i]);
    return {
      W_in: less(weights.W_in, gradient.W_in),
      W_h: weights.W_h.map((row, i) => less(row, gradient.W_h[i])),
      b: less(weights.b, gradient.b),
      w_out: less(weights.w_out, gradient.w_out),
    };
  }

  const api = {
    SETTINGS, settingsFrom, weightsOf, sequencesOf, compute, training, train, learnedAt,
    spectralNorm, spectralRadius,
  };
  globalThis.gradreachPlayground = Object.assign(globalThis.gradreachPlayground || {}, api);
})();
