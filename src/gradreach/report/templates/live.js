"use strict";
// The live page: listens to the server's events and lets curves and heat maps grow.
(() => {
  const asked = new URLSearchParams(location.search);
  const token = asked.get("token") || "";
  const MOST_RUNS = 4, QUIET_SECONDS = 12;
  const holder = document.getElementById("columns"), status = document.getElementById("connection");
  const list = document.getElementById("runs"), chooser = document.getElementById("chooser");
  const boxes = new Map(); // run id -> its box in the list of runs
  const columns = new Map(); // run id -> what its column holds
  let chosen = (asked.get("runs") || "").split(",").filter(Boolean).slice(0, MOST_RUNS);
  let source = null, heard = Date.now();
  const { element } = charts;

  function say(text, lost) {
    if (status.textContent !== text) status.textContent = text;
    status.classList.toggle("lost", Boolean(lost));
    document.documentElement.dataset.connection = lost ? "lost" : "open";
  }

  function listen() {
    if (source) source.close();
    for (const [id, column] of columns) {
      if (!chosen.includes(id)) { column.root.remove(); columns.delete(id); }
    }
    charts.forget();
    const query = new URLSearchParams({ token, runs: chosen.join(",") });
    source = new EventSource(`/events?${query}`);
    source.addEventListener("open", () => { heard = Date.now(); say("Live"); });
    source.addEventListener("beat", () => { heard = Date.now(); });
    source.addEventListener("runs", (event) => { heard = Date.now(); showRuns(JSON.parse(event.data)); });
    source.addEventListener("run", (event) => { heard = Date.now(); show(JSON.parse(event.data)); });
    source.addEventListener("error", () => {
      lost();
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
    });
  }

  function lost() {
    const since = new Date(heard).toLocaleTimeString();
    say(`No connection to gradreach serve: stale since ${since}. Trying again …`, true);
  }
  setInterval(() => {
    if (Date.now() - heard > QUIET_SECONDS * 1000) lost();
    for (const column of columns.values()) column.tick();
  }, 1000);

  function choose(ids) {
    chosen = ids;
    asked.set("runs", chosen.join(","));
    history.replaceState(null, "", `?${asked}`);
    listen();
  }

  function showRuns(runs) {
    chooser.querySelector("summary").textContent = `Runs (${runs.length}); up to ${MOST_RUNS} side by side`;
    chooser.hidden = runs.length < 2;
    for (const run of runs) {
      if (boxes.has(run.id)) { // kept as it is, or whoever is choosing would lose the focus
        boxes.get(run.id).checked = chosen.includes(run.id);
        continue;
      }
      const label = element("label", element("li", list));
      const box = element("input", label);
      box.type = "checkbox";
      box.value = run.id;
      box.checked = chosen.includes(run.id);
      boxes.set(run.id, box);
      element("span", label, run.name);
      element("span", label, run.changed).className = "soft";
      box.addEventListener("change", () => {
        const next = box.checked ? [...chosen, run.id] : chosen.filter((id) => id !== run.id);
        if (next.length > MOST_RUNS) { box.checked = false; say(`At most ${MOST_RUNS} runs side by side.`); return; }
        choose(next);
      });
    }
    for (const [id, box] of boxes) {
      if (runs.some((run) => run.id === id)) continue;
      box.closest("li").remove();
      boxes.delete(id);
    }
    const there = chosen.filter((id) => runs.some((run) => run.id === id));
    if (!there.length && runs.length) choose([runs[0].id]);
  }

  const STATES = {
    waiting: ["waiting", "the script has not begun to train", ""],
    running: ["running", "", ""],
    ended: ["run ended", "", "over"],
    stopped: ["run ended", "stopped after the steps asked for", "over"],
    killed: ["stale", "the run was never closed: its process was killed", "broken"],
    deleted: ["gone", "the run folder was deleted", "broken"],
  };

  function newColumn(id) {
    const root = element("section", holder);
    root.className = "run";
    root.dataset.run = id;
    const title = element("h2", root), state = element("p", root);
    state.className = "state";
    state.setAttribute("role", "status");
    const verdict = element("div", root);
    const panels = element("div", root);
    panels.className = "panels";
    const findings = element("div", root), events = element("details", root);
    element("summary", events, "Events");
    const happened = element("ul", events);
    let drawn = {}, told = null, at = Date.now();

    function panel(key, title_, before) {
      const figure = document.createElement("figure");
      figure.dataset.panel = key;
      before ? panels.prepend(figure) : panels.append(figure);
      element("figcaption", figure, title_);
      return figure;
    }
    function draw(key, spec) {
      if (!spec.steps.length && !drawn[key]) return;
      if (!drawn[key]) drawn[key] = charts.curves(panel(key, spec.title), { ...spec, height: 180 });
      else drawn[key].append(spec.steps, spec.series.map((series) => series.values));
    }
    function drawMap(name, spec) {
      const key = `map ${name}`;
      if (!spec.rows.length) return;
      if (!drawn[key]) drawn[key] = charts.map(panel(key, spec.title), spec);
      else drawn[key].append(spec.rows, spec.labels);
    }
    function drawProfile(name, spec) {
      const key = `profile ${name}`;
      if (!spec.steps.length) return;
      if (!drawn[key]) drawn[key] = charts.curves(panel(key, spec.title), { ...spec, height: 180 });
      else drawn[key].replace({ steps: spec.steps, series: spec.series, mark: spec.mark });
    }
    function tick() {
      if (!told) return;
      const [word, more, kind] = STATES[told.state] || [told.state, "", ""];
      const quiet = told.seconds_since + (Date.now() - at) / 1000;
      const parts = [`${charts.count(told.rows)} recorded steps`];
      if (more) parts.push(more);
      if (told.state === "running" && quiet > 15 || kind) {
        parts.push(`last entry at ${new Date(Date.now() - quiet * 1000).toLocaleTimeString()}`);
      }
      if (told.trouble) parts.push(told.trouble);
      state.className = `state ${kind}`;
      const text = `${told.state === "running" && quiet > 15 ? "running, silent" : word}: ${parts.join("; ")}`;
      if (state.dataset.text === text) return;
      state.dataset.text = text;
      state.replaceChildren();
      const [head, ...rest] = text.split(": ");
      element("b", state, head);
      state.append(`: ${rest.join(": ")}`);
    }
    function show(next) {
      told = next;
      at = Date.now();
      title.textContent = next.name;
      root.dataset.state = next.state;
      root.dataset.rows = next.rows;
      tick();
      if (next.whole) { panels.replaceChildren(); drawn = {}; charts.forget(); }
      verdict.className = `verdict ${next.severity}`;
      verdict.replaceChildren();
      element("p", verdict, next.verdict);
      for (const [name, spec] of Object.entries(next.maps)) drawMap(name, spec);
      for (const [name, spec] of Object.entries(next.profiles)) drawProfile(name, spec);
      for (const [key, spec] of Object.entries(next.charts)) draw(key, spec);
      findings.replaceChildren(...next.findings.map(card));
      happened.replaceChildren();
      for (const event of next.events) element("li", happened, event);
      events.hidden = !next.events.length;
    }
    return { root, show, tick };
  }

  function card(finding) {
    const root = document.createElement("article");
    root.className = `finding ${["error", "warning", "note"].includes(finding.severity) ? finding.severity : ""}`;
    const head = element("h3", root, `${finding.code} `);
    element("span", head, finding.severity).className = "severity";
    const items = element("ul", root);
    for (const member of finding.members) {
      const item = element("li", items);
      if (member.place) { element("b", item, member.place); element("br", item); }
      item.append(`${member.cause.slice(0, 1).toUpperCase()}${member.cause.slice(1)}.`);
      if (member.explains) { element("br", item); item.append(`This explains: ${member.explains}.`); }
      element("br", item);
      element("span", item, `To refute it: ${member.counter_check}.`).className = "soft";
    }
    if (finding.remedies) {
      const worth = element("p", root);
      element("b", worth, "Worth trying: ");
      worth.append(`${finding.remedies}.`);
    }
    return root;
  }

  function show(run) {
    if (!columns.has(run.id)) columns.set(run.id, newColumn(run.id));
    columns.get(run.id).show(run);
    document.title = chosen.length > 1 ? "gradreach live" : `${run.name}: ${run.state}`;
    if (!document.documentElement.dataset.first) {
      document.documentElement.dataset.first = String(Math.round(performance.now()));
    }
  }

  listen();
})();
