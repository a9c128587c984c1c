"use strict";
// Draws the report from the two JSON islands. Foreign text reaches the page through textContent
// and attribute values alone, after show().

const page = JSON.parse(document.getElementById("page").textContent);
const raw = document.getElementById("telemetry").textContent;
const telemetry = JSON.parse(raw);
const facts = page.facts;

// Figures and text ---------------------------------------------------------------------------

const digits = (value) => {
  const size = Math.abs(value);
  return value.toFixed(size >= 99.95 || size === 0 ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 2 : 3);
};
const seconds = (value) => {
  const size = Math.abs(value);
  if (!Number.isFinite(value)) return "–";
  if (size === 0) return "0 s";
  if (size < 1e-6) return digits(value * 1e9) + " ns";
  if (size < 0.9995e-3) return digits(value * 1e6) + " µs";
  if (size < 0.9995) return digits(value * 1e3) + " ms";
  if (size < 99.95) return digits(value) + " s";
  return Math.trunc(value / 60) + " min " + String(Math.round(size % 60)).padStart(2, "0") + " s";
};
const bytes = (value) => {
  let unit = "B";
  for (const larger of ["KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(value) < 1024) break;
    value /= 1024;
    unit = larger;
  }
  return (unit === "B" ? value : digits(value)) + " " + unit;
};
const count = (value) => {
  if (!Number.isFinite(value)) return "–";
  for (const [size, divisor, unit] of [[1e12, 1e12, "T"], [1e9, 1e9, "B"], [1e6, 1e6, "M"], [1e5, 1e3, "k"]]) {
    if (Math.abs(value) >= size) return digits(value / divisor) + " " + unit;
  }
  return Number.isInteger(value) ? String(value) : digits(value);
};
const inUnit = (value, unit) =>
  unit === "s" ? seconds(value) : unit === "By" ? bytes(value) : unit === "1" ? digits(value * 100) + " %" : count(value);
const percent = (part) => (part < 0.0995 ? (part * 100).toFixed(1) : Math.round(part * 100)) + " %";

// Control and direction characters would be invisible, or reorder their surroundings.
const show = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");

const attribute = (name, value) => {
  const last = name.split(".").pop();
  if (Array.isArray(value)) return value.map((it) => attribute(name, it)).join(", ");
  if (typeof value !== "number") return show(typeof value === "string" ? value : JSON.stringify(value));
  if (last === "size" || (name.includes(".memory.") && (last === "total" || last === "free"))) return bytes(value);
  if (["time", "wait", "time_to_first_token", "time_per_output_token"].includes(last)) return seconds(value);
  if (last === "throughput") return count(value) + "/s";
  if (last === "t_eval_us") return seconds(value / 1e6);
  if (last === "n_params") return count(value);
  return Number.isInteger(value) ? String(value) : digits(value);
};

// What tells one series of a metric from another: `phase decode`, `context 1`.
const shortName = (name) => {
  const parts = name.split(".");
  const last = parts.pop();
  return ["name", "type", "id", "kind"].includes(last) ? parts.pop() ?? last : last;
};

// Elements -----------------------------------------------------------------------------------

const make = (element, properties, children) => {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) element.append(child instanceof Node ? child : show(child));
  }
  return element;
};
const h = (tag, properties, ...children) => make(document.createElement(tag), properties, children);
const s = (tag, properties, ...children) => make(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

const COLOURS = {
  "backend init": "backend", "model load": "load", "context init": "context", prompt: "prompt", decode: "decode",
  sampling: "sampling", state: "state", free: "free", outside: "outside",
};
const colour = (phase) => `var(--${COLOURS[phase] ?? "wrap"})`;
const SHARES = ["load", "context", "prompt", "sampling", "decode", "state", "backend"];

const tip = document.getElementById("tip");
const withTip = (element, text) => {
  const move = (event) => {
    tip.hidden = false;
    tip.textContent = text();
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
    tip.style.top = (event.clientY + 20 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 16) + "px";
  };
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerleave", () => { tip.hidden = true; });
  return element;
};

const section = (title, aside, ...children) =>
  h("section", {}, h("div", { class: "head" }, h("h2", {}, title), aside ? (aside instanceof Node ? aside : h("span", { class: "aside num" }, aside)) : null), children);

const pairs = (entries) => h("dl", {}, entries.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", { class: "num" }, attribute(name, value)))));

// Head ---------------------------------------------------------------------------------------

const known = (value) => value !== null && value !== undefined;

function header() {
  const model = facts.model;
  const date = telemetry.spans.length ? new Date(telemetry.spans[0].start_unix_nano / 1e6).toLocaleString() : null;
  const sub = [
    model.arch, model.ftype, known(model.n_params) ? count(model.n_params) + " parameters" : null,
    known(model.size) ? bytes(model.size) : null, known(facts.n_ctx) ? "context " + facts.n_ctx : null,
    known(facts.n_threads) ? facts.n_threads + (facts.n_threads === 1 ? " thread" : " threads") : null,
  ].filter(known).join(" · ");
  const failures = facts.error_count;
  const nothing = !telemetry.spans.length && !telemetry.metrics.length;
  const verdict = nothing ? "✗ no telemetry received" : failures ? `✗ ${failures} ${failures === 1 ? "error" : "errors"}` : "✓ no errors";
  const download = h("button", { onclick: () => {
    const link = h("a", { href: URL.createObjectURL(new Blob([raw], { type: "application/json" })), download: "telemetry.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  } }, "Save JSON");
  const name = model.name ?? telemetry.resource["service.name"] ?? "unknown model";
  document.title = show(name) + " – llama-otel report";
  return h("header", {},
    h("div", {},
      h("div", { class: "kicker" }, ["llama-otel run", date, telemetry.spans.length + " spans", telemetry.metrics.length + " metrics"].filter(known).join("  ·  ")),
      h("h1", {}, name),
      h("div", { class: "sub" }, sub)),
    h("div", { class: "right" },
      h("span", { class: failures || nothing ? "pill bad" : "pill" }, verdict),
      download));
}

function headline() {
  const fact = (label, value, unit, note) => h("div", { class: "fact" },
    h("div", { class: "label" }, label),
    h("div", { class: "value num" }, value, unit ? h("small", {}, unit) : null),
    h("div", { class: "note num", title: show(note ?? "") }, note ?? "\u00a0"));
  const split = (text) => { const at = text.lastIndexOf(" "); return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)]; };
  const timed = (value) => (known(value) ? split(seconds(value)) : ["–", ""]);
  const largest = facts.memory[0];
  return h("div", { class: "facts" },
    fact("Tokens in → out", `${facts.input_tokens ?? "–"} → ${facts.output_tokens ?? "–"}`, "", facts.wall_time > 0 ? seconds(facts.wall_time) + " in all" : null),
    fact("Time to first token", ...timed(facts.time_to_first_token), known(facts.prompt_rate) ? `prompt ${count(facts.prompt_rate)} tokens/s` : null),
    fact("Generation", known(facts.output_rate) ? digits(facts.output_rate) : "–", "tokens/s", known(facts.time_per_output_token) ? seconds(facts.time_per_output_token) + " per token" : null),
    fact("Decode p50", ...timed(page.latency?.[0]), page.latency ? "p99 " + seconds(page.latency[1]) : null),
    fact("Model load", ...timed(facts.load_time), known(facts.model.size) && facts.load_time > 0 ? bytes(facts.model.size / facts.load_time) + "/s" : null),
    fact("Peak memory", ...(known(facts.peak_memory) ? split(bytes(facts.peak_memory)) : ["–", ""]), largest ? `${largest.label} ${bytes(largest.value)}` : null));
}

function failures() {
  const row = (failure) => h("tr", {},
    h("td", { class: "mono" }, failure.span), h("td", { class: "kind mono" }, failure.error_type ?? "error"),
    h("td", {}, failure.message || "–"), h("td", { class: "num" }, seconds(failure.at)));
  const it = section("Errors", null, h("table", {},
    h("tr", {}, ["Span", "Type", "Message", "At"].map((title) => h("th", {}, title))), facts.errors.map(row)));
  it.classList.add("failed");
  return it;
}

function stack(title, aside, shares, format, colourOf) {
  const sum = shares.reduce((total, share) => total + share.value, 0);
  const bar = h("div", { class: "stack" }, shares.map((share, index) => withTip(
    h("div", { style: `flex:${share.value / sum} 1 0; background:${colourOf(share, index)}` }),
    () => `${show(share.label)}\n${format(share.value)}  ${percent(share.value / sum)}`)));
  const legend = h("div", { class: "legend num" }, shares.map((share, index) => h("span", {},
    h("span", { class: "dot", style: `background:${colourOf(share, index)}` }), share.label,
    h("b", {}, format(share.value)), h("i", {}, percent(share.value / sum)))));
  return section(title, aside, bar, legend);
}

// Waterfall ----------------------------------------------------------------------------------

const niceStep = (range, about) => {
  const rough = range / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5, 10].find((step) => step * power >= rough) ?? 10);
};
const ticks = (from, to, about) => {
  if (!(to > from)) return [from];
  const step = niceStep(to - from, about);
  const values = [];
  for (let index = Math.ceil(from / step - 1e-9); index * step <= to + step * 1e-9; index++) values.push(index * step);
  return values;
};
// Labels of one axis share a unit.
const axisLabel = (value, top, unit) => {
  if (unit !== "s") return inUnit(value, unit);
  const [factor, name] = top >= 1 ? [1, "s"] : top >= 1e-3 ? [1e3, "ms"] : [1e6, "µs"];
  return Number((value * factor).toPrecision(6)) + " " + name;
};

function waterfall() {
  const end = Math.max(facts.wall_time, 1e-9);
  let view = [0, end];
  let chosen = null;
  const lanes = page.rows.map((row) => ({ row, svg: s("svg", { "aria-hidden": "true" }) }));
  const axis = s("svg", {});
  const detail = h("div", { class: "detail", hidden: "" });

  const extent = (test) => {
    const spans = page.rows.filter(test).flatMap((row) => row.spans);
    if (!spans.length) return null;
    const from = Math.min(...spans.map((it) => it[1]));
    const to = Math.max(...spans.map((it) => it[1] + it[2]));
    const margin = (to - from) * 0.015;
    return [Math.max(0, from - margin), Math.min(end, to + margin)];
  };
  const zoom = (from, to) => {
    const least = Math.min(end, 1e-6);
    const width = Math.min(end, Math.max(least, to - from));
    const start = Math.min(Math.max(0, from), end - width);
    view = [start, start + width];
    draw();
  };
  const scale = (factor) => {
    const middle = (view[0] + view[1]) / 2;
    const half = ((view[1] - view[0]) * factor) / 2;
    zoom(middle - half, middle + half);
  };

  const describe = (row, [index, start, duration]) => {
    const span = telemetry.spans[index];
    const position = row.spans.length > 1 ? ` ${row.spans.findIndex((it) => it[0] === index) + 1} of ${row.spans.length}` : "";
    return `${show(span.name)}${position}\n${seconds(duration)} at ${seconds(start)}` + (span.status.code === "error" ? `\n✗ ${show(span.status.message)}` : "");
  };
  const choose = (row, place) => {
    chosen = place[0];
    const span = telemetry.spans[place[0]];
    const failed = span.status.code === "error";
    const attributes = Object.entries(span.attributes);
    detail.replaceChildren(
      h("div", { class: "title" }, h("span", { class: "mono" }, span.name),
        h("span", { class: "num" }, `${seconds(place[2])} at ${seconds(place[1])}`),
        h("span", { class: "soft" }, failed ? "" : `status ${span.status.code}`),
        failed ? h("span", { class: "pill bad" }, "✗ " + show(span.status.message || "error")) : null),
      attributes.length ? pairs(attributes) : h("div", { class: "soft" }, "no attributes"),
      ...span.events.map((event) => h("div", { style: "margin-top:8px" }, h("b", {}, "event "), h("span", { class: "mono" }, event.name), pairs(Object.entries(event.attributes)))));
    detail.hidden = false;
    draw();
  };

  const draw = () => {
    const [from, to] = view;
    const width = lanes[0]?.svg.clientWidth || 600;
    const x = (time) => ((time - from) / (to - from)) * width;
    const marks = ticks(from, to, Math.max(2, Math.floor(width / 95)));
    const lines = () => marks.map((mark) => s("line", { class: "grid", x1: x(mark), x2: x(mark), y1: 0, y2: 24 }));
    const labels = marks.map((mark) => {
      const at = x(mark);
      const anchor = at < 18 ? "start" : at > width - 22 ? "end" : "middle";
      return s("text", { x: at, y: 15, "text-anchor": anchor }, axisLabel(mark, to, "s"));
    });
    axis.replaceChildren(...labels);
    for (const { row, svg } of lanes) {
      const shapes = [];
      let filled = -1;
      row.spans.forEach((place, index) => {
        const [spanIndex, start, duration] = place;
        if (start + duration < from || start > to) return;
        const left = Math.max(-3, x(start));
        const right = Math.min(width + 3, x(start + duration));
        // Spans that would share a pixel with the one before are left to the zoom.
        if (right <= filled && spanIndex !== chosen) return;
        const gap = right - left > 4 && row.spans.length > 1 ? 1 : 0;
        filled = Math.max(filled, Math.max(right, left + 0.7));
        const shape = s("rect", {
          class: spanIndex === chosen ? "bar chosen" : "bar", x: left, y: row.phase ? 4 : 8, rx: right - left > 6 ? 2.5 : 0,
          width: Math.max(right - left - gap, row.spans.length > 1 ? 0.7 : 2), height: row.phase ? 16 : 8,
          fill: row.failed ? "var(--bad)" : colour(row.phase),
          // Neighbours stay apart even where no gap fits.
          "fill-opacity": row.spans.length > 1 && index % 2 ? 0.72 : 1,
          onclick: () => choose(row, place),
        });
        shapes.push(withTip(shape, () => describe(row, place)));
      });
      svg.replaceChildren(...lines(), ...shapes);
    }
    if (band.parentNode) band.remove();
  };

  // Dragging over the lanes zooms; a short drag is a click.
  const band = h("div", { style: "position:absolute;top:24px;bottom:0;background:var(--decode);opacity:.16;pointer-events:none;border-radius:3px" });
  const fall = h("div", { class: "fall" });
  let drag = null;
  const timeAt = (clientX) => {
    const box = lanes[0].svg.getBoundingClientRect();
    return view[0] + ((clientX - box.left) / box.width) * (view[1] - view[0]);
  };
  fall.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.target.closest("svg")) drag = event.clientX;
  });
  addEventListener("pointermove", (event) => {
    if (drag === null || Math.abs(event.clientX - drag) < 5) return;
    const box = fall.getBoundingClientRect();
    band.style.left = Math.min(drag, event.clientX) - box.left + "px";
    band.style.width = Math.abs(event.clientX - drag) + "px";
    if (!band.parentNode) fall.append(band);
  });
  addEventListener("pointerup", (event) => {
    if (drag !== null && Math.abs(event.clientX - drag) >= 5) {
      const [a, b] = [timeAt(drag), timeAt(event.clientX)];
      zoom(Math.min(a, b), Math.max(a, b));
    }
    drag = null;
  });
  fall.addEventListener("dblclick", () => zoom(0, end));
  fall.addEventListener("wheel", (event) => {
    if (!(event.ctrlKey || event.metaKey) || !event.target.closest("svg")) return;
    event.preventDefault();
    const at = timeAt(event.clientX);
    const factor = event.deltaY > 0 ? 1.25 : 0.8;
    zoom(at - (at - view[0]) * factor, at + (view[1] - at) * factor);
  }, { passive: false });

  const stat = (row) => (row.spans.length > 1
    ? h("div", { class: "stat num" }, h("span", {}, `p50 ${seconds(row.p50)} · p99 ${seconds(row.p99)}`), h("b", {}, seconds(row.total)))
    : h("div", { class: "stat num" }, h("b", {}, seconds(row.total))));
  fall.append(
    h("div", { class: "lane axis" }, h("div"), axis, h("div", { class: "stat" }, "total")),
    ...lanes.map(({ row, svg }) => h("div", { class: row.failed ? "lane bad" : "lane" },
      h("div", { class: "name", style: `padding-left:${4 + row.depth * 15}px`, title: show(row.name) },
        (row.failed ? "✗ " : "") + show(row.name), row.phase === "prompt" ? h("b", {}, "prompt") : null,
        row.spans.length > 1 ? h("b", {}, "× " + row.spans.length) : null),
      svg, stat(row))));

  const button = (label, view, title) => (view ? h("button", { onclick: () => zoom(...view), title }, label) : null);
  const tools = h("div", { class: "tools" },
    h("span", { class: "hint" }, "drag to zoom, double-click for all, click a span for its attributes"),
    button("Whole run", [0, end], "Show everything"),
    button("Load", extent((row) => ["backend init", "model load", "context init"].includes(row.phase)), "Zoom to the load"),
    button("Generation", extent((row) => ["prompt", "decode", "sampling"].includes(row.phase)), "Zoom to the generation"),
    h("button", { onclick: () => scale(0.5), "aria-label": "Zoom in" }, "+"),
    h("button", { onclick: () => scale(2), "aria-label": "Zoom out" }, "−"));
  new ResizeObserver(() => draw()).observe(fall);
  const failed = page.rows.find((row) => row.failed);
  if (failed) choose(failed, failed.spans[0]);
  return section("Timeline", tools, fall, detail);
}

// Charts -------------------------------------------------------------------------------------

// Calls draw(svg, width) now and whenever the width changes.
function plot(height, draw) {
  const svg = s("svg", { class: "plot", height });
  let last = 0;
  new ResizeObserver(() => {
    const width = svg.clientWidth;
    if (!width || width === last) return;
    last = width;
    svg.replaceChildren(...draw(width).flat());
  }).observe(svg);
  return svg;
}

function yAxis(top, unit, width, left, y) {
  return ticks(0, top, 4).flatMap((value) => [
    s("line", { class: "grid", x1: left, x2: width, y1: y(value), y2: y(value) }),
    s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, axisLabel(value, top, unit)),
  ]);
}

function tokenChart() {
  const of = (phase) => page.rows.filter((row) => row.phase === phase && telemetry.spans[row.spans[0][0]].name !== "llama_ubatch")
    .flatMap((row) => row.spans).sort((a, b) => a[1] - b[1]);
  const decodes = of("decode").filter((place) => telemetry.spans[place[0]].name === "llama_decode");
  if (decodes.length < 2) return null;
  const samples = of("sampling");
  // What a token costs: its decode and the first sampling after it.
  let next = 0;
  const tokens = decodes.map((place, index) => {
    while (next < samples.length && samples[next][1] < place[1]) next++;
    const until = decodes[index + 1]?.[1] ?? Infinity;
    const sample = next < samples.length && samples[next][1] < until ? samples[next] : null;
    return { decode: place[2], sample: sample ? sample[2] : 0, failed: telemetry.spans[place[0]].status.code === "error" };
  });
  const top = Math.max(...tokens.map((token) => token.decode + token.sample)) * 1.08;
  const [p50, p99] = page.latency;
  const chart = plot(176, (width) => {
    const [left, bottom] = [54, 152];
    const y = (value) => bottom - (value / top) * (bottom - 6);
    const step = (width - left) / tokens.length;
    const bars = tokens.flatMap((token, index) => {
      const x = left + index * step;
      const bar = (from, to, fill) => s("rect", { x: x + Math.min(1, step * 0.12), width: Math.max(0.6, step - Math.min(2, step * 0.24)), y: y(to), height: Math.max(0, y(from) - y(to)), fill });
      const group = s("g", {}, bar(0, token.decode, token.failed ? "var(--bad)" : colour("decode")), bar(token.decode, token.decode + token.sample, colour("sampling")));
      return [withTip(group, () => `token ${index + 2}\ndecode ${seconds(token.decode)}\nsampling ${seconds(token.sample)}`)];
    });
    const marks = ticks(1, tokens.length, Math.max(2, Math.floor(width / 90))).filter((mark) => mark >= 1 && Number.isInteger(mark))
      .map((mark) => s("text", { x: left + (mark - 0.5) * step, y: bottom + 17, "text-anchor": "middle" }, mark));
    const median = [s("line", { x1: left, x2: width, y1: y(p50), y2: y(p50), stroke: "var(--text)", "stroke-dasharray": "4 4", "stroke-opacity": 0.55 })];
    return [yAxis(top, "s", width, left, y), bars, median, marks];
  });
  const aside = h("span", { class: "aside num" },
    h("span", { class: "dot", style: `background:${colour("decode")}` }), "decode  ",
    h("span", { class: "dot", style: `background:${colour("sampling")};margin-left:10px` }), "sampling",
    h("span", { style: "margin-left:12px" }, `p50 ${seconds(p50)} (dashed), p99 ${seconds(p99)}`));
  return section("Time for each token", aside, chart);
}

function kvChart() {
  const cache = facts.kv_cache;
  if (!cache) return null;
  const used = cache.used;
  const peak = Math.max(...used.map((it) => it[1]), 1);
  const top = Math.min(peak * 1.15, Math.max(cache.total ?? Infinity, peak));
  const from = used[0][0];
  const to = Math.max(used[used.length - 1][0], from + 1e-9);
  const chart = plot(cache.total ? 158 : 176, (width) => {
    const [left, bottom] = [44, cache.total ? 134 : 152];
    const x = (time) => left + ((time - from) / (to - from)) * (width - left - 4);
    const y = (value) => bottom - (value / top) * (bottom - 6);
    let line = "";
    used.forEach(([time, cells], index) => { line += index ? `H${x(time)}V${y(cells)}` : `M${x(time)} ${y(cells)}`; });
    const marks = ticks(from, to, Math.max(2, Math.floor(width / 100))).map((mark) => s("text", { x: x(mark), y: bottom + 17, "text-anchor": x(mark) > width - 20 ? "end" : "middle" }, axisLabel(mark, to, "s")));
    const hits = used.map(([time, cells], index) => {
      const next = used[index + 1]?.[0] ?? to;
      return withTip(s("rect", { x: x(time), width: Math.max(1.5, x(next) - x(time)), y: 0, height: bottom, fill: "transparent" }), () => `${count(cells)} cells\nat ${seconds(time)}`);
    });
    return [yAxis(top, "", width, left, y),
      s("path", { d: `${line}V${bottom}H${x(from)}Z`, fill: "var(--load)", "fill-opacity": 0.18 }),
      s("path", { d: line, fill: "none", stroke: "var(--load)", "stroke-width": 2, "stroke-linejoin": "round" }), marks, hits];
  });
  const share = cache.total ? peak / cache.total : null;
  return section("KV cache in use", cache.total ? `${count(peak)} of ${count(cache.total)} cells, ${inUnit(share, "1")}` : `${count(peak)} cells`, chart,
    share === null ? null : h("div", { class: "meter" }, h("div", { style: `width:${Math.min(100, share * 100)}%` })));
}

function histogram(series, unit) {
  const { bounds, bucket_counts: counts } = series.latest;
  if (!bounds || !counts || !series.latest.count) return null;
  const filled = counts.map((it, index) => (it ? index : -1)).filter((index) => index >= 0);
  // One bucket alone says where; its neighbours say where not.
  const first = Math.max(0, filled[0] - 2);
  const last = Math.min(counts.length - 1, filled[filled.length - 1] + 2);
  const shown = counts.slice(first, last + 1);
  const most = Math.max(...shown);
  const range = (index) => (index === 0 ? `≤ ${inUnit(bounds[0], unit)}` : index >= bounds.length ? `> ${inUnit(bounds[bounds.length - 1], unit)}` : `${inUnit(bounds[index - 1], unit)} – ${inUnit(bounds[index], unit)}`);
  return plot(66, (width) => {
    const step = width / shown.length;
    const bars = shown.map((it, offset) => {
      const height = it ? Math.max(2, (it / most) * 46) : 0;
      const hit = s("rect", { x: offset * step, width: step, y: 0, height: 48, fill: "transparent" });
      const bar = s("rect", { x: offset * step + 1, width: Math.max(1, step - 2), y: 48 - height, height, rx: 2, fill: "var(--decode)" });
      return withTip(s("g", {}, hit, bar), () => `${range(first + offset)}\n${it} of ${series.latest.count}`);
    });
    const edge = (index) => (index <= 0 ? (bounds[0] > 0 ? 0 : series.latest.min ?? bounds[0]) : bounds[Math.min(index, bounds.length) - 1]);
    const open = last >= bounds.length;
    return [s("line", { class: "grid", x1: 0, x2: width, y1: 48.5, y2: 48.5 }), bars,
      s("text", { x: 0, y: 62 }, inUnit(edge(first), unit)),
      s("text", { x: width, y: 62, "text-anchor": "end" }, open ? "∞" : inUnit(bounds[last], unit))];
  });
}

function lines(series, unit) {
  const values = series.values;
  if (values.length < 2 || values.every((it) => it[1] === values[0][1])) return null;
  const [from, to] = [values[0][0], values[values.length - 1][0]];
  const top = Math.max(...values.map((it) => it[1]));
  const low = Math.min(0, ...values.map((it) => it[1]));
  return plot(54, (width) => {
    const x = (time) => 2 + ((time - from) / Math.max(to - from, 1e-9)) * (width - 5);
    const y = (value) => 50 - ((value - low) / Math.max(top - low, 1e-12)) * 46;
    const line = values.map(([time, value], index) => `${index ? "L" : "M"}${x(time).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const dots = values.map(([time, value]) => withTip(
      s("g", {}, s("circle", { cx: x(time), cy: y(value), r: 7, fill: "transparent" }), s("circle", { cx: x(time), cy: y(value), r: values.length > 40 ? 0 : 2.2, fill: "var(--load)" })),
      () => `${inUnit(value, unit)}\nat ${seconds(time)}`));
    return [s("line", { class: "grid", x1: 0, x2: width, y1: 50.5, y2: 50.5 }),
      s("path", { d: `${line}V50H${x(from)}Z`, fill: "var(--load)", "fill-opacity": 0.14 }),
      s("path", { d: line, fill: "none", stroke: "var(--load)", "stroke-width": 1.7, "stroke-linejoin": "round" }), dots];
  });
}

function metricCard(metric) {
  const isHistogram = metric.kind === "histogram" || metric.kind === "exponential_histogram";
  const value = (it) => (known(it) ? inUnit(it, metric.unit) : "–");
  const row = (series) => {
    const entries = Object.entries(series.attributes);
    // A text says what it is by itself; a number needs its name.
    const who = entries.map(([name, it]) => (typeof it === "string" ? show(it) : `${show(shortName(name))} ${attribute(name, it)}`)).join(" · ");
    const whole = entries.map(([name, it]) => `${show(name)} = ${attribute(name, it)}`).join("\n");
    const latest = series.latest;
    const now = isHistogram ? `mean ${value(series.mean)}` : value(latest.value);
    const peak = Math.max(...series.values.map((it) => it[1]));
    const more = isHistogram
      ? latest.count > 1 ? [`${latest.count} ×`, known(series.p50) ? `p50 ${value(series.p50)}` : null, known(series.p95) ? `p95 ${value(series.p95)}` : null, known(latest.max) ? `max ${value(latest.max)}` : null].filter(known).join(" · ") : "measured once"
      : metric.kind !== "gauge" && peak > latest.value ? `peak ${value(peak)}` : null;
    const figure = isHistogram ? (latest.count > 1 ? histogram(series, metric.unit) : null) : lines(series, metric.unit);
    return h("div", { class: "series" },
      h("div", { class: "line num" }, h("span", { class: "who", title: whole }, who || "all"), h("span", { class: "now" }, now)),
      more ? h("div", { class: "more num" }, more) : null, figure);
  };
  const kind = metric.kind.replaceAll("_", " ") + (metric.unit ? ", " + metric.unit : "");
  return h("div", { class: "chart" }, h("h3", { title: show(metric.description) }, metric.name),
    h("div", { class: "what" }, kind), metric.series.map(row));
}

// The page -----------------------------------------------------------------------------------

function report() {
  const parts = [header(), headline()];
  if (facts.errors.length) parts.push(failures());
  if (facts.phases.length) {
    parts.push(stack("Where the time went", seconds(facts.wall_time) + " from the first span to the last", facts.phases, seconds, (share) => colour(share.label)));
  }
  if (page.rows.length) parts.push(waterfall());
  const charts = [tokenChart(), kvChart()].filter(known);
  if (charts.length === 2) parts.push(h("div", { class: "pair" }, ...charts));
  else parts.push(...charts);
  if (facts.memory.length) {
    parts.push(stack("Memory at its peak", bytes(facts.peak_memory), facts.memory, bytes, (_, index) => `var(--${SHARES[index % SHARES.length]})`));
  }
  if (page.metrics.length) parts.push(section("Metrics", "each at its last export; lines over time, bars by size", h("div", { class: "charts" }, page.metrics.map(metricCard))));
  const resource = Object.entries(telemetry.resource);
  if (resource.length) parts.push(section("Resource", null, pairs(resource)));
  parts.push(h("footer", {}, h("span", {}, "Made by cargo xtask demo from OTLP. This file is complete in itself and loads nothing."),
    facts.dropped > 0 ? h("span", { style: "color:var(--bad)" }, `${count(facts.dropped)} spans or points were dropped on the way`) : null));
  document.getElementById("report").replaceChildren(...parts);
}

report();
