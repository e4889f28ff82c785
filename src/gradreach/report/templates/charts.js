"use strict";
// Curves (uPlot) and heat maps (canvas) of the report and of the live page. All texts from a run
// are set as text, never as markup.
const charts = (() => {
  const SHADES = ["440154", "481668", "482878", "433e85", "3b528b", "31688e", "2a788e", "23898e",
    "1f988b", "22a884", "35b779", "54c568", "7ad151", "a5db36", "d2e21b", "fde725"]
    .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const FAULTS = { 0: ["#000", "zero"], N: ["#d0c", "NaN"], I: ["#e22", "infinite"] };
  const COLOURS = ["--one", "--two", "--three", "--four"];
  const MOST = 2000; // points kept of a curve that grows
  const ROWS = 120; // of a heat map that grows
  const drawn = new Set();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const element = (tag, parent, text) => {
    const made = parent.appendChild(document.createElement(tag));
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace(/\.?0+e/, "e");
    return String(Number(value.toPrecision(4)));
  };
  const count = (value) => value.toLocaleString("en-US");

  // Values as uPlot draws them, and what cannot be drawn. null: a gap, as nothing finite is there;
  // undefined: not measured at that step, the curve passes over it.
  function decoded(values, log) {
    const marks = [];
    const shown = values.map((value, at) => {
      if (value === null) return undefined;
      if (typeof value === "string") { marks.push([at, value]); return null; }
      if (log && value <= 0) { marks.push([at, "zero"]); return null; }
      return value;
    });
    return { shown, marks };
  }

  function isLog(columns) {
    let some = false;
    for (const column of columns) {
      for (const value of column) {
        if (typeof value !== "number") continue;
        if (value < 0) return false;
        some = some || value > 0;
      }
    }
    return some;
  }

  // Ticks of a logarithmic axis: powers of ten, few; 1, 2 and 5 of them where it spans little.
  function powers(u, axis, low, high) {
    const from = Math.floor(Math.log10(low) + 1e-9), to = Math.ceil(Math.log10(high) - 1e-9);
    const stride = Math.max(1, Math.ceil((to - from) / 5)), found = [];
    for (let power = from; power <= to; power += stride) {
      for (const digit of to - from > 2 ? [1] : [1, 2, 5]) found.push(digit * 10 ** power);
    }
    return found.filter((tick) => tick >= low * (1 - 1e-9) && tick <= high * (1 + 1e-9));
  }

  // The places of `most` points at most: of each stretch the first, the last, the least, the
  // largest and a broken one of every curve, so that no peak and no NaN is lost.
  function thinned(columns, length, most) {
    if (length <= most) return null;
    const stretches = Math.max(1, Math.floor(most / (3 * columns.length + 1)));
    const kept = [];
    for (let part = 0; part < stretches; part++) {
      const from = Math.floor((part * length) / stretches);
      const to = Math.floor(((part + 1) * length) / stretches);
      const own = new Set([from]);
      for (const column of columns) {
        let least = -1, most_ = -1, broken = -1;
        for (let at = from; at < to; at++) {
          const value = column[at];
          if (typeof value === "string") { if (broken < 0) broken = at; continue; }
          if (value === null) continue;
          if (least < 0 || value < column[least]) least = at;
          if (most_ < 0 || value > column[most_]) most_ = at;
        }
        for (const at of [least, most_, broken]) if (at >= 0) own.add(at);
      }
      kept.push(...[...own].sort((a, b) => a - b));
    }
    if (kept[kept.length - 1] !== length - 1) kept.push(length - 1);
    return kept;
  }

  // spec: title, x (what the horizontal axis is), steps, series: [{name, values}], log (true,
  // false, or "auto"), mark: {at, text}, a place on the horizontal axis.
  function curves(figure, spec) {
    const holder = element("div", figure);
    holder.className = "drawing";
    const key = element("p", holder);
    key.className = "key";
    const area = element("div", holder);
    const readout = element("p", holder, "");
    readout.className = "readout";
    area.tabIndex = 0;
    area.setAttribute("role", "group");
    area.setAttribute("aria-label", `${spec.title}. Left and right arrow keys read the values.`);
    readout.setAttribute("aria-live", "polite");
    spec.series.forEach((series, index) => {
      if (spec.series.length < 2) return;
      const item = element("span", key);
      element("i", item).style.background = `var(${COLOURS[index % 4]})`;
      item.append(series.name);
    });
    let plot = null, marks = [], at = -1, log = false;

    function say(index) {
      if (index === null || index === undefined || index < 0 || index >= spec.steps.length) return;
      at = index;
      const told = spec.series.map((series) => {
        const value = series.values[index];
        return `${series.name} ${typeof value === "string" ? value : number(value)}`;
      });
      readout.textContent = `${spec.x} ${count(spec.steps[index])}: ${told.join(", ")}`;
    }

    function columns() {
      marks = [];
      log = spec.log === "auto" ? isLog(spec.series.map((series) => series.values)) : spec.log;
      return spec.series.map((series, index) => {
        const found = decoded(series.values, log);
        marks.push(...found.marks.map(([place, what]) => [place, what, index]));
        return found.shown;
      });
    }

    function strike(u) {
      const { left, top, width, height } = u.bbox, one = devicePixelRatio;
      u.ctx.save();
      u.ctx.lineWidth = 2 * one;
      for (const [place, what, index] of marks) {
        const x = u.valToPos(spec.steps[place], "x", true);
        if (x < left - 1 || x > left + width + 1) continue;
        const low = what === "zero" || what === "-Infinity";
        u.ctx.strokeStyle = what === "zero" ? colour(COLOURS[index % 4]) : colour("--red");
        u.ctx.beginPath();
        u.ctx.moveTo(x, low ? top + height : top);
        u.ctx.lineTo(x, low ? top + height - 8 * one : top + 10 * one);
        u.ctx.stroke();
      }
      if (spec.mark) {
        const x = u.valToPos(spec.mark.at, "x", true);
        u.ctx.strokeStyle = u.ctx.fillStyle = colour("--red");
        u.ctx.lineWidth = 1.5 * one;
        u.ctx.beginPath(); u.ctx.moveTo(x, top); u.ctx.lineTo(x, top + height); u.ctx.stroke();
        u.ctx.font = `${12 * one}px system-ui, sans-serif`;
        const right = x > left + width / 2;
        u.ctx.textAlign = right ? "right" : "left";
        u.ctx.fillText(spec.mark.text, x + (right ? -5 : 5) * one, top + height - 6 * one);
      }
      u.ctx.restore();
    }

    function build() {
      const data = [spec.steps, ...columns()];
      if (plot) plot.destroy();
      const axis = { stroke: colour("--soft"), font: "12px system-ui, sans-serif",
        grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
      const sparse = spec.steps.length < 40;
      plot = new uPlot({
        width: Math.max(area.clientWidth || figure.clientWidth, 200), height: spec.height || 200,
        scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
        axes: [
          { ...axis, size: 34, values: (u, ticks) => ticks.map((tick) => Number.isInteger(tick) ? count(tick) : "") },
          { ...axis, size: 64, ...(log ? { splits: powers, filter: (u, ticks) => ticks } : {}), values: (u, ticks) => ticks.map((tick) => tick === null ? "" : number(tick)) },
        ],
        series: [{}, ...spec.series.map((series, index) => ({
          label: series.name, stroke: colour(COLOURS[index % 4]), width: 1.5,
          dash: index === 1 ? [7, 3] : undefined, points: { show: sparse, size: 4 },
        }))],
        cursor: { y: false, drag: { x: true, y: false } },
        legend: { show: false },
        hooks: { draw: [strike], setCursor: [(u) => { if (u.cursor.idx !== null) say(u.cursor.idx); }] },
      }, data, area);
      figure.classList.add("drawn");
    }

    area.addEventListener("keydown", (event) => {
      const leap = Math.max(1, Math.round(spec.steps.length / 10));
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageDown: at + leap, PageUp: at - leap,
        Home: 0, End: spec.steps.length - 1 }[event.key];
      if (to === undefined || !spec.steps.length) return;
      event.preventDefault();
      const place = Math.min(Math.max(to, 0), spec.steps.length - 1);
      say(place);
      plot.setCursor({ left: plot.valToPos(spec.steps[place], "x"), top: 10 }, false);
    });

    function append(steps, values) {
      for (const step of steps) spec.steps.push(step);
      values.forEach((own, index) => { for (const value of own) spec.series[index].values.push(value); });
      const kept = spec.steps.length > 2 * MOST
        ? thinned(spec.series.map((series) => series.values), spec.steps.length, MOST) : null;
      if (kept) {
        spec.steps = kept.map((place) => spec.steps[place]);
        for (const series of spec.series) series.values = kept.map((place) => series.values[place]);
      }
      refresh();
    }

    function refresh() {
      const before = log, had = plot !== null && plot.data[0].length >= 40;
      const data = [spec.steps, ...columns()];
      if (log !== before || had !== (spec.steps.length >= 40)) build();
      else plot.setData(data);
    }

    build();
    follow(figure, area, build, () => {
      plot.setSize({ width: Math.max(area.clientWidth, 200), height: plot.height });
    });
    return { append, replace: (next) => { Object.assign(spec, next); refresh(); }, spec };
  }

  // spec: title, rows: [[cell]], labels: the training step of each row. A cell is 20·log10 of a
  // size, "0", "N" or "I"; null: the sequence was shorter. Columns end at the sequence's end;
  // `bundle` timesteps make one column.
  function map(figure, spec) {
    const holder = element("div", figure);
    holder.className = "drawing";
    const canvas = element("canvas", holder);
    const key = element("p", holder);
    key.className = "key";
    const readout = element("p", holder, "");
    readout.className = "readout";
    readout.setAttribute("aria-live", "polite");
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${spec.title}. Arrow keys read the cells.`);
    const LEFT = 58, TOP = 4, BOTTOM = 36;
    let at = null, columns = 1, tall = 5;

    function range() {
      let low = Infinity, high = -Infinity;
      for (const row of spec.rows) for (const cell of row) {
        if (typeof cell === "number") { low = Math.min(low, cell); high = Math.max(high, cell); }
      }
      return high < low ? [-20, 0] : [Math.max(low, high - 240), high];
    }
    function shade(cell, low, high) {
      if (typeof cell === "string") return FAULTS[cell][0];
      const place = Math.min(Math.max((cell - low) / Math.max(high - low, 1e-9), 0), 1) * (SHADES.length - 1);
      const under = Math.floor(place), part = place - under, above = Math.min(under + 1, SHADES.length - 1);
      return `rgb(${SHADES[under].map((v, i) => Math.round(v + (SHADES[above][i] - v) * part)).join()})`;
    }
    function say() {
      const row = spec.rows[at[0]];
      const cell = row[at[1] - (columns - row.length)];
      const back = (columns - 1 - at[1]) * spec.bundle;
      const what = cell === undefined || cell === null ? "no timestep there"
        : typeof cell === "string" ? FAULTS[cell][1] : number(10 ** (cell / 20));
      readout.textContent = `training step ${count(spec.labels[at[0]])}, ${count(back)} timesteps from the end: ${what}`;
    }
    function build() {
      const width = Math.max(holder.clientWidth, 200), one = devicePixelRatio || 1;
      columns = Math.max(1, ...spec.rows.map((row) => row.length));
      tall = Math.max(4, Math.min(16, Math.floor(200 / Math.max(spec.rows.length, 1))));
      const height = TOP + tall * Math.max(spec.rows.length, 1) + BOTTOM;
      canvas.width = width * one; canvas.height = height * one;
      canvas.style.height = `${height}px`;
      const pen = canvas.getContext("2d"), cell = (width - LEFT - 8) / columns, [low, high] = range();
      pen.scale(one, one);
      spec.rows.forEach((row, line) => {
        const start = columns - row.length;
        row.forEach((value, index) => {
          if (value === null) return;
          pen.fillStyle = shade(value, low, high);
          const x = LEFT + (start + index) * cell;
          pen.fillRect(x, TOP + line * tall, cell + 0.6, tall + (line + 1 < spec.rows.length ? 0.6 : 0));
        });
      });
      pen.fillStyle = colour("--soft");
      pen.font = "12px system-ui, sans-serif";
      pen.textAlign = "right";
      const lines = spec.rows.length;
      for (const line of new Set([0, lines > 4 ? lines >> 1 : 0, lines - 1])) {
        if (line >= 0 && lines) pen.fillText(count(spec.labels[line]), LEFT - 6, TOP + tall * (line + 0.5) + 4);
      }
      const below = TOP + tall * Math.max(lines, 1) + 15, span = columns * spec.bundle - 1;
      ["left", "center", "right"].forEach((align, index) => {
        pen.textAlign = align;
        const text = index === 2 ? "0" : `−${count(Math.round(span * (1 - index / 2)))}`;
        pen.fillText(text, LEFT + (index / 2) * (width - LEFT - 8), below);
      });
      pen.textAlign = "center";
      pen.fillText("timesteps from the end of the sequence", LEFT + (width - LEFT - 8) / 2, below + 16);
      if (at) {
        pen.strokeStyle = "#fff"; pen.lineWidth = 2;
        pen.strokeRect(LEFT + at[1] * cell, TOP + at[0] * tall, Math.max(cell, 3), tall);
      }
      key.replaceChildren();
      const scale = element("span", key, `${number(10 ** (low / 20))} `);
      for (let step = 0; step < 16; step++) {
        const piece = element("i", scale);
        piece.style.cssText = `background:${shade(low + (high - low) * step / 15, low, high)};width:.6em;height:.7em;margin:0`;
      }
      scale.append(` ${number(10 ** (high / 20))}`);
      for (const [code, [fill, name]] of Object.entries(FAULTS)) {
        if (!spec.rows.some((row) => row.includes(code))) continue;
        const item = element("span", key);
        const box = element("i", item);
        box.style.cssText = `background:${fill};height:.7em`;
        item.append(name);
      }
      figure.classList.add("drawn");
    }
    function move(line, column) {
      if (!spec.rows.length) return;
      at = [Math.min(Math.max(line, 0), spec.rows.length - 1), Math.min(Math.max(column, 0), columns - 1)];
      say();
      build();
    }
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect(), cell = (box.width - LEFT - 8) / columns;
      const line = Math.floor((event.clientY - box.top - TOP) / tall);
      const column = Math.floor((event.clientX - box.left - LEFT) / cell);
      if (line >= 0 && line < spec.rows.length && column >= 0 && column < columns) move(line, column);
    });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
        Home: [0, -columns], End: [0, columns] }[event.key];
      if (!by || !spec.rows.length) return;
      event.preventDefault();
      at ? move(at[0] + by[0], at[1] + by[1]) : move(spec.rows.length - 1, columns - 1);
    });
    build();
    follow(figure, holder, build, build);

    // Of many rows every second goes; the latest stays.
    function append(rows, labels) {
      spec.rows.push(...rows);
      spec.labels.push(...labels);
      while (spec.rows.length > ROWS) {
        const keep = spec.rows.map((row, line) => line % 2 === 0 || line === spec.rows.length - 1);
        spec.rows = spec.rows.filter((row, line) => keep[line]);
        spec.labels = spec.labels.filter((label, line) => keep[line]);
      }
      at = null;
      build();
    }
    return { append, spec };
  }

  // Other widths, other colours: everything is drawn again.
  function follow(figure, area, build, fit) {
    let width = area.clientWidth;
    const watcher = new ResizeObserver(() => {
      if (!figure.isConnected || area.clientWidth === width) return;
      width = area.clientWidth;
      requestAnimationFrame(fit);
    });
    watcher.observe(area);
    drawn.add({ figure, build, watcher });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const each of drawn) if (each.figure.isConnected) each.build();
  });
  const forget = () => { for (const each of drawn) {
    if (each.figure.isConnected) continue;
    each.watcher.disconnect();
    drawn.delete(each);
  } };

  return { curves, map, element, number, count, forget };
})();
