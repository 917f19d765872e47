// The selected finding: its decision, its history, and the form of an edit.

import { h } from "../dom.js";
import { dateTime, number, t, tValue } from "../language.js";
import { isPending, withUnconfirmed } from "./decisions.js";
import { labelNames, labelText, partNames, severityLevels } from "./labels.js";
import { hasOutline } from "./outline_editor.js";
import {
  cancelEdit, chooseShape, decideSelected, editChanged, editProblem, isClosed, mayReview, placeBox, saveEdit, startAdd, startEdit,
} from "./review.js";
import { current, currentFinding, currentImage, effective, numberOf } from "./state.js";

/** @param {string} key of the keyboard */
export const hint = (key) => h("kbd", { "aria-hidden": "true" }, key);

/** @type {(key: string, text: string, shortcut: string, onclick: () => void, className?: string) => HTMLElement} */
const action = (key, text, shortcut, onclick, className = "") =>
  h("button", { type: "button", "data-key": key, class: className, onclick, "aria-keyshortcuts": shortcut.length === 1 ? shortcut : null }, text, hint(shortcut));

/**
 * @param {Edit} edit
 * @param {"label" | "part" | "note"} field
 * @param {string} text
 * @param {string[]} choices
 */
function textField(edit, field, text, choices) {
  const id = `edit-${field}`;
  const onKeydown = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && (field !== "note" || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      saveEdit();
    }
  };
  const properties = {
    id, "data-key": id, value: edit[field], autocomplete: "off",
    oninput: (/** @type {any} */ event) => { edit[field] = event.target.value; editChanged(); },
    onkeydown: onKeydown,
  };
  return [
    h("label", { for: id, "data-key": `${id}-label` }, text),
    field === "note"
      ? h("textarea", { ...properties, rows: 2 })
      : h("input", { ...properties, type: "text", list: choices.length ? `${id}-choices` : null }),
    choices.length > 0 && h("datalist", { id: `${id}-choices`, "data-key": `${id}-choices` }, choices.map((value) => h("option", { value }, labelText(value)))),
  ];
}

/** @param {Edit} edit */
function editor(edit) {
  const problem = editProblem(edit);
  const levels = severityLevels();
  const title = edit.kind === "add" ? t("edit.addTitle") : edit.kind === "note" ? t("edit.noteTitle") : t("edit.title");
  return h("section", { class: "editor", "data-key": "editor", "aria-label": title },
    h("h2", { "data-key": "title" }, title),
    edit.restored && h("p", { class: "restored", role: "status", "data-key": "restored" }, t("edit.restored")),
    edit.kind !== "note" && h("div", { class: "segments", role: "group", "aria-label": t("edit.outline"), "data-key": "shapes" },
      h("button", { type: "button", "data-key": "shape-box", "aria-pressed": String(edit.shape === "box"), onclick: () => chooseShape("box") }, t("edit.box")),
      h("button", { type: "button", "data-key": "shape-polygon", "aria-pressed": String(edit.shape === "polygon"), disabled: !hasOutline(edit), onclick: () => chooseShape("polygon") }, t("edit.polygon"))),
    edit.kind !== "note" && h("p", { class: "quiet", "data-key": "help" }, hasOutline(edit) ? t(edit.shape === "box" ? "edit.helpBox" : "edit.helpPolygon") : t("edit.helpDraw")),
    edit.kind === "add" && !hasOutline(edit) && h("button", { type: "button", "data-key": "place-box", onclick: placeBox }, t("edit.placeBox")),
    h("div", { class: "fields", "data-key": "fields" },
      edit.kind !== "note" && textField(edit, "label", t("edit.label"), labelNames()),
      edit.kind !== "note" && textField(edit, "part", t("edit.part"), partNames()),
      edit.kind === "edit" && levels.length > 0 && [
        h("label", { for: "edit-severity", "data-key": "severity-label" }, t("edit.severity")),
        h("select", { id: "edit-severity", "data-key": "edit-severity", onchange: (/** @type {any} */ event) => { edit.severity = event.target.value; editChanged(); } },
          h("option", { value: "", selected: !edit.severity }, t("edit.severityByRules")),
          levels.map((level) => h("option", { value: level, selected: edit.severity === level }, level))),
      ],
      textField(edit, "note", t("edit.note"), [])),
    problem && h("p", { class: "quiet", "data-key": "problem" }, problem),
    h("div", { class: "row-of-buttons", "data-key": "buttons" },
      h("button", { type: "button", class: "primary", "data-key": "edit-save", "aria-disabled": String(Boolean(problem)), onclick: saveEdit }, t("edit.save"), hint("Enter")),
      h("button", { type: "button", "data-key": "edit-cancel", onclick: cancelEdit }, t("edit.cancel"), hint("Esc"))));
}

/** @param {StoredFinding} finding */
function facts(finding) {
  const values = effective(finding);
  const image = currentImage();
  const damage = current().inspection.summary.damages.find((d) => d.finding_ids.includes(finding.id));
  const others = (damage?.finding_ids.length ?? 1) - 1;
  const measures = Object.entries(finding.measures).map(([name, value]) => `${name} ${typeof value === "number" ? number(value, { maximumFractionDigits: 2 }) : value}`);
  /** @type {[string, any][]} */
  const all = [
    [t("fact.part"), values.part],
    [t("fact.severity"), values.severity_level && `${values.severity_level}${values.severity_rule ? ` (${values.severity_rule})` : ""}`],
    [t("fact.score"), finding.score !== null && number(finding.score, { style: "percent", minimumFractionDigits: 1 })],
    [t("fact.area"), finding.area_share !== null && number(finding.area_share, { style: "percent", minimumFractionDigits: 2 })],
    [t("fact.measures"), measures.join(", ")],
    [t("fact.also"), others > 0 && t("fact.alsoIn", { n: others, basis: tValue("basis", damage?.basis ?? "") })],
    [t("fact.change"), current().inspection.comparison && finding.change && tValue("change", finding.change)],
    [t("fact.photo"), image?.file_name],
  ];
  return h("dl", { class: "facts", "data-key": "facts" }, all.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** @param {StoredFinding} finding */
function history(finding) {
  const reviews = current().reviews.filter((r) => r.finding_id === finding.id);
  if (!reviews.length) return null;
  return h("ol", { class: "history", "data-key": "history", "aria-label": t("history.title") }, reviews.map((r) => h("li", { "data-key": r.id },
    h("strong", {}, tValue("action", r.action)), ` ${t("history.by", { name: r.reviewer, time: dateTime(r.created_at) })}`,
    (r.reason || r.note) && h("span", { class: "block quiet" }, [r.reason, r.note].filter(Boolean).join(": ")))));
}

/** Return the panel below the table. */
export function findingPanel() {
  const open = current();
  if (open.edit) return editor(open.edit);
  const stored = currentFinding();
  const canReview = mayReview() && !isClosed();
  if (!stored) {
    return h("section", { class: "finding-panel", "data-key": "finding-panel", "aria-label": t("finding.title") },
      h("p", { class: "quiet", "data-key": "none" }, t(open.findings.length ? "finding.select" : "finding.none")),
      canReview && open.images.length > 0 && h("div", { class: "row-of-buttons", "data-key": "actions" }, action("review-add", t("review.add"), "n", startAdd)));
  }
  const finding = withUnconfirmed(stored);
  return h("section", { class: "finding-panel", "data-key": "finding-panel", "aria-label": t("finding.title") },
    h("h2", { "data-key": "title" }, `${numberOf(stored)}. ${labelText(effective(finding).label)} `, h("span", { class: `state-text ${finding.state}` }, isPending(finding.id) ? t("review.saving") : tValue("state", finding.state))),
    canReview && h("div", { class: "decide", "data-key": "decide" },
      action("review-accept", t("review.accept"), "a", () => decideSelected("accept"), finding.state === "accepted" ? "chosen" : ""),
      action("review-reject", t("review.reject"), "x", () => decideSelected("reject"), finding.state === "rejected" ? "chosen" : ""),
      action("review-contest", t("review.contest"), "u", () => decideSelected("contest"), finding.state === "contested" ? "chosen" : "")),
    canReview && h("div", { class: "row-of-buttons", "data-key": "actions" },
      action("review-edit", t("review.edit"), "e", () => startEdit("label")),
      action("review-box", t("review.box"), "b", () => startEdit("box")),
      action("review-polygon", t("review.polygon"), "p", () => startEdit("polygon")),
      action("review-note", t("review.note"), "m", () => startEdit("note")),
      action("review-add", t("review.add"), "n", startAdd)),
    facts(finding),
    history(stored));
}
