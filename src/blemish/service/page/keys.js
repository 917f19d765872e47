// Everything by keyboard.

import { byId, fill, h } from "./dom.js";
import { saveReport } from "./downloads.js";
import { kept } from "./kept.js";
import { showTab } from "./panel.js";
import { removeAndStay, step } from "./queue.js";
import { cancel, retry } from "./sending.js";
import { changed, current, state } from "./store.js";
import { fit, goTo, pan, zoom } from "./viewer.js";
import { findings, nearMisses } from "./words.js";

const KEYS = [
  ["o", "Add photographs", () => byId("files").click()],
  ["j", "Next photograph", () => step(1)],
  ["k", "Photograph before", () => step(-1)],
  ["n", "Next finding", () => stepFinding(1)],
  ["p", "Finding before", () => stepFinding(-1)],
  ["1", "Verdict", () => showTab("verdict")],
  ["2", "Why", () => showTab("why")],
  ["3", "Where", () => showTab("where")],
  ["+", "Zoom in", () => zoom(1 / 1.5)],
  ["-", "Zoom out", () => zoom(1.5)],
  ["0", "Fit the photograph", fit],
  ["w a s d", "Pan when zoomed", null],
  ["t", "To the threshold", () => byId("threshold")?.focus()],
  ["r", "Retry", () => current() && retry(current())],
  ["c", "Cancel", () => current() && cancel(current())],
  ["Delete", "Remove the photograph", () => current() && removeAndStay(current())],
  ["e", "Download the report", () => current()?.result && saveReport([current()])],
  ["Escape", "Let go of the finding", () => { state.finding = null; changed(); }],
  ["?", "These keys", () => showKeys()],
];
// Who dictates or has a switch must be able to silence single letters (WCAG 2.1.4).
const silence = kept("localStorage", "blemish-keys-off");
const PAN = { w: [0, -0.2], a: [-0.2, 0], s: [0, 0.2], d: [0.2, 0] };

function stepFinding(by) {
  const item = current();
  if (!item?.result) return;
  const all = [...findings(item.result), ...nearMisses(item.result)];
  if (!all.length) return;
  const place = all.findIndex((o) => o.id === state.finding);
  const next = all[(place < 0 ? (by > 0 ? 0 : all.length - 1) : place + by + all.length) % all.length];
  state.finding = next.id;
  state.tab = "where";
  changed();
  goTo(next);
}

const off = () => silence.get() !== null;
const setOff = (on) => silence.set(on ? "1" : null);

export function showKeys() {
  const dialog = byId("keys");
  fill(dialog,
    h("h2", { id: "keys-title", tabindex: -1, autofocus: true }, "Keyboard"),
    h("dl", {}, KEYS.map(([name, what]) => [h("dt", {}, h("kbd", {}, name)), h("dd", {}, what)])),
    h("p", { class: "quiet" }, "Tab and Shift+Tab reach everything; Enter and Space press it."),
    h("p", {}, h("label", {}, h("input", { type: "checkbox", checked: !off(), onchange: (e) => setOff(!e.target.checked) }), " Single keys are on")),
    h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close"));
  if (!dialog.open) dialog.showModal();
}

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const target = event.target;
    if (target.matches?.("textarea, select, input:not([type=range], [type=checkbox])")) return;
    if (target.matches?.("input[type=range]") && /^(Arrow|Home|End|Page)/.test(event.key)) return;
    const wanted = PAN[event.key] ? () => pan(...PAN[event.key]) : KEYS.find(([name]) => name === event.key)?.[2];
    if (!wanted || (off() && event.key.length === 1 && event.key !== "?")) return;
    event.preventDefault();
    wanted();
  });
}
