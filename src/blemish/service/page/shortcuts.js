// Keyboard shortcuts.

import { storedText } from "./browser_storage.js";
import { byId, fill, h } from "./dom.js";
import { saveReport } from "./downloads.js";
import { t } from "./language.js";
import { showTab } from "./panel.js";
import { removeAndFocusNext, selectNextPhoto } from "./queue.js";
import { toggleResults } from "./results_table.js";
import { changed, currentPhoto, state } from "./state.js";
import { findings, nearMisses } from "./text.js";
import { cancel, retry } from "./uploads.js";
import { fit, pan, zoom, zoomTo } from "./viewer.js";

/** @param {(photo: Photo) => void} action */
const withPhoto = (action) => () => {
  const photo = currentPhoto();
  if (photo) action(photo);
};

/** @typedef {[string, string, (() => void) | null]} Shortcut a key, its meaning, and what it does */

/** @returns {Shortcut[]} */
const photoShortcuts = () => [
  ["o", t("photos.add"), () => byId("files").click()],
  ["j", t("keys.nextPhoto"), () => selectNextPhoto(1)],
  ["k", t("keys.previousPhoto"), () => selectNextPhoto(-1)],
  ["n", t("keys.nextFinding"), () => selectNextFinding(1)],
  ["p", t("keys.previousFinding"), () => selectNextFinding(-1)],
  ["1", t("tab.prediction"), () => showTab("prediction")],
  ["2", t("tab.heatmap"), () => showTab("heatmap")],
  ["3", t("tab.detections"), () => showTab("detections")],
  ["l", t("results.title"), () => toggleResults()],
  ["+", t("zoom.in"), () => zoom(1 / 1.5)],
  ["-", t("zoom.out"), () => zoom(1.5)],
  ["0", t("zoom.fitPhoto"), fit],
  ["w a s d", t("keys.pan"), null],
  ["t", t("keys.threshold"), () => byId("threshold")?.focus()],
  ["r", t("retry"), withPhoto(retry)],
  ["c", t("dialog.cancel"), withPhoto(cancel)],
  ["Delete", t("keys.remove"), withPhoto(removeAndFocusNext)],
  ["e", t("keys.report"), withPhoto((photo) => photo.result && saveReport([photo]))],
  ["Escape", t("keys.clear"), () => { state.finding = null; changed(); }],
];
/** @returns {Shortcut[]} of every view */
const commonShortcuts = () => [["?", t("keys.help"), () => showShortcuts()]];
/** @type {{ isOpen: () => boolean, shortcuts: () => Shortcut[], onKey: (event: KeyboardEvent) => boolean } | null} */
let otherView = null;

/**
 * Give another part of the page its own shortcuts.
 * @param {() => boolean} isOpen whether it is shown
 * @param {() => Shortcut[]} shortcuts
 * @param {(event: KeyboardEvent) => boolean} onKey called first; returns whether it has handled the key
 */
export function listenToShortcuts(isOpen, shortcuts, onKey) {
  otherView = { isOpen, shortcuts, onKey };
}

const shownShortcuts = () => [...(otherView?.isOpen() ? otherView.shortcuts() : photoShortcuts()), ...commonShortcuts()];
// Users of dictation or of a switch must be able to turn single-key shortcuts off (WCAG 2.1.4).
const stored = storedText("localStorage", "blemish-shortcuts-off");
/** @type {Record<string, [number, number]>} */
const PAN = { w: [0, -0.2], a: [-0.2, 0], s: [0, 0.2], d: [0.2, 0] };

/** @param {number} offset */
function selectNextFinding(offset) {
  const result = currentPhoto()?.result;
  if (!result) return;
  const all = [...findings(result), ...nearMisses(result)];
  if (!all.length) return;
  const position = all.findIndex((d) => d.id === state.finding);
  const first = offset > 0 ? 0 : all.length - 1;
  const next = all[position < 0 ? first : (position + offset + all.length) % all.length];
  state.finding = next.id;
  state.tab = "detections";
  changed();
  zoomTo(next);
}

const areOff = () => stored.get() !== null;

export function showShortcuts() {
  const dialog = byId("shortcuts");
  fill(dialog,
    h("h2", { id: "shortcuts-title", tabindex: -1, autofocus: true }, t("keys.title")),
    h("dl", {}, shownShortcuts().map(([key, meaning]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, meaning)])),
    h("p", { class: "quiet" }, t("keys.tab")),
    h("h3", {}, t("help.title")),
    h("dl", { class: "explained" }, /** @type {const} */ (["score", "threshold", "heatmap"]).map((name) => [h("dt", {}, t(`help.${name}`)), h("dd", {}, t(`help.${name}Text`))])),
    h("p", {}, h("label", {}, h("input", {
      type: "checkbox",
      checked: !areOff(),
      onchange: (/** @type {any} */ event) => stored.set(event.target.checked ? null : "1"),
    }), ` ${t("keys.single")}`)),
    h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, t("dialog.close")));
  if (!dialog.open) dialog.showModal();
}

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const target = /** @type {Element} */ (event.target);
    const isOther = otherView?.isOpen();
    if (isOther && otherView?.onKey(event)) {
      event.preventDefault();
      return;
    }
    if (target.matches?.("textarea, select, input:not([type=range], [type=checkbox])")) return;
    if (target.matches?.("input[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key)) return;
    const step = isOther ? null : PAN[event.key];
    const action = step ? () => pan(...step) : shownShortcuts().find(([key]) => key === event.key)?.[2];
    if (!action || (areOff() && event.key.length === 1 && event.key !== "?")) return;
    event.preventDefault();
    action();
  });
}
