// The panel beside the photo, with the tabs Result, Why and Where.

import { labelColor } from "./colors.js";
import { byId, fill, h } from "./dom.js";
import { cropCanvas } from "./images.js";
import { changed, currentPhoto, findModel, state } from "./state.js";
import {
  areaPercent, count, decisionNote, displayName, findings, HEATMAP_NOTE, heatmapCaption, isPositive, list, modelCheck, nearMisses,
  needsReview, percent, REVIEW_MARGIN, thresholdOf, wholePercent,
} from "./text.js";
import { hover, select, zoomTo } from "./viewer.js";

/** @type {Tab[]} */
const TABS = ["result", "why", "where"];
/** @type {(photo: Photo, label?: string | null) => void} */
let onHeatmapWanted = () => {};
/** @param {(photo: Photo, label?: string | null) => void} callback */
export const whenHeatmapWanted = (callback) => { onHeatmapWanted = callback; };

/** @param {Tab} name */
export function showTab(name) {
  state.tab = name;
  state.tabChosen = true;
  changed();
}

export function prepareTabs() {
  for (const [position, name] of TABS.entries()) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => showTab(name));
    tab.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      /** @type {Record<string, number>} */
      const targets = { ArrowRight: position + 1, ArrowLeft: position - 1, Home: 0, End: TABS.length - 1 };
      if (!(event.key in targets)) return;
      event.preventDefault();
      event.stopPropagation();
      const next = TABS[(targets[event.key] + TABS.length) % TABS.length];
      showTab(next);
      byId(`tab-${next}`).focus();
    });
  }
}

/**
 * @param {{ id: string, label: string, value: number, min: number, max: number, valueText: string, note?: string,
 *   onInput: (value: number) => void }} options
 */
function slider({ id, label, value, min, max, valueText, note, onInput }) {
  return h("div", { class: "slider", "data-key": `${id}-slider` },
    h("label", { for: id }, label),
    h("span", { class: "value", "aria-hidden": "true" }, valueText),
    h("input", {
      id,
      "data-key": id,
      type: "range",
      min,
      max,
      step: 0.01,
      value,
      "aria-valuetext": valueText,
      oninput: (/** @type {any} */ event) => onInput(Number(event.target.value)),
    }),
    note && h("p", { class: "quiet" }, note));
}

/**
 * Return the model's own thresholds as text: one number if they are equal, else the range.
 * @param {number[]} thresholds
 */
function defaultThresholdText(thresholds) {
  const [low, high] = [Math.min(...thresholds), Math.max(...thresholds)];
  return low === high ? `${wholePercent(low)} (model default)` : `${wholePercent(low)} to ${wholePercent(high)} (model defaults)`;
}

/** @param {PredictionResponse} result */
function thresholdSlider(result) {
  const minimum = result.min_score_available;
  const isDefault = state.threshold === null;
  const thresholds = result.labels.length ? result.labels.map((l) => l.threshold) : [0.5];
  const average = thresholds.reduce((sum, t) => sum + t, 0) / thresholds.length;
  const isClassification = result.task === "classification";
  const defaultText = isClassification ? "none" : defaultThresholdText(thresholds);
  /** @param {number | null} value */
  const set = (value) => {
    state.threshold = value;
    changed();
  };
  let note = "Findings with a lower confidence are not counted.";
  if (isClassification) note = "A result with a lower confidence is marked for review.";
  else if (!result.detections) note = "Labels with a lower confidence are not counted.";
  else if (minimum > 0) note = `Findings with a lower confidence are not counted. The model reports none below ${percent(minimum)}.`;
  return h("div", { "data-key": "thresholds" },
    slider({
      id: "threshold",
      label: isClassification ? "Minimum confidence" : "Confidence threshold",
      value: state.threshold ?? average,
      min: minimum,
      max: 1,
      valueText: state.threshold === null ? defaultText : wholePercent(state.threshold),
      note,
      onInput: (value) => set(Math.max(value, minimum)),
    }),
    // Not disabled but without effect: a disabled button would lose the keyboard focus when it is pressed.
    h("button", { type: "button", class: "link small", "data-key": "reset-threshold", "aria-disabled": String(isDefault), onclick: () => set(null) }, isClassification ? "Remove the minimum" : "Reset to the model default"));
}

const MAX_BARS = 12; // of a model with 80 labels, 70 have a score near zero

/**
 * Return the button between a part of a long list of labels and all of it, or null if nothing is left out.
 * @param {number} total
 * @param {number} shown
 */
export function moreLabelsButton(total, shown) {
  if (!state.allLabels && shown >= total) return null;
  const text = state.allLabels ? "Show fewer labels" : `Show all ${total} labels`;
  const toggle = () => {
    state.allLabels = !state.allLabels;
    changed();
  };
  return h("button", { type: "button", class: "link small", "data-key": "more-labels", "aria-expanded": String(state.allLabels), onclick: toggle }, text);
}

/** @param {PredictionResponse} result */
function scoreBars(result) {
  if (!result.labels.length) return null;
  const sorted = [...result.labels].sort((a, b) => b.score - a.score);
  const shown = sorted.filter((l, position) => state.allLabels || position < MAX_BARS || isPositive(result, l));
  const more = result.labels.length > MAX_BARS ? moreLabelsButton(result.labels.length, shown.length) : null;
  return [h("ul", { class: "bars", "data-key": "bars", "aria-label": "Confidence for each label" }, shown.map((l) => {
    const positive = isPositive(result, l);
    const threshold = thresholdOf(result, l.label);
    return h("li", { class: positive ? "positive" : "", "data-key": `bar-${l.label}` },
      h("span", { class: "name" }, l.display_name),
      h("span", { class: "number" }, percent(l.score)),
      h("span", { class: "track", "aria-hidden": "true" },
        h("span", { class: "fill", vars: { "--share": `${100 * l.score}%` } }),
        result.task !== "classification" && h("span", { class: "threshold-mark", vars: { "--at": `${100 * threshold}%` } })),
      h("span", { class: "screen-reader" }, positive ? "yes" : "no"));
  })), more];
}

/** @param {PredictionResponse} result */
function reviewNote(result) {
  const unreliable = result.labels.filter((l) => !l.reliable).map((l) => l.display_name);
  return result.task === "classification"
    ? `“Needs review” means that the two best labels are less than ${Math.round(200 * REVIEW_MARGIN)} percentage points apart.`
    : `“Needs review” means that a confidence is within ${Math.round(100 * REVIEW_MARGIN)} percentage points of the threshold${
      unreliable.length ? `, or that the label did not reach the required precision: ${unreliable.join(", ")}` : ""}.`;
}

/**
 * @param {Photo} photo
 * @param {PredictionResponse} result
 * @param {Element} parent
 */
function drawResult(photo, result, parent) {
  const model = findModel(result.model);
  const time = result.timing_ms;
  /** @type {[string, string | null | undefined][]} */
  const facts = [
    ["Photo", `${result.size_hw[1]} × ${result.size_hw[0]} px`],
    ["Model", model?.run || result.model],
    ["Architecture", model?.architecture],
    ["Created", model?.created],
    ["Model check", modelCheck(model)],
    ["Processing time", `${time.total.toFixed(0)} ms, ${time.inferring.toFixed(0)} ms of it in the model`],
    ["Model file ID", result.model_digest.slice(0, 16)],
    ["Photo ID (SHA-256)", result.sha256.slice(0, 16)],
  ];
  const decision = result.risk_decision;
  fill(parent,
    decision && h("div", { class: `outcome ${decision.outcome}`, "data-key": "outcome", role: "note" },
      h("strong", {}, decision.outcome === "review" ? "Review" : "Decided"),
      decision.reason && h("p", {}, `Because: ${decision.reason}.`),
      h("p", { class: "quiet" }, decisionNote(decision))),
    result.capture?.retake && h("div", { class: "outcome retake", "data-key": "retake", role: "note" },
      h("strong", {}, "Take this photo again"),
      h("p", {}, `Because it ${list(result.capture.reasons.map((reason) => reason.text))}. The result below may miss damage.`),
      h("p", { class: "quiet" }, `Of usual photos, at most about ${percent(result.capture.rate)} have each fault.`)),
    result.familiarity?.unfamiliar && h("div", { class: "outcome unfamiliar", "data-key": "unfamiliar", role: "note" },
      h("strong", {}, "Unfamiliar photo"),
      h("p", {}, "This photo is unlike those that the model was trained on. Do not trust its result."),
      h("p", { class: "quiet" }, `Of familiar photos, ${percent(result.familiarity.rate)} are called unfamiliar.`)),
    scoreBars(result),
    result.task !== "localization" && !(decision && result.task === "classification") && thresholdSlider(result),
    result.task !== "localization" && !decision && h("p", { class: "quiet" }, reviewNote(result)),
    h("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

/**
 * @param {Photo} photo
 * @param {PredictionResponse} result
 * @param {Detection} detection
 */
function findingRow(photo, result, detection) {
  const { id } = detection;
  const selected = state.finding === id;
  return h("tr", {
    "data-finding": id,
    "data-key": `finding-${id}`,
    class: selected ? "selected" : "",
    onpointerenter: () => hover(id, true),
    onpointerleave: () => hover(id, false),
  },
    h("td", {}, cropCanvas(photo, detection)),
    h("td", {}, h("button", {
      type: "button",
      class: "link row",
      "data-key": `row-${id}`,
      "aria-pressed": String(selected),
      onclick: () => { select(id); if (!selected) zoomTo(detection); },
      onfocus: () => hover(id, true),
      onblur: () => hover(id, false),
    }, h("span", { class: "swatch", vars: { "--label": labelColor(result, detection.label) }, "aria-hidden": "true" }), `${id}. ${displayName(detection)}`),
    needsReview(result, detection) && h("span", { class: "quiet block" }, "needs review")),
    h("td", { class: "score" }, percent(detection.score), h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", vars: { "--share": `${100 * detection.score}%` } }))),
    h("td", { class: "number" }, areaPercent(detection.area_percent)));
}

/**
 * @param {number} numPositive
 * @param {number} numBelow the number of detections below the threshold
 */
function findingsCaption(numPositive, numBelow) {
  if (!numPositive) return numBelow ? `No finding reaches the threshold; ${numBelow} below` : "No findings";
  return count(numPositive, "finding") + (numBelow ? `; ${numBelow} below the threshold` : "");
}

/**
 * @param {Photo} photo
 * @param {PredictionResponse} result
 * @param {Element} parent
 */
function drawWhere(photo, result, parent) {
  if (!result.detections) {
    fill(parent, h("p", {}, "This model classifies the whole photo and marks no places. “Why” shows which areas influenced the result."));
    return;
  }
  const positive = findings(result);
  const near = nearMisses(result);
  const numBelow = result.detections.length - positive.length;
  const headers = ["Crop", "Type", "Confidence", "Area"];
  const row = (/** @type {Detection} */ detection) => findingRow(photo, result, detection);
  fill(parent,
    result.task !== "localization" && thresholdSlider(result),
    h("table", { class: "findings", "data-key": "table" },
      h("caption", {}, findingsCaption(positive.length, numBelow)),
      positive.length + near.length > 0 && h("thead", {}, h("tr", {}, headers.map((t) => h("th", { scope: "col" }, t === "Crop" ? h("span", { class: "screen-reader" }, t) : t)))),
      h("tbody", { "data-key": "positive" }, positive.map(row)),
      near.length > 0 && h("tbody", { "data-key": "near" }, h("tr", { "data-key": "near-title" }, h("th", { colspan: 4, scope: "rowgroup" }, "Slightly below the threshold, not counted")), near.map(row))));
}

/**
 * @param {Photo} photo
 * @param {PredictionResponse} result
 * @param {Element} parent
 */
function drawWhy(photo, result, parent) {
  if (!findModel(result.model)?.heatmaps) {
    const seconds = state.limits?.heatmap_seconds;
    fill(parent, h("p", { "data-key": "heatmap-not-offered" }, seconds
      ? `A heatmap of this model takes longer than the ${seconds} seconds that this server allows.`
      : "This server does not compute heatmaps."));
    return;
  }
  const { heatmap } = photo;
  if (!heatmap && !photo.heatmapStage && !photo.heatmapProblem) onHeatmapWanted(photo);
  /** @param {Partial<PageState["heatmap"]>} settings */
  const set = (settings) => {
    Object.assign(state.heatmap, settings);
    changed();
  };
  const { opacity, minimum, sideBySide } = state.heatmap;
  const selectedLabel = heatmap?.label ?? photo.heatmapLabel;
  fill(parent,
    result.labels.length > 1 && h("label", { class: "choice", "data-key": "heatmap-choice" }, "Explain the label ",
      h("select", {
        "data-key": "heatmap-label",
        onchange: (/** @type {any} */ event) => { photo.heatmapLabel = event.target.value; onHeatmapWanted(photo, event.target.value); },
      }, result.labels.map((l) => h("option", { value: l.label, selected: l.label === selectedLabel }, l.display_name)))),
    photo.heatmapStage && h("p", { class: "quiet", "data-key": "busy" }, `${photo.heatmapStage}…`),
    photo.heatmapStage && h("progress", { "data-key": "heatmap-progress", "aria-label": "Heatmap" }),
    photo.heatmapProblem && h("p", { "data-key": "heatmap-problem" }, photo.heatmapProblem),
    photo.heatmapProblem && h("button", { type: "button", "data-key": "heatmap-retry", onclick: () => onHeatmapWanted(photo, photo.heatmapLabel) }, "Retry"),
    heatmap?.empty && h("p", { "data-key": "heatmap-empty" }, `${heatmapCaption(heatmap)}. The heatmap is empty.`),
    heatmap && !heatmap.empty && h("div", { "data-key": "heatmap-settings" },
      slider({ id: "opacity", label: "Opacity", value: opacity, min: 0, max: 1, valueText: wholePercent(opacity), onInput: (v) => set({ opacity: v }) }),
      slider({ id: "minimum", label: "Hide influence below", value: minimum, min: 0, max: 1, valueText: wholePercent(minimum), onInput: (v) => set({ minimum: v }) }),
      h("div", { class: "legend", "aria-hidden": "true" }, h("span", {}, "low influence"), h("span", { class: "ramp" }), h("span", {}, "high influence")),
      h("label", { class: "choice" },
        h("input", { type: "checkbox", "data-key": "side-by-side", checked: sideBySide, onchange: (/** @type {any} */ event) => set({ sideBySide: event.target.checked }) }), " Show the original beside it")),
    heatmap && !heatmap.empty && h("p", { class: "quiet", "data-key": "heatmap-note" }, HEATMAP_NOTE));
}

export function drawPanel() {
  const photo = currentPhoto();
  for (const name of TABS) {
    const selected = name === state.tab;
    byId(`tab-${name}`).setAttribute("aria-selected", String(selected));
    byId(`tab-${name}`).tabIndex = selected ? 0 : -1;
    byId(`view-${name}`).hidden = !selected;
  }
  const parent = byId(`view-${state.tab}`);
  if (!photo?.result) {
    fill(parent, h("p", { class: "quiet" }, photo?.problem ? "There is no result for this photo." : "The findings appear here."));
    return;
  }
  ({ result: drawResult, why: drawWhy, where: drawWhere })[state.tab](photo, photo.result, parent);
}
