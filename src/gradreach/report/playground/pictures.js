// The four pictures of the playground, as SVG of the width there is.
(function () {
  "use strict";

  const { number, power } = globalThis.gradreachPlayground;
  const LN2 = Math.log(2);

  /** Make an SVG element; children are elements or text. No markup is ever parsed. */
  function node(name, attributes, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
    made.append(...children);
    return made;
  }

  function picture(host, height, label) {
    const width = Math.max(host.clientWidth, 240);
    const svg = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    host.replaceChildren(svg);
    return { svg, width };
  }

  /** How a factor is coloured: it shrinks, grows or keeps. */
  function kindOf(factor) {
    const size = Math.abs(factor);
    if (!Number.isFinite(size)) return "fault";
    return Math.abs(size - 1) < 0.005 ? "keep" : size < 1 ? "shrink" : "grow";
  }

  const short = (value) => number(value, 2);

  // ------------------------------------------------------------------------- 1 · network

  function drawNetwork(host, flow) {
    const { inputs, settings, states } = flow, T = inputs.length;
    const one = settings.units === 1, cut = settings.cell === "rnn" && settings.skip >= 2;
    const top = cut ? 46 : 12, height = top + 132;
    const { svg, width } = picture(host, height, `The network unrolled over ${T} steps; its numbers stand in the table below.`);
    const narrow = width < 480, left = narrow ? 42 : 48, right = narrow ? 54 : 68;
    const fit = Math.max(4, Math.floor((width - left - right) / (narrow ? 42 : 58)));
    const shown = stepsShown(T, fit), gap = (width - left - right) / Math.max(shown.length, 1);
    const at = new Map(shown.map((t, i) => [t, left + gap * (i + 0.5)])), y = top + 52;
    [["factor", top + 16], [one ? "state" : "|state|", y + 4], ["input", y + 42], ["step", y + 64]].forEach(([text, place]) =>
      svg.append(node("text", { x: 0, y: place, class: "soft" }, text)));
    shown.forEach((t, i) => {
      if (t === null) {
        svg.append(node("text", { x: left + gap * (i + 0.5), y: y + 4, "text-anchor": "middle" }, "…"));
        return;
      }
      const x = at.get(t), before = i > 0 && shown[i - 1] === t - 1 ? at.get(t - 1) : x - gap;
      if (t > 1) drawFactor(svg, flow.factors[t - 1], before + 18, x - 18, y, top + 16, i > 0);
      if (settings.residual && t > 1 && i > 0) {
        svg.append(node("path", { d: `M${before} ${y - 17}Q${(before + x) / 2} ${y - 36} ${x} ${y - 17}`, class: "bare keep dashed", fill: "none" }));
      }
      if (cut && at.has(t - settings.skip)) drawSkip(svg, at.get(t - settings.skip), x, y);
      drawState(svg, x, y, short(one ? states[t][0] : meanSize(states[t])));
      svg.append(node("line", { x1: x, x2: x, y1: y + 31, y2: y + 18, class: "axis" }));
      svg.append(node("text", { x, y: y + 42, "text-anchor": "middle" }, String(inputs[t - 1])));
      svg.append(node("text", { x, y: y + 64, "text-anchor": "middle", class: "soft" }, String(t)));
    });
    const end = width - right;
    svg.append(node("line", { x1: at.get(T) + 18, x2: end + 8, y1: y, y2: y, class: "axis" }));
    svg.append(node("text", { x: end + 10, y: y - 4 }, `ŷ ${number(flow.prediction, 2)}`));
    svg.append(node("text", { x: end + 10, y: y + 12, class: "soft" }, `label ${flow.target}`));
  }

  const meanSize = (list) => list.reduce((sum, value) => sum + Math.abs(value), 0) / list.length;

  /** Which steps there is room for: all, or the first and the last ones around a gap. */
  function stepsShown(T, fit) {
    if (T <= fit) return Array.from({ length: T }, (_, i) => i + 1);
    const first = Math.max(1, Math.floor((fit - 1) / 2)), last = Math.max(1, fit - 1 - first);
    return [...Array.from({ length: first }, (_, i) => i + 1), null, ...Array.from({ length: last }, (_, i) => T - last + 1 + i)];
  }

  function drawFactor(svg, factor, from, to, y, labelY, whole) {
    const kind = kindOf(factor), size = Math.abs(factor);
    const thick = Number.isFinite(size) && size > 0 ? Math.min(6, Math.max(1, 2.5 + 2 * Math.log10(size))) : 1;
    svg.append(node("line", { x1: whole ? from : Math.max(from, to - 14), x2: to, y1: y, y2: y, class: kind, "stroke-width": thick.toFixed(2), ...(factor === 0 ? { "stroke-dasharray": "2 3" } : {}) }));
    svg.append(node("text", { x: (from + to) / 2, y: labelY, "text-anchor": "middle", class: kind }, short(factor)));
  }

  function drawSkip(svg, from, to, y) {
    svg.append(node("path", { d: `M${from} ${y - 17}C${from + 20} ${y - 84} ${to - 20} ${y - 84} ${to} ${y - 17}`, class: "bare keep dashed", fill: "none" }));
  }

  function drawState(svg, x, y, text) {
    svg.append(node("circle", { cx: x, cy: y, r: 17, class: "node" }));
    svg.append(node("text", { x, y: y + 4, "text-anchor": "middle", "font-size": text.length > 5 ? 9 : 11 }, text));
  }

  // ------------------------------------------------------------------------- axes

  /** A panel with a linear step axis below and a vertical axis at the left. */
  function panel(svg, box, { steps, low, high, ticks, told, below, xTicks }) {
    const x = (step) => box.left + (steps[1] === steps[0] ? 0.5 : (step - steps[0]) / (steps[1] - steps[0])) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    for (const tick of ticks) {
      svg.append(node("line", { x1: box.left, x2: box.right, y1: y(tick), y2: y(tick), class: "line" }));
      svg.append(node("text", { x: box.left - 5, y: y(tick) + 4, "text-anchor": "end", class: "soft", "font-size": 11 }, told(tick)));
    }
    for (const step of xTicks || []) {
      svg.append(node("text", { x: x(step), y: box.bottom + 15, "text-anchor": "middle", class: "soft", "font-size": 11 }, String(step)));
    }
    if (below) svg.append(node("text", { x: (box.left + box.right) / 2, y: box.bottom + 31, "text-anchor": "middle", class: "soft" }, below));
    return { x, y };
  }

  function powersOfTen(low, high, most = 5) {
    const stride = Math.max(1, Math.ceil((high - low) / most)), ticks = [];
    for (let p = Math.ceil(low / stride) * stride; p <= high; p += stride) ticks.push(p);
    return ticks;
  }

  const tenTo = (p) => (p === 0 ? "1" : Math.abs(p) <= 2 ? String(Number(Math.pow(10, p).toPrecision(2))) : `1e${String(p).replace("-", "−")}`);

  function linearTicks(low, high, most = 5) {
    const span = high - low || 1, unit = Math.pow(10, Math.floor(Math.log10(span)));
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10].map((m) => m * unit).find((s) => span / s <= most);
    const ticks = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * span; n++) ticks.push(Number((n * step).toPrecision(12)));
    return ticks;
  }

  function marksOf(T) {
    return T <= 12 ? Array.from({ length: T }, (_, i) => i + 1) : [1, Math.round(T / 4), Math.round(T / 2), Math.round((3 * T) / 4), T];
  }

  /** Points of a curve as polylines; a value that is not finite breaks it. */
  function lines(svg, points, attributes) {
    let part = [];
    const flush = () => {
      if (part.length > 1) svg.append(node("polyline", { points: part.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "), "stroke-width": 2, ...attributes, class: `${attributes.class} bare` }));
      if (part.length === 1) svg.append(node("circle", { cx: part[0][0], cy: part[0][1], r: 2, ...attributes }));
      part = [];
    };
    for (const point of points) (point.every(Number.isFinite) ? part.push(point) : flush());
    flush();
  }

  /** A line to compare with, its meaning written at its end: the left above it, the right below. */
  function level(svg, box, y, text, kind = "soft", end = "left") {
    const place = end === "left" ? { x: box.left + 4, y: y - 4 } : { x: box.right, y: y + 12, "text-anchor": "end" };
    svg.append(node("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: `${kind === "soft" ? "axis" : kind} dashed` }));
    svg.append(node("text", { ...place, class: kind, "font-size": 11 }, text));
  }

  function range(values, least, most) {
    const finite = values.filter(Number.isFinite);
    return [Math.min(least, ...finite.map(Math.floor)), Math.max(most, ...finite.map(Math.ceil))];
  }

  // ------------------------------------------------------------------------- 2 · product

  function drawProduct(host, flow) {
    const log10 = flow.products.log10, T = log10.length, gates = flow.gates;
    const { svg, width } = picture(host, 300, `What is left of the gradient at each step, logarithmic: ${power(log10[0])} at step 1, 1 at step ${T}.`);
    const box = { left: 46, right: width - 12, top: 18, bottom: 260 };
    const [low, high] = range([...log10, ...(gates ? gates.productLog10 : [])], -3, 1);
    const { x, y } = panel(svg, box, {
      steps: [1, T], low, high, ticks: powersOfTen(low, high), told: tenTo, below: "timestep k", xTicks: marksOf(T),
    });
    level(svg, box, y(0), "1: as much as at the last step");
    if (low < -2) level(svg, box, y(-2), "1 % left", "fault", "right");
    if (gates) lines(svg, gates.productLog10.map((value, i) => [x(i + 1), y(value)]), { class: "keep dashed", stroke: "currentColor" });
    const kind = log10[0] > 0.005 ? "grow" : log10[0] < -0.005 ? "shrink" : "keep";
    lines(svg, log10.map((value, i) => [x(i + 1), y(value)]), { class: kind });
    for (let k = 1; k <= T; k++) {
      const value = log10[k - 1];
      if (value === -Infinity) svg.append(node("path", { d: `M${x(k) - 3} ${box.bottom - 6}h6l-3 6z`, class: "shrink" }));
      else if (T <= 40 && Number.isFinite(value)) svg.append(node("circle", { cx: x(k), cy: y(value), r: 3, class: kind, ...(flow.products.signs[k - 1] < 0 ? { "fill-opacity": 0 } : {}) }));
    }
    if (gates) svg.append(node("text", { x: box.right, y: box.top + 10, "text-anchor": "end", class: "keep", "font-size": 11 }, `- - Π ${gates.letter}, the keeping gate alone`));
  }

  // ------------------------------------------------------------------------- 3 · contributions

  function drawTerms(host, flow, which) {
    const terms = flow.terms[which], T = terms.log10.length;
    const { svg, width } = picture(host, 300, terms.reason || `Share of each step in the gradient, and the size of each term, logarithmic. Step 1: ${power(terms.log10[0])}, step ${T}: ${power(terms.log10[T - 1])}.`);
    const upper = { left: 46, right: width - 12, top: 22, bottom: 130 }, lower = { left: 46, right: width - 12, top: 172, bottom: 260 };
    svg.append(node("text", { x: 0, y: 10, class: "soft", "font-size": 11 }, "share of the sum"));
    if (terms.reason) {
      svg.append(node("text", { x: upper.left, y: 70, class: "fault" }, "No shares: see the text above."));
    } else {
      const low = Math.min(0, ...terms.share), high = Math.max(0, ...terms.share);
      const { x, y } = panel(svg, upper, { steps: [0.5, T + 0.5], low, high: high === low ? 1 : high, ticks: linearTicks(low, high, 4), told: (v) => number(v, 2) });
      const wide = Math.max(1, ((upper.right - upper.left) / T) * 0.7);
      terms.share.forEach((share, i) => {
        const from = y(Math.max(share, 0)), to = y(Math.min(share, 0));
        svg.append(node("rect", { x: x(i + 1) - wide / 2, width: wide, y: from, height: Math.max(to - from, share === 0 ? 0 : 0.5), class: share < 0 ? "grow" : "shrink", "stroke-width": 0 }));
      });
      svg.append(node("line", { x1: upper.left, x2: upper.right, y1: y(0), y2: y(0), class: "axis" }));
    }
    svg.append(node("text", { x: 0, y: 159, class: "soft", "font-size": 11 }, "size of the term"));
    const sizes = terms.log10.filter(Number.isFinite), top = sizes.length ? Math.max(...sizes) : 0;
    const [low, high] = range(terms.log10, Math.floor(top) - 2, Math.ceil(top + 1e-9));
    const { x, y } = panel(svg, lower, { steps: [0.5, T + 0.5], low, high, ticks: powersOfTen(low, high, 4), told: tenTo, below: "timestep k", xTicks: marksOf(T) });
    terms.log10.forEach((value, i) => {
      if (Number.isFinite(value)) svg.append(node("circle", { cx: x(i + 1), cy: y(value), r: T > 60 ? 1.6 : 2.8, class: terms.signs[i] < 0 ? "grow" : "shrink" }));
      else svg.append(node("path", { d: `M${x(i + 1) - 2.5} ${lower.bottom - 5}h5l-2.5 5z`, class: Number.isNaN(value) ? "fault" : "soft" }));
    });
  }

  // ------------------------------------------------------------------------- 4 · training

  function drawTraining(host, record, epoch) {
    const { losses, norms, settings } = record;
    const { svg, width } = picture(host, 340, `Loss by epoch: ${number(losses[0])} at first, ${number(losses[losses.length - 1])} at last. Below it the norm of the gradient.`);
    const upper = { left: 46, right: width - 12, top: 22, bottom: 170 }, lower = { left: 46, right: width - 12, top: 216, bottom: 300 };
    const last = Math.max(settings.epochs, 1), finite = losses.filter(Number.isFinite), most = Math.max(1, ...finite);
    const log = most > 5, least = log ? Math.max(1e-6, Math.min(...finite.filter((v) => v > 0), 0.1)) : 0;
    const place = log ? (v) => Math.log10(Math.max(v, least)) : (v) => v;
    const low = log ? Math.floor(Math.log10(least)) : 0, high = log ? Math.ceil(Math.log10(most)) : Math.ceil(most * 5) / 5;
    svg.append(node("text", { x: 0, y: 10, class: "soft", "font-size": 11 }, `loss, nats${log ? " (logarithmic)" : ""}`));
    const { x, y } = panel(svg, upper, { steps: [0, last], low, high, ticks: log ? powersOfTen(low, high) : linearTicks(0, high), told: log ? tenTo : (v) => number(v, 2) });
    if (settings.loss === "bce") level(svg, upper, y(place(LN2)), "ln 2: a coin", "soft", "right");
    if (settings.T === 3 && !settings.bias && settings.units === 1) level(svg, upper, y(place(LN2 / 2)), "½ ln 2: the floor", "fault", "right");
    thin(losses).forEach((part) => lines(svg, part.map((i) => [x(i), y(place(losses[i]))]), { class: "shrink", "stroke-width": 1.6 }));
    if (record.divergedAt !== null) {
      svg.append(node("line", { x1: x(record.divergedAt), x2: x(record.divergedAt), y1: upper.top, y2: upper.bottom, class: "fault" }));
      svg.append(node("text", { x: x(record.divergedAt) + 5, y: upper.top + 12, class: "fault" }, `update ${record.divergedAt}: NaN or ∞`));
    }
    const logs = norms.map((v) => (v > 0 ? Math.log10(v) : NaN));
    const [bottom, ceiling] = range(logs.concat(settings.clip > 0 ? [Math.log10(settings.clip)] : []), 0, 0);
    svg.append(node("text", { x: 0, y: 203, class: "soft", "font-size": 11 }, "norm of ∂L/∂w before clipping (logarithmic)"));
    const norm = panel(svg, lower, { steps: [0, last], low: Math.max(bottom, ceiling - 20), high: ceiling + (ceiling === bottom ? 1 : 0), ticks: powersOfTen(Math.max(bottom, ceiling - 20), ceiling, 4), told: tenTo, below: "epoch", xTicks: linearTicks(0, last, 5) });
    const floor = Math.max(bottom, ceiling - 20);
    thin(norms).forEach((part) => lines(svg, part.map((i) => [x(i), norm.y(Math.max(logs[i], floor))]), { class: "grow", "stroke-width": 1.4 }));
    if (settings.clip > 0) level(svg, lower, norm.y(Math.log10(settings.clip)), `clipped at ${settings.clip}`, "keep", "right");
    for (const box of [upper, lower]) svg.append(node("line", { x1: x(epoch), x2: x(epoch), y1: box.top, y2: box.bottom, class: "now" }));
  }

  /** Indices to draw: all of them, or of each stretch the least and the largest value. */
  function thin(values) {
    if (values.length <= 900) return [values.map((_, i) => i)];
    const kept = new Set([0, values.length - 1]), stretch = Math.ceil(values.length / 400);
    for (let from = 0; from < values.length; from += stretch) {
      let least = from, most = from;
      for (let i = from; i < Math.min(from + stretch, values.length); i++) {
        if (!Number.isFinite(values[i])) kept.add(i);
        if (values[i] < values[least]) least = i;
        if (values[i] > values[most]) most = i;
      }
      kept.add(least).add(most);
    }
    return [[...kept].sort((a, b) => a - b)];
  }

  Object.assign(globalThis.gradreachPlayground, { drawNetwork, drawProduct, drawTerms, drawTraining, kindOf });
})();
