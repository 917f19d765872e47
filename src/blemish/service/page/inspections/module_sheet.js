// The sheet of a solar module: each of its cells, colored by what the model decided about it.

import { h } from "../dom.js";
import { number, t } from "../language.js";
import { labelText } from "./labels.js";
import { current, effective, ofImage, selectFinding } from "./state.js";
import { viewport } from "./viewer.js";

/** Return the sheet of the open photo, or null. @returns {ModuleSheet | null} */
const sheetOfPhoto = () => current().sheets.find((sheet) => sheet.image_id === current().imageId) ?? null;

/** Return whether the open photo shows a module whose cells were found. */
export const hasModuleSheet = () => sheetOfPhoto() !== null;

/** @param {number} share */
const percents = (share) => number(share, { style: "percent", maximumFractionDigits: 1 });

/** @param {ModuleCell} cell */
function cellText(cell) {
  const labels = cell.labels.map(({ label, score }) => `${labelText(label)} ${percents(score)}`).join(", ");
  const inactive = cell.inactive_share ? t("module.inactive", { share: percents(cell.inactive_share) }) : "";
  return [cell.name, labels || t(cell.error ? "module.failed" : "module.fine"), inactive].filter(Boolean).join(": ");
}

/** @param {ModuleSheet} sheet @param {ModuleCell} cell */
function show(sheet, cell) {
  const xs = cell.quad.map((p) => p[0]);
  const ys = cell.quad.map((p) => p[1]);
  const finding = ofImage(current().findings, sheet.image_id).find((f) => effective(f).part === cell.name);
  selectFinding(finding ?? null);
  viewport.zoomTo([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]);
}

/** @param {ModuleSheet} sheet @param {ModuleCell} cell */
function tableCell(sheet, cell) {
  const open = current();
  const selected = open.findings.some((f) => f.id === open.findingId && f.image_id === sheet.image_id && effective(f).part === cell.name);
  const decided = ofImage(open.findings, sheet.image_id).filter((f) => effective(f).part === cell.name);
  const isRejected = decided.length > 0 && decided.every((f) => f.state === "rejected");
  const className = ["cell", cell.labels.length && !isRejected ? "damaged" : "", isRejected ? "rejected" : "", cell.error ? "failed" : "", selected ? "selected" : "", cell.name === sheet.worst_cell ? "worst" : ""].filter(Boolean).join(" ");
  const text = cellText(cell);
  return h("td", { class: className, "data-key": cell.name },
    h("button", { type: "button", title: text, "aria-label": text, "data-key": `cell-${cell.name}`, vars: { "--inactive": `${100 * cell.inactive_share}%`, "--strength": `${Math.round(35 + 65 * (cell.labels[0]?.score ?? 0))}%` }, onclick: () => show(sheet, cell) }));
}

/** Return the sheet of the open photo. */
export function moduleSheet() {
  const sheet = /** @type {ModuleSheet} */ (sheetOfPhoto());
  const { columns } = sheet.grid;
  const rows = Array.from({ length: sheet.grid.rows }, (_, r) => sheet.cells.slice(r * columns, (r + 1) * columns));
  const worst = sheet.cells.find((cell) => cell.name === sheet.worst_cell);
  return h("section", { class: "module", "data-key": "module", "aria-label": t("module.title") },
    h("div", { class: "section-head", "data-key": "head" },
      h("h2", {}, t("module.title"), h("span", { class: "count" }, `${sheet.grid.rows} × ${columns}`)),
      h("span", { class: "quiet" }, t("module.summary", { n: sheet.damaged_cells, total: sheet.cells.length, share: percents(sheet.inactive_area_share) })),
      worst && h("button", { type: "button", class: "link small", "data-key": "worst", onclick: () => show(sheet, worst) }, t("module.worst", { cell: worst.name }))),
    h("table", { class: "module-cells", "data-key": "cells" },
      h("thead", {}, h("tr", {}, h("td", {}), rows[0].map((_, c) => h("th", { scope: "col" }, `C${c + 1}`)))),
      h("tbody", {}, rows.map((cells, r) => h("tr", {}, h("th", { scope: "row" }, `R${r + 1}`), cells.map((cell) => tableCell(sheet, cell)))))),
    h("p", { class: "quiet", "data-key": "legend" }, t("module.legend")));
}
