// What was found, in words and numbers: the tabs Verdict, Why and Where.

import { colourOf } from "./colours.js";
import { byId, fill, h } from "./dom.js";
import { crop } from "./pictures.js";
import { changed, current, modelInfo, state } from "./store.js";
import { goTo, hover, select } from "./viewer.js";
import { area, CLOSE, count, findings, floorOf, isClose, labelHolds, mapWords, nearMisses, percent, proof, share, thresholdOf, title } from "./words.js";

const TABS = ["verdict", "why", "where"];
let askForMap = () => {};
export const onMapWanted = (ask) => (askForMap = ask);

export function showTab(name) {
  state.tab = name;
  state.tabChosen = true;
  changed();
}

export function prepareTabs() {
  for (const name of TABS) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => showTab(name));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -TABS.indexOf(name), End: TABS.length - 1 - TABS.indexOf(name) }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      const next = TABS[(TABS.indexOf(name) + step + TABS.length) % TABS.length];
      showTab(next);
      byId(`tab-${next}`).focus();
    });
  }
}

function slider({ id, label, value, min, max, text, note, onInput }) {
  return h("div", { class: "slider", "data-key": `${id}-slider` },
    h("label", { for: id }, label),
    h("span", { class: "value", "aria-hidden": "true" }, text),
    h("input", { id, "data-key": id, type: "range", min, max, step: 0.01, value, "aria-valuetext": text, oninput: (e) => onInput(Number(e.target.value)) }),
    note && h("p", { class: "quiet" }, note));
}

// The model's own thresholds in words: one number where they agree, else from the lowest to the highest.
function ownWords(thresholds) {
  const [low, high] = [Math.min(...thresholds), Math.max(...thresholds)];
  return low === high ? `${share(low)}, the model’s own` : `${share(low)} to ${share(high)}, the model’s own`;
}

function thresholdSlider(result) {
  const floor = floorOf(result);
  const own = state.threshold === null;
  const thresholds = result.labels.length ? result.labels.map((l) => l.threshold) : [0.5];
  const average = thresholds.reduce((sum, t) => sum + t, 0) / thresholds.length;
  const image = result.task === "classification";
  const words = image
    ? "A verdict with a lower score is marked as needing a look."
    : floor > 0 ? `Goes down to ${percent(floor)}: this model file gives no lower score.` : "Goes down to 0: every score is known.";
  const set = (value) => {
    state.threshold = value;
    changed();
  };
  return h("div", { "data-key": "thresholds" },
    slider({
      id: "threshold",
      label: result.objects ? "Show findings from" : image ? "Trust a verdict from" : "Say yes from",
      value: own ? average : state.threshold,
      min: floor,
      max: 1,
      text: own ? (image ? "any score" : ownWords(thresholds)) : share(state.threshold),
      note: words,
      onInput: (value) => set(Math.max(value, floor)),
    }),
    // Not disabled but of no effect: a disabled button would throw the keyboard's focus away when pressed.
    h("button", { type: "button", class: "link small", "data-key": "own", "aria-disabled": String(own), onclick: () => set(null) }, image ? "Trust any" : "Back to the model’s own"));
}

const MOST_BARS = 12; // a model of 80 labels has 70 that say nothing

// The button between a long list of labels and all of it; null where nothing is left out.
export function moreLabels(all, most) {
  if (!state.allLabels && most >= all) return null;
  const text = state.allLabels ? "Show fewer labels" : `Show all ${all} labels`;
  const act = () => {
    state.allLabels = !state.allLabels;
    changed();
  };
  return h("button", { type: "button", class: "link small", "data-key": "more-labels", "aria-expanded": String(state.allLabels), onclick: act }, text);
}

function bars(result) {
  if (!result.labels.length) return null;
  const sorted = [...result.labels].sort((a, b) => b.score - a.score);
  const said = sorted.filter((l, place) => state.allLabels || place < MOST_BARS || labelHolds(result, l));
  const more = result.labels.length > MOST_BARS ? moreLabels(result.labels.length, said.length) : null;
  return [h("ul", { class: "bars", "data-key": "bars", "aria-label": "Score of each label" }, said.map((l) => {
    const holds = labelHolds(result, l);
    const threshold = thresholdOf(result, l.label);
    return h("li", { class: holds ? "holds" : "", "data-key": `bar-${l.label}` },
      h("span", { class: "name" }, l.title),
      h("span", { class: "number" }, percent(l.score)),
      h("span", { class: "track", "aria-hidden": "true" },
        h("span", { class: "fill", vars: { "--share": `${100 * l.score}%` } }),
        result.task !== "classification" && h("span", { class: "mark-at", vars: { "--at": `${100 * threshold}%` } })),
      h("span", { class: "sr" }, holds ? "yes" : "no"));
  })), more];
}

function drawVerdict(item, parent) {
  const result = item.result;
  const model = modelInfo(result.model);
  const rows = [
    ["Photograph", `${result.size_hw[1]} × ${result.size_hw[0]} px`],
    ["Model", model?.run || result.model],
    ["Kind", model?.architecture],
    ["Made", model?.created],
    ["File", result.model_digest.slice(0, 16)],
    ["Parity check", proof(model)],
    ["Server’s time", `${result.timing_ms.total.toFixed(0)} ms, ${result.timing_ms.inferring.toFixed(0)} ms of it looking`],
    ["SHA-256", result.sha256.slice(0, 16)],
  ].filter(([, value]) => value);
  fill(parent,
    bars(result),
    result.task !== "localization" && thresholdSlider(result),
    h("p", { class: "quiet" }, result.task === "classification"
      ? `“Needs a look” means the two best labels lie within ${Math.round(200 * CLOSE)} points of each other.`
      : `“Needs a look” means a score within ${Math.round(100 * CLOSE)} points of its threshold, on either side.`),
    h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function findingRow(item, object) {
  const result = item.result;
  const chosen = state.finding === object.id;
  return h("tr", {
    "data-finding": object.id,
    "data-key": `finding-${object.id}`,
    class: chosen ? "chosen" : "",
    onpointerenter: () => hover(object.id, true),
    onpointerleave: () => hover(object.id, false),
  },
    h("td", {}, crop(item, object)),
    h("td", {}, h("button", {
      type: "button",
      class: "link row",
      "data-key": `row-${object.id}`,
      "aria-pressed": String(chosen),
      onclick: () => { select(object.id); if (!chosen) goTo(object); },
      onfocus: () => hover(object.id, true),
      onblur: () => hover(object.id, false),
    }, h("span", { class: "swatch", vars: { "--label": colourOf(result, object.label) }, "aria-hidden": "true" }), `${object.id}. ${title(object.title)}`),
    isClose(result, object) && h("span", { class: "quiet block" }, "needs a look")),
    h("td", { class: "score" }, percent(object.score), h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", vars: { "--share": `${100 * object.score}%` } }))),
    h("td", { class: "number" }, area(object.area_percent)));
}

function drawWhere(item, parent) {
  const result = item.result;
  if (!result.objects) {
    fill(parent, h("p", {}, "This model says what stands in the photograph, not where. “Why” shows what it looked at."));
    return;
  }
  const shown = findings(result);
  const below = nearMisses(result);
  const hidden = result.objects.length - shown.length;
  fill(parent,
    result.task !== "localization" && thresholdSlider(result),
    h("table", { class: "findings", "data-key": "table" },
      h("caption", {}, `${shown.length ? count(shown.length, "finding") : "Nothing reaches the threshold"}${hidden ? `; ${hidden} below it` : ""}`),
      shown.length + below.length > 0 && h("thead", {}, h("tr", {}, ["Crop", "Type", "Score", "Area"].map((t) => h("th", { scope: "col" }, t === "Crop" ? h("span", { class: "sr" }, t) : t)))),
      h("tbody", { "data-key": "found" }, shown.map((o) => findingRow(item, o))),
      below.length > 0 && h("tbody", { "data-key": "near" }, h("tr", { "data-key": "near-title" }, h("th", { colspan: 4, scope: "rowgroup" }, "Just below the threshold, not counted")), below.map((o) => findingRow(item, o)))));
}

function drawWhy(item, parent) {
  const result = item.result;
  const model = modelInfo(result.model);
  if (!model?.maps) {
    fill(parent, h("p", {}, "This model cannot say where it looked: its file came without what that needs. Export it again to have it."));
    return;
  }
  if (!item.map && !item.mapBusy && !item.mapProblem) askForMap(item);
  const set = (name, value) => {
    state.map[name] = value;
    changed();
  };
  fill(parent,
    result.labels.length > 1 && h("label", { class: "choice", "data-key": "map-choice" }, "Explain ",
      h("select", { "data-key": "map-label", onchange: (e) => { item.mapLabel = e.target.value; askForMap(item, e.target.value); } },
        result.labels.map((l) => h("option", { value: l.label, selected: l.label === (item.map?.label ?? item.mapLabel) }, l.title)))),
    item.mapBusy && h("p", { class: "quiet", "data-key": "busy" }, `${item.mapBusy}…`),
    item.mapBusy && h("progress", { "data-key": "map-progress", "aria-label": "The map" }),
    item.mapProblem && h("p", { "data-key": "map-problem" }, item.mapProblem),
    item.mapProblem && h("button", { type: "button", "data-key": "map-retry", onclick: () => askForMap(item, item.mapLabel) }, "Try again"),
    item.map?.empty && h("p", { "data-key": "map-empty" }, `${mapWords(item.map)}. The map is empty.`),
    item.map && !item.map.empty && h("div", { "data-key": "map-settings" },
      slider({ id: "opacity", label: "Opacity", value: state.map.opacity, min: 0, max: 1, text: share(state.map.opacity), onInput: (v) => set("opacity", v) }),
      slider({ id: "from", label: "Show from", value: state.map.from, min: 0, max: 1, text: share(state.map.from), onInput: (v) => set("from", v) }),
      h("div", { class: "legend", "aria-hidden": "true" }, h("span", {}, "mattered little"), h("span", { class: "ramp" }), h("span", {}, "mattered most")),
      h("label", { class: "choice" },
        h("input", { type: "checkbox", "data-key": "beside", checked: state.map.beside, onchange: (e) => set("beside", e.target.checked) }), " Original beside it")),
    item.map && !item.map.empty && h("p", { class: "quiet", "data-key": "map-proof" }, `Made by ${item.map.model} itself, with ${item.map.method}. A map shows what moved the score, not the outline of the damage.`));
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
    fill(parent, h("p", { class: "quiet" }, item?.problem ? "Nothing was found out about this photograph." : "The findings will stand here."));
    return;
  }
  ({ verdict: drawVerdict, why: drawWhy, where: drawWhere })[state.tab](item, parent);
}
