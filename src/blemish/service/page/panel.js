// What was found, in words and numbers: the tabs Verdict, Why and Where.

import { colourOf, heat } from "./colours.js";
import { byId, fill, h } from "./dom.js";
import { changed, current, modelInfo, state } from "./store.js";
import { goTo, hover, select } from "./viewer.js";
import { CLOSE, count, findings, floorOf, isClose, labelHolds, percent, thresholdOf, title } from "./words.js";

const TABS = ["verdict", "why", "where"];
let askForMap = () => {};
export const onMapWanted = (ask) => (askForMap = ask);

export function showTab(name) {
  state.tab = name;
  changed();
}

export function prepareTabs() {
  for (const name of TABS) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => showTab(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
      showTab(next);
      byId(`tab-${next}`).focus();
    });
  }
}

function slider({ id, label, value, min, max, text, note, onInput }) {
  return h("div", { class: "slider" },
    h("label", { for: id }, label),
    h("output", { for: id }, text),
    h("input", { id, "data-key": id, type: "range", min, max, step: 0.01, value, oninput: (e) => onInput(Number(e.target.value)) }),
    note && h("p", { class: "quiet" }, note));
}

function thresholdSlider(result) {
  const floor = floorOf(result);
  const own = state.threshold === null;
  const average = result.labels.reduce((sum, l) => sum + l.threshold, 0) / Math.max(result.labels.length, 1);
  const words = result.task === "classification"
    ? "A verdict below this score is marked as needing a look."
    : floor > 0 ? `Down to ${percent(floor)}, the lowest score this model file gives.` : "Down to 0: every score is known.";
  return h("div", {},
    slider({
      id: "threshold",
      label: result.objects ? "Show findings from score" : "Say yes from score",
      value: own ? average : state.threshold,
      min: floor,
      max: 1,
      text: own ? "the model's own" : percent(state.threshold),
      note: words,
      onInput: (value) => {
        state.threshold = Math.max(value, floor);
        changed();
      },
    }),
    h("button", { type: "button", class: "link", "data-key": "own", disabled: own, onclick: () => { state.threshold = null; changed(); } }, "Use the model's own thresholds"));
}

function bars(result) {
  const sorted = [...result.labels].sort((a, b) => b.score - a.score);
  return h("ul", { class: "bars", "aria-label": "Scores" }, sorted.map((l) => {
    const holds = labelHolds(result, l);
    const threshold = thresholdOf(result, l.label);
    return h("li", { class: holds ? "holds" : "" },
      h("span", { class: "name" }, l.title),
      h("span", { class: "number" }, percent(l.score)),
      h("span", { class: "track", "aria-hidden": "true" },
        h("span", { class: "fill", vars: { "--share": `${100 * l.score}%`, "--label": colourOf(result, l.label) } }),
        result.task !== "classification" && h("span", { class: "mark-at", vars: { "--at": `${100 * threshold}%` } })),
      h("span", { class: "sr" }, holds ? "yes" : "no"));
  }));
}

function drawVerdict(item, parent) {
  const result = item.result;
  const model = modelInfo(result.model);
  const rows = [
    ["Photograph", `${result.size_hw[1]} × ${result.size_hw[0]} px`],
    ["Model", `${result.model} (${model?.architecture ?? ""}, ${result.model_digest.slice(0, 12)})`],
    ["Time on the server", `${result.timing_ms.total.toFixed(0)} ms, of it ${result.timing_ms.inferring.toFixed(0)} ms looking`],
    ["Proof of the file", model?.certificate ? (model.certificate.passed ? `passed on ${count(model.certificate.photographs, "photograph")}` : "did not pass") : "none in the file"],
    ["SHA-256", result.sha256.slice(0, 16)],
  ];
  fill(parent,
    bars(result),
    result.task !== "localization" && thresholdSlider(result),
    h("p", { class: "quiet" }, result.task === "classification"
      ? `“Needs a look” means the two best labels lie within ${percent(2 * CLOSE)} of each other.`
      : `“Needs a look” means a score within ${percent(CLOSE)} of its threshold, on either side.`),
    h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

// A crop of the photograph around a box, drawn when the picture is there.
function crop(item, object) {
  const side = 56;
  const element = h("canvas", { class: "crop", width: side * 2, height: side * 2, "aria-hidden": "true" });
  const image = new Image();
  image.onload = () => {
    const [w, hgt] = [item.result.size_hw[1], item.result.size_hw[0]];
    const scale = image.naturalWidth / w;
    const [x1, y1, x2, y2] = object.box_xyxy;
    const span = Math.min(Math.max(x2 - x1, y2 - y1, 16) * 1.2, Math.max(w, hgt));
    element.getContext("2d").drawImage(image, ((x1 + x2 - span) / 2) * scale, ((y1 + y2 - span) / 2) * scale, span * scale, span * scale, 0, 0, side * 2, side * 2);
  };
  image.src = item.shown ?? item.url;
  return element;
}

const crops = new WeakMap();
function cropOf(item, object) {
  if (!crops.has(object)) crops.set(object, crop(item, object));
  return crops.get(object);
}

function drawWhere(item, parent) {
  const result = item.result;
  if (!result.objects) {
    fill(parent, h("p", {}, "This model says what stands in the photograph, not where. “Why” shows what it looked at."));
    return;
  }
  const shown = findings(result);
  const hidden = result.objects.length - shown.length;
  fill(parent,
    result.task !== "localization" && thresholdSlider(result),
    h("table", { class: "findings" },
      h("caption", {}, `${count(shown.length, "finding")}${hidden ? `; ${hidden} below the threshold` : ""}`),
      h("thead", {}, h("tr", {}, ["", "Type", "Score", "Area"].map((t) => h("th", { scope: "col" }, t || h("span", { class: "sr" }, "Crop"))))),
      h("tbody", {}, shown.map((o) => h("tr", {
        "data-finding": o.id,
        class: state.finding === o.id ? "chosen" : "",
        onpointerenter: () => hover(o.id, true),
        onpointerleave: () => hover(o.id, false),
      },
        h("td", {}, cropOf(item, o)),
        h("td", {}, h("button", {
          type: "button",
          class: "link row",
          "data-key": `row-${o.id}`,
          "aria-pressed": String(state.finding === o.id),
          onclick: () => { select(o.id); if (state.finding === o.id) goTo(o); },
          onfocus: () => hover(o.id, true),
          onblur: () => hover(o.id, false),
        }, h("span", { class: "swatch", vars: { "--label": colourOf(result, o.label) }, "aria-hidden": "true" }), title(o.title)),
        isClose(result, o) && h("span", { class: "quiet block" }, "needs a look")),
        h("td", { class: "score" }, percent(o.score), h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", vars: { "--share": `${100 * o.score}%`, "--label": colourOf(result, o.label) } }))),
        h("td", { class: "number" }, `${o.area_percent.toFixed(o.area_percent < 1 ? 2 : 1)} %`))))));
}

const painted = new Map();

function paint(item, element) {
  const grey = painted.get(item.map.url);
  if (!grey) {
    const image = new Image();
    image.onload = () => {
      const scale = Math.min(1, 800 / Math.max(image.naturalWidth, image.naturalHeight));
      const buffer = document.createElement("canvas");
      buffer.width = Math.max(1, Math.round(image.naturalWidth * scale));
      buffer.height = Math.max(1, Math.round(image.naturalHeight * scale));
      const context = buffer.getContext("2d");
      context.drawImage(image, 0, 0, buffer.width, buffer.height);
      painted.set(item.map.url, context.getImageData(0, 0, buffer.width, buffer.height));
      paint(item, element);
    };
    image.src = item.map.url;
    return;
  }
  element.width = grey.width;
  element.height = grey.height;
  const out = new ImageData(grey.width, grey.height);
  for (let i = 0; i < out.data.length; i += 4) {
    const value = grey.data[i] / 255;
    if (value < state.map.from) continue;
    const [r, g, b] = heat(value);
    out.data[i] = r;
    out.data[i + 1] = g;
    out.data[i + 2] = b;
    out.data[i + 3] = 255 * state.map.opacity;
  }
  element.getContext("2d").putImageData(out, 0, 0);
}

function drawWhy(item, parent) {
  const result = item.result;
  const model = modelInfo(result.model);
  if (!model?.maps) {
    fill(parent, h("p", {}, "This model's file came without a way to explain itself. Export it again with its explanation beside it."));
    return;
  }
  if (item.mapProblem) {
    fill(parent, h("p", { role: "alert" }, item.mapProblem), h("button", { type: "button", "data-key": "map-retry", onclick: () => askForMap(item) }, "Try again"));
    return;
  }
  if (!item.map) {
    if (!item.mapBusy) askForMap(item);
    fill(parent, h("p", { class: "quiet", role: "status" }, `Explaining: ${item.mapBusy ?? "asking the server"}…`));
    return;
  }
  const overlay = h("canvas", { class: "heat", "aria-hidden": "true" });
  const source = item.shown ?? item.url;
  const words = `Where ${item.map.model} looked for “${item.map.title ?? "the box"}” (${item.map.method})`;
  fill(parent,
    h("div", { class: "pair" },
      h("figure", {}, h("img", { src: source, alt: "The photograph" }), h("figcaption", {}, "Original")),
      h("figure", {}, h("div", { class: "stack" }, h("img", { src: source, alt: words }), overlay), h("figcaption", {}, words))),
    result.labels.length > 1 && h("label", { class: "choice" }, "Label ", h("select", { "data-key": "map-label", onchange: (e) => askForMap(item, e.target.value) },
      result.labels.map((l) => h("option", { value: l.label, selected: l.label === item.map.label }, l.title)))),
    slider({ id: "opacity", label: "Opacity", value: state.map.opacity, min: 0, max: 1, text: percent(state.map.opacity), onInput: (v) => { state.map.opacity = v; changed(); } }),
    slider({ id: "from", label: "Show from", value: state.map.from, min: 0, max: 1, text: percent(state.map.from), onInput: (v) => { state.map.from = v; changed(); } }),
    h("p", { class: "quiet" }, "A map shows what moved the score, not the outline of the damage."));
  paint(item, overlay);
}

export function drawPanel() {
  const item = current();
  for (const name of TABS) {
    const on = name === state.tab;
    byId(`tab-${name}`).setAttribute("aria-selected", String(on));
    byId(`tab-${name}`).tabIndex = on ? 0 : -1;
    byId(`view-${name}`).hidden = !on;
  }
  const parent = byId(`view-${state.tab}`);
  if (!item?.result) {
    fill(parent, h("p", { class: "quiet" }, item?.problem ? "" : "The findings will stand here."));
    return;
  }
  ({ verdict: drawVerdict, why: drawWhy, where: drawWhere })[state.tab](item, parent);
}
