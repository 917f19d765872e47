// The panel beside the photo, with the tabs Prediction, Heatmap and Detections.

import { labelColor } from "./colors.js";
import { byId, fill, h } from "./dom.js";
import { cropCanvas } from "./images.js";
import { t, tValue } from "./language.js";
import { changed, currentPhoto, findModel, state } from "./state.js";
import {
  areaPercent, decisionNote, displayName, findings, heatmapCaption, heatmapNote, isPositive, list, modelCheck, nearMisses,
  needsReview, percent, REVIEW_MARGIN, showsDifferences, thresholdOf, wholePercent,
} from "./text.js";
import { hover, select, zoomTo } from "./viewer.js";

/** @type {Tab[]} */
const TABS = ["prediction", "heatmap", "detections"];
/** @type {(photo: Photo, label?: string | null) => void} */
let onHeatmapWanted = () => {};
/** @param {(photo: Photo, label?: string | null) => void} callback */
export const whenHeatmapWanted = (callback) => { onHeatmapWanted = callback; };

/** Return the tabs that have content: a classifier of whole photos has no detections. @returns {Tab[]} */
function shownTabs() {
  const result = currentPhoto()?.result;
  return TABS.filter((name) => name !== "detections" || !result || result.detections);
}

/** @param {Tab} name */
export function showTab(name) {
  if (!shownTabs().includes(name)) return;
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
      const shown = shownTabs();
      const at = event.key === "End" ? shown.length - 1 : event.key === "Home" ? 0 : shown.indexOf(name) + targets[event.key] - position;
      const next = shown[(at + shown.length) % shown.length];
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
  return low === high ? t("threshold.default", { value: wholePercent(low) }) : t("threshold.defaults", { low: wholePercent(low), high: wholePercent(high) });
}

/** @param {PredictionResponse} result */
function thresholdSlider(result) {
  const minimum = result.min_score_available;
  const isDefault = state.threshold === null;
  const thresholds = result.labels.length ? result.labels.map((l) => l.threshold) : [0.5];
  const average = thresholds.reduce((sum, t) => sum + t, 0) / thresholds.length;
  const isClassification = result.task === "classification";
  const defaultText = isClassification ? t("threshold.none") : defaultThresholdText(thresholds);
  /** @param {number | null} value */
  const set = (value) => {
    state.threshold = value;
    changed();
  };
  let note = t("threshold.noteFindings");
  if (isClassification) note = t("threshold.noteClassification");
  else if (!result.detections) note = t("threshold.noteLabels");
  else if (minimum > 0) note = t("threshold.noteMinimum", { minimum: percent(minimum) });
  return h("div", { "data-key": "thresholds" },
    slider({
      id: "threshold",
      label: t(isClassification ? "threshold.minimum" : "threshold.label"),
      value: state.threshold ?? average,
      min: minimum,
      max: 1,
      valueText: state.threshold === null ? defaultText : wholePercent(state.threshold),
      note,
      onInput: (value) => set(Math.max(value, minimum)),
    }),
    // Not disabled but without effect: a disabled button would lose the keyboard focus when it is pressed.
    h("button", { type: "button", class: "link small", "data-key": "reset-threshold", "aria-disabled": String(isDefault), onclick: () => set(null) }, t(isClassification ? "threshold.remove" : "threshold.reset")));
}

const MAX_BARS = 12; // of a model with 80 labels, 70 have a score near zero

/**
 * Return the button between a part of a long list of labels and all of it, or null if nothing is left out.
 * @param {number} total
 * @param {number} shown
 */
export function moreLabelsButton(total, shown) {
  if (!state.allLabels && shown >= total) return null;
  const text = state.allLabels ? t("labels.fewer") : t("labels.all", { n: total });
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
  return [h("ul", { class: "bars", "data-key": "bars", "aria-label": t("bars.label") }, shown.map((l) => {
    const positive = isPositive(result, l);
    const threshold = thresholdOf(result, l.label);
    return h("li", { class: positive ? "positive" : "", "data-key": `bar-${l.label}` },
      h("span", { class: "name" }, l.display_name),
      h("span", { class: "number" }, percent(l.score)),
      h("span", { class: "track", "aria-hidden": "true" },
        h("span", { class: "fill", vars: { "--share": `${100 * l.score}%` } }),
        result.task !== "classification" && h("span", { class: "threshold-mark", vars: { "--at": `${100 * threshold}%` } })),
      h("span", { class: "screen-reader" }, t(positive ? "yes" : "no")));
  })), more];
}

/** @param {PredictionResponse} result */
function reviewNote(result) {
  const unreliable = result.labels.filter((l) => !l.reliable).map((l) => l.display_name);
  if (result.task === "classification") return t("review.meansBest", { points: Math.round(200 * REVIEW_MARGIN) });
  const points = Math.round(100 * REVIEW_MARGIN);
  return unreliable.length ? t("review.meansUnreliable", { points, labels: unreliable.join(", ") }) : t("review.means", { points });
}

/**
 * @param {Photo} photo
 * @param {PredictionResponse} result
 * @param {Element} parent
 */
function drawPrediction(photo, result, parent) {
  const model = findModel(result.model);
  const time = result.timing_ms;
  /** @type {[string, string | null | undefined][]} */
  const facts = [
    [t("photo.title"), `${result.size_hw[1]} × ${result.size_hw[0]} px`],
    [t("fact.model"), result.model],
    [t("fact.architecture"), model?.architecture],
    [t("fact.created"), model?.created],
    [t("fact.check"), modelCheck(model)],
    [t("fact.time"), t("fact.timeValue", { total: Math.round(time.total), inferring: Math.round(time.inferring) })],
    [t("fact.fileId"), result.model_digest.slice(0, 16)],
    [t("fact.photoId"), result.sha256.slice(0, 16)],
  ];
  const decision = result.risk_decision;
  fill(parent,
    decision && h("div", { class: `outcome ${decision.outcome}`, "data-key": "outcome", role: "note" },
      h("strong", {}, t(decision.outcome === "review" ? "outcome.review" : "outcome.decided")),
      decision.reason && h("p", {}, t("outcome.because", { reason: decision.reason })),
      h("p", { class: "quiet" }, decisionNote(decision))),
    result.capture?.retake && h("div", { class: "outcome retake", "data-key": "retake", role: "note" },
      h("strong", {}, t("retake.title")),
      h("p", {}, t("retake.because", { reasons: list(result.capture.reasons.map((reason) => tValue("fault", reason.code))) })),
      h("p", { class: "quiet" }, t("retake.rate", { rate: percent(result.capture.rate) }))),
    result.familiarity?.unfamiliar && h("div", { class: "outcome unfamiliar", "data-key": "unfamiliar", role: "note" },
      h("strong", {}, t("unfamiliar.title")),
      h("p", {}, t("unfamiliar.text")),
      h("p", { class: "quiet" }, t("unfamiliar.rate", { rate: percent(result.familiarity.rate) }))),
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
    needsReview(result, detection) && h("span", { class: "quiet block" }, t("summary.needsReview"))),
    h("td", { class: "score" }, percent(detection.score), h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill", vars: { "--share": `${100 * detection.score}%` } }))),
    h("td", { class: "number" }, areaPercent(detection.area_percent)));
}

/**
 * @param {number} numPositive
 * @param {number} numBelow the number of detections below the threshold
 */
function findingsCaption(numPositive, numBelow) {
  if (!numPositive) return numBelow ? t("caption.noneReaches", { n: numBelow }) : t("caption.none");
  return t("caption.findings", { n: numPositive }) + (numBelow ? `; ${t("caption.below", { n: numBelow })}` : "");
}

/**
 * @param {Photo} photo
 * @param {PredictionResponse} result
 * @param {Element} parent
 */
function drawDetections(photo, result, parent) {
  if (!result.detections) return;
  const positive = findings(result);
  const near = nearMisses(result);
  const numBelow = result.detections.length - positive.length;
  const headers = [t("table.crop"), t("table.type"), t("table.confidence"), t("table.area")];
  const row = (/** @type {Detection} */ detection) => findingRow(photo, result, detection);
  fill(parent,
    h("table", { class: "findings", "data-key": "table" },
      h("caption", {}, findingsCaption(positive.length, numBelow)),
      positive.length + near.length > 0 && h("thead", {}, h("tr", {}, headers.map((text, i) => h("th", { scope: "col" }, i ? text : h("span", { class: "screen-reader" }, text))))),
      h("tbody", { "data-key": "positive" }, positive.map(row)),
      near.length > 0 && h("tbody", { "data-key": "near" }, h("tr", { "data-key": "near-title" }, h("th", { colspan: 4, scope: "rowgroup" }, t("caption.near"))), near.map(row))),
    result.task !== "localization" && thresholdSlider(result));
}

/**
 * Return the label to explain: the chosen one, that of the selected finding, or the one with the highest score.
 * @param {Photo} photo
 * @param {PredictionResponse} result
 */
function explainedLabel(photo, result) {
  const selected = result.detections?.find((d) => d.id === state.finding)?.label;
  const best = findings(result)[0]?.label ?? [...result.labels].sort((a, b) => b.score - a.score)[0]?.label ?? null;
  photo.heatmapLabel ??= selected ?? best;
  return photo.heatmapLabel;
}

/**
 * @param {Photo} photo
 * @param {PredictionResponse} result
 * @param {Element} parent
 */
function drawHeatmap(photo, result, parent) {
  if (!findModel(result.model)?.heatmaps) {
    const seconds = state.limits?.heatmap_seconds;
    fill(parent, h("p", { "data-key": "heatmap-not-offered" }, seconds
      ? t("heatmap.tooSlow", { n: seconds })
      : t("heatmap.off")));
    return;
  }
  const { heatmap } = photo;
  if (!heatmap && !photo.heatmapStage && !photo.heatmapProblem) onHeatmapWanted(photo, explainedLabel(photo, result));
  /** @param {Partial<PageState["heatmap"]>} settings */
  const set = (settings) => {
    Object.assign(state.heatmap, settings);
    changed();
  };
  const { opacity, minimum, sideBySide } = state.heatmap;
  const differences = heatmap && showsDifferences(heatmap);
  const selectedLabel = photo.heatmapLabel ?? heatmap?.label;
  fill(parent,
    result.labels.length > 1 && h("label", { class: "choice", "data-key": "heatmap-choice" }, `${t("heatmap.explain")} `,
      h("select", {
        "data-key": "heatmap-label",
        onchange: (/** @type {any} */ event) => { photo.heatmapLabel = event.target.value; onHeatmapWanted(photo, event.target.value); },
      }, result.labels.map((l) => h("option", { value: l.label, selected: l.label === selectedLabel }, l.display_name)))),
    photo.heatmapStage && h("p", { class: "quiet", "data-key": "busy" }, `${photo.heatmapStage}…`),
    photo.heatmapStage && h("progress", { "data-key": "heatmap-progress", "aria-label": t("tab.heatmap") }),
    photo.heatmapProblem && h("p", { "data-key": "heatmap-problem" }, photo.heatmapProblem),
    photo.heatmapProblem && h("button", { type: "button", "data-key": "heatmap-retry", onclick: () => onHeatmapWanted(photo, photo.heatmapLabel) }, t("retry")),
    heatmap?.empty && h("p", { "data-key": "heatmap-empty" }, `${heatmapCaption(heatmap)}. ${t("heatmap.empty")}`),
    heatmap && !heatmap.empty && h("div", { "data-key": "heatmap-settings" },
      slider({ id: "opacity", label: t("heatmap.opacity"), value: opacity, min: 0, max: 1, valueText: wholePercent(opacity), onInput: (v) => set({ opacity: v }) }),
      slider({ id: "minimum", label: t(differences ? "heatmap.minimumUnusual" : "heatmap.minimum"), value: minimum, min: 0, max: 1, valueText: wholePercent(minimum), onInput: (v) => set({ minimum: v }) }),
      h("div", { class: "legend", "aria-hidden": "true" }, h("span", {}, t(differences ? "heatmap.atThreshold" : "heatmap.low")), h("span", { class: "ramp" }), h("span", {}, t(differences ? "heatmap.mostUnusual" : "heatmap.high"))),
      h("label", { class: "choice" },
        h("input", { type: "checkbox", "data-key": "side-by-side", checked: sideBySide, onchange: (/** @type {any} */ event) => set({ sideBySide: event.target.checked }) }), ` ${t("heatmap.sideBySide")}`)),
    heatmap && !heatmap.empty && h("p", { class: "quiet", "data-key": "heatmap-note" }, heatmapNote(heatmap)));
}

export function drawPanel() {
  const photo = currentPhoto();
  const shown = shownTabs();
  if (!shown.includes(state.tab)) state.tab = "prediction";
  for (const name of TABS) {
    byId(`tab-${name}`).hidden = !shown.includes(name);
    const selected = name === state.tab;
    byId(`tab-${name}`).setAttribute("aria-selected", String(selected));
    byId(`tab-${name}`).tabIndex = selected ? 0 : -1;
    byId(`view-${name}`).hidden = !selected;
  }
  const parent = byId(`view-${state.tab}`);
  if (!photo?.result) {
    fill(parent, h("p", { class: "quiet" }, t(photo?.problem ? "panel.noResult" : "panel.empty")));
    return;
  }
  ({ prediction: drawPrediction, heatmap: drawHeatmap, detections: drawDetections })[state.tab](photo, photo.result, parent);
}
