// The table of all photos: sorted, filtered, and saved as CSV.

import { byId, fill, h } from "./dom.js";
import { dateTime, number, t } from "./language.js";
import { save } from "./save.js";
import { changed, state } from "./state.js";
import { findings, percent, retakeText, reviewItems, statusText } from "./text.js";

/** @typedef {"name" | "result" | "score" | "findings" | "review"} Column */

let isShown = false;
let filter = "";
let onlyReview = false;
/** @type {{ column: Column, down: boolean }} */
let sort = { column: "name", down: false };

export const resultsAreShown = () => isShown && state.photos.length > 0;

export function toggleResults() {
  isShown = !isShown;
  changed();
  queueMicrotask(() => queueMicrotask(() => byId(isShown ? "results-filter" : "queue")?.focus()));
}

/** @param {Photo} photo @returns {Record<Column, string | number>} */
function valuesOf(photo) {
  const { result } = photo;
  const scores = result ? (result.detections ?? result.labels).map((item) => item.score) : [];
  return {
    name: photo.name,
    result: statusText(photo),
    score: scores.length ? Math.max(...scores) : -1,
    findings: result?.detections ? findings(result).length : -1,
    review: result ? Number(reviewItems(result).length > 0 || Boolean(retakeText(result))) : -1,
  };
}

function shownPhotos() {
  const wanted = filter.trim().toLowerCase();
  const rows = state.photos.map((photo) => ({ photo, values: valuesOf(photo) }))
    .filter(({ values }) => (!wanted || `${values.name} ${values.result}`.toLowerCase().includes(wanted)) && (!onlyReview || values.review === 1));
  const { column, down } = sort;
  rows.sort((a, b) => {
    const [x, y] = [a.values[column], b.values[column]];
    return (down ? -1 : 1) * (typeof x === "string" ? x.localeCompare(String(y), undefined, { numeric: true }) : Number(x) - Number(y));
  });
  return rows;
}

/**
 * Return a value as a cell of CSV. A spreadsheet would run a text that begins like a formula.
 * @param {string | number | null} value
 */
function cell(value) {
  const text = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

function saveCsv() {
  const header = ["file", "result", "needs_review", "findings", "best_score", "model", "model_digest", "sha256", "time"];
  const lines = shownPhotos().map(({ photo, values }) => [
    photo.name, String(values.result), values.review === 1 ? "yes" : values.review === 0 ? "no" : "", Number(values.findings) < 0 ? "" : values.findings, Number(values.score) < 0 ? "" : values.score,
    photo.result?.model ?? "", photo.result?.model_digest ?? "", photo.result?.sha256 ?? "", photo.resultTime?.toISOString() ?? "",
  ].map(cell).join(","));
  save("results.csv", new Blob([`\ufeff${[header.join(","), ...lines].join("\r\n")}\r\n`], { type: "text/csv" }));
}

/** @param {Column} column @param {string} text @param {string} [className] */
function header(column, text, className = "") {
  const isSorted = sort.column === column;
  const toggle = () => {
    sort = { column, down: isSorted ? !sort.down : column === "score" || column === "findings" || column === "review" };
    changed();
  };
  return h("th", { scope: "col", class: className, "aria-sort": isSorted ? (sort.down ? "descending" : "ascending") : null },
    h("button", { type: "button", class: `sort${isSorted ? ` sorted${sort.down ? "" : " up"}` : ""}`, "data-key": `results-sort-${column}`, onclick: toggle }, text));
}

/** @param {{ photo: Photo, values: Record<Column, string | number> }} row */
function row({ photo, values }) {
  const open = () => {
    Object.assign(state, { selected: photo.id, finding: null });
    isShown = false;
    changed();
  };
  return h("tr", { "data-key": photo.id, class: photo.status },
    h("td", {}, h("button", { type: "button", class: "link row", "data-key": `results-open-${photo.id}`, onclick: open }, photo.name)),
    h("td", {}, values.result),
    h("td", { class: "number" }, Number(values.findings) < 0 ? "–" : number(Number(values.findings))),
    h("td", { class: "number" }, Number(values.score) < 0 ? "–" : percent(Number(values.score))),
    h("td", {}, values.review === 1 ? t("summary.needsReview") : "–"),
    h("td", { class: "wide" }, photo.result?.model ?? "–"),
    h("td", { class: "wide" }, photo.resultTime ? dateTime(photo.resultTime) : "–"));
}

export function drawResults() {
  const section = byId("results");
  section.hidden = !resultsAreShown();
  byId("work").classList.toggle("with-results", resultsAreShown());
  if (!resultsAreShown()) return;
  const rows = shownPhotos();
  fill(section,
    h("div", { class: "results-head", "data-key": "head" },
      h("h2", {}, t("results.title"), h("span", { class: "count" }, t("results.shown", { n: rows.length, total: state.photos.length }))),
      h("label", {}, h("span", { class: "screen-reader" }, t("results.filter")),
        h("input", { id: "results-filter", "data-key": "results-filter", type: "search", placeholder: t("results.filter"), value: filter, oninput: (/** @type {any} */ event) => { filter = event.target.value; changed(); } })),
      h("label", {}, h("input", { type: "checkbox", "data-key": "results-review", checked: onlyReview, onchange: (/** @type {any} */ event) => { onlyReview = event.target.checked; changed(); } }), ` ${t("results.onlyReview")}`),
      h("span", { class: "grow" }),
      h("button", { type: "button", "data-key": "save-csv", onclick: saveCsv }, "CSV"),
      h("button", { type: "button", "data-key": "results-close", onclick: toggleResults }, t("results.back"))),
    h("table", { class: "findings results-table", "data-key": "table" },
      h("thead", {}, h("tr", {}, header("name", t("photo.title")), header("result", t("table.result")), header("findings", t("findings.title"), "number"), header("score", t("results.best"), "number"), header("review", t("outcome.review")),
        h("th", { scope: "col", class: "wide" }, t("fact.model")), h("th", { scope: "col", class: "wide" }, t("results.time")))),
      h("tbody", { "data-key": "rows" }, rows.map(row))));
}
