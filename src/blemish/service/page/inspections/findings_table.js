// The table of findings: of the whole inspection, or of the open photo.

import { h } from "../dom.js";
import { number, t, tValue } from "../language.js";
import { changed } from "../state.js";
import { isPending, withUnconfirmed } from "./decisions.js";
import { labelText } from "./labels.js";
import { current, effective, isUndecided, numberOf, ofImage, selectFinding } from "./state.js";
import { colorOf, hover, zoomToFinding } from "./viewer.js";

const STATE_ORDER = ["contested", "open", "accepted", "rejected"];
/** @type {Record<string, string>} marks of the states, so that color is not needed to distinguish them */
export const MARKS = { open: "○", contested: "?", accepted: "✓", rejected: "×" };

/** @type {Record<string, (f: StoredFinding) => string | number>} */
const SORT_KEYS = {
  number: (f) => numberOf(f),
  label: (f) => labelText(effective(f).label),
  part: (f) => effective(f).part || "\uffff",
  severity: (f) => effective(f).severity_level || "",
  score: (f) => -(f.score ?? 2),
  state: (f) => STATE_ORDER.indexOf(f.state),
};

/**
 * Return the findings in the order of the table, as the next and previous ones are found.
 * @returns {StoredFinding[]} as they are stored
 */
export function orderedFindings() {
  const open = current();
  const shown = open.onlyImage && open.imageId ? ofImage(open.findings, open.imageId) : open.findings;
  const key = SORT_KEYS[open.sort];
  const sign = open.sort === "severity" ? -1 : 1;
  return [...shown].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return sign * (typeof x === "string" ? x.localeCompare(String(y)) : Number(x) - Number(y)) || numberOf(a) - numberOf(b);
  });
}

/** @param {StoredFinding} finding */
function row(finding) {
  const open = current();
  const shown = withUnconfirmed(finding);
  const values = effective(shown);
  const { id } = finding;
  const selected = open.findingId === id;
  return h("tr", {
    class: `${shown.state}${selected ? " selected" : ""}${isPending(id) ? " pending" : ""}`,
    "data-finding": id,
    "data-key": `finding-${id}`,
    onclick: () => { selectFinding(finding); zoomToFinding(); },
    onpointerenter: () => hover(id, true),
    onpointerleave: () => hover(id, false),
  },
    h("td", { class: "number" }, numberOf(finding)),
    h("td", {}, h("button", {
      type: "button",
      class: "link row",
      "data-key": `row-${id}`,
      "aria-pressed": String(selected),
      onfocus: () => hover(id, true),
      onblur: () => hover(id, false),
    }, h("span", { class: "swatch", vars: { "--label": colorOf(values.label) }, "aria-hidden": "true" }), h("span", { class: "name" }, labelText(values.label))),
    open.inspection.comparison && finding.change !== "unknown" && h("span", { class: `change ${finding.change}` }, tValue("change", finding.change))),
    h("td", { class: "part" }, values.part || h("span", { class: "none", "aria-hidden": "true" }, "–")),
    h("td", {}, values.severity_level ? h("span", { class: "severity", title: values.severity_rule || "" }, values.severity_level) : h("span", { class: "none", "aria-hidden": "true" }, "–")),
    h("td", { class: "number" }, finding.score === null ? t("finding.person") : number(finding.score, { style: "percent" })),
    h("td", { class: "state" }, h("span", { class: "mark-of", "aria-hidden": "true" }, MARKS[shown.state]), tValue("state", shown.state)));
}

/** @param {string} column @param {string} text @param {string} [className] */
function header(column, text, className = "") {
  const open = current();
  const isSorted = open.sort === column;
  return h("th", { scope: "col", class: className, "aria-sort": isSorted ? (column === "severity" || column === "score" ? "descending" : "ascending") : null },
    h("button", { type: "button", class: `sort${isSorted ? " sorted" : ""}`, "data-key": `sort-${column}`, onclick: () => { open.sort = column; changed(); } }, text));
}

/** Return the table with its heading. */
export function findingsTable() {
  const open = current();
  const all = orderedFindings();
  const undecided = open.findings.map(withUnconfirmed).filter(isUndecided).length;
  const toggle = (/** @type {boolean} */ only) => () => { open.onlyImage = only; changed(); };
  return h("section", { class: "findings-section", "data-key": "findings", "aria-label": t("findings.title") },
    h("div", { class: "section-head", "data-key": "head" },
      h("h2", {}, t("findings.title"), h("span", { class: "count" }, number(open.findings.length))),
      h("span", { class: "quiet grow" }, undecided ? t("findings.undecided", { n: undecided }) : ""),
      h("div", { class: "segments", role: "group", "aria-label": t("findings.scope") },
        h("button", { type: "button", "data-key": "scope-all", "aria-pressed": String(!open.onlyImage), onclick: toggle(false) }, t("findings.all")),
        h("button", { type: "button", "data-key": "scope-photo", "aria-pressed": String(open.onlyImage), onclick: toggle(true) }, t("findings.photo")))),
    all.length
      ? h("div", { class: "table-scroll", "data-key": "scroll", tabindex: 0, role: "region", "aria-label": t("findings.title") }, h("table", { class: "findings review-table", "data-key": "table" },
        h("thead", { "data-key": "thead" }, h("tr", {},
          header("number", t("findings.number"), "number"), header("label", t("findings.label")), header("part", t("findings.part"), "part"),
          header("severity", t("findings.severity")), header("score", t("findings.score"), "number"), header("state", t("findings.state")))),
        h("tbody", { "data-key": "rows" }, all.map(row))))
      : h("p", { class: "quiet", "data-key": "none" }, t(open.images.length ? "findings.none" : "findings.noPhotos")));
}

/**
 * Select the next or previous finding in the order of the table.
 * @param {number} offset
 * @param {{ undecided?: boolean }} [options] `undecided`: skip those that are decided
 * @returns {StoredFinding | null}
 */
export function stepFinding(offset, { undecided = false } = {}) {
  const open = current();
  const all = orderedFindings();
  const start = all.findIndex((f) => f.id === open.findingId);
  for (let i = 1; i <= all.length; i += 1) {
    const position = start < 0 ? (offset > 0 ? i - 1 : all.length - i) : (start + offset * i + i * all.length * 2) % all.length;
    const candidate = all[position];
    if (!undecided || isUndecided(withUnconfirmed(candidate))) {
      if (candidate.id === open.findingId && undecided) return null;
      selectFinding(candidate);
      zoomToFinding();
      queueMicrotask(() => document.querySelector(`tr[data-finding="${candidate.id}"]`)?.scrollIntoView({ block: "nearest" }));
      return candidate;
    }
  }
  return null;
}
