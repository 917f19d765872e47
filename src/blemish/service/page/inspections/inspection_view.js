// One inspection: decision, coverage, photos, viewer and findings.

import { byId, h } from "../dom.js";
import { date, number, t, tValue } from "../language.js";
import { notify, state } from "../state.js";
import { discardFailed, retryAll, unconfirmed } from "./decisions.js";
import { askReport, askLabels } from "./download_dialogs.js";
import { findingPanel, hint } from "./finding_panel.js";
import { findingsTable } from "./findings_table.js";
import { labelText } from "./labels.js";
import { mayWrite } from "./list_view.js";
import { refresh, showProblem } from "./loading.js";
import { moduleSheet, hasModuleSheet } from "./module_sheet.js";
import { patch } from "./rest.js";
import { isClosed } from "./review.js";
import { assetAddress, compareAddress, LIST_ADDRESS } from "./router.js";
import { current, currentImage, store } from "./state.js";
import { strip } from "./strip.js";
import { runModel } from "./uploads.js";
import { viewer } from "./viewer.js";

/** @param {"open" | "closed"} status */
export async function setStatus(status) {
  const open = current();
  try {
    await patch(`/inspections/${open.inspection.id}`, { status }, { version: open.inspection.version });
    await refresh();
    if (status === "closed") notify(null);
  } catch (error) {
    showProblem(error);
    await refresh();
  }
}

/** Return the decision as one line. */
function decisionText() {
  const { inspection, images } = current();
  const { summary } = inspection;
  const { coverage } = summary;
  if (!images.length) return t("decided.noPhotos");
  if (summary.decision === "not-inspected") return t("decided.notInspected");
  const damages = Object.entries(summary.counts).sort((a, b) => b[1] - a[1]).map(([label, n]) => `${number(n)} × ${labelText(label)}`);
  if (summary.decision === "incomplete") return t("decided.incomplete", { why: coverage.missing.length ? t("decided.missingViews", { n: coverage.missing.length }) : t("decided.notAllInspected", { n: summary.not_inspected.length }) });
  if (summary.decision === "needs-review") return t("decided.needsReview", { n: summary.open_findings });
  if (summary.decision === "no-findings") return t("decided.noFindings");
  return t("decided.findings", { damages: damages.join(", ") });
}

function facts() {
  const { inspection, images, findings } = current();
  const { summary } = inspection;
  const { coverage } = summary;
  const decided = findings.filter((f) => f.state === "accepted" || f.state === "rejected").length;
  const damages = Object.entries(summary.counts).map(([label, n]) => `${number(n)} × ${labelText(label)}`).join(", ");
  return h("dl", { class: "case-facts", "data-key": "case-facts" },
    h("div", {}, h("dt", {}, t("case.damages")), h("dd", { title: damages }, damages || "–")),
    summary.severity_scale && h("div", {}, h("dt", {}, t("case.worst")), h("dd", {}, summary.worst_severity || "–", h("span", { class: "quiet" }, ` ${summary.severity_scale}`))),
    h("div", {}, h("dt", {}, t("case.decided")), h("dd", {}, t("case.of", { done: decided, total: findings.length }))),
    h("div", {}, h("dt", {}, t("case.photos")), h("dd", {}, number(images.length))),
    coverage.required.length > 0 && h("div", { class: "coverage" }, h("dt", {}, t("case.coverage", { done: coverage.present.length, total: coverage.required.length })),
      h("dd", {}, coverage.required.map((view) => h("span", { class: `view ${coverage.missing.includes(view) ? "missing" : "present"}` },
        h("span", { "aria-hidden": "true" }, coverage.missing.includes(view) ? "○ " : "✓ "), view, h("span", { class: "screen-reader" }, t(coverage.missing.includes(view) ? "case.missing" : "case.present")))))));
}

/** Return what is not stored yet, or null. */
function unstored() {
  const failed = unconfirmed().filter((d) => d.problem);
  if (!failed.length) return null;
  const problem = /** @type {PageProblem} */ (failed[0].problem);
  return h("div", { class: "notice", role: "alert", "data-key": "unstored" }, h("span", {}, t("review.unstored", { n: failed.length }), " ", problem.detail),
    h("button", { type: "button", class: "link", "data-key": "unstored-retry", onclick: retryAll }, t("retry")),
    h("button", { type: "button", class: "link", "data-key": "unstored-discard", onclick: discardFailed }, t("review.discard")));
}

function header() {
  const { inspection, images, run } = current();
  const { asset } = inspection;
  const canWrite = mayWrite() && !isClosed();
  const notSeen = inspection.summary.not_inspected.length;
  return h("header", { class: "case-head", "data-key": "case-head" },
    h("p", { class: "crumbs", "data-key": "crumbs" },
      h("a", { href: LIST_ADDRESS, "data-key": "to-list" }, t("list.title")), h("span", { "aria-hidden": "true" }, " / "),
      h("a", { href: assetAddress(asset.id), "data-key": "to-asset" }, asset.reference),
      h("span", { class: "quiet" }, ` ${[tValue("kind", asset.kind), tValue("phase", inspection.phase), inspection.kind, date(inspection.created_at)].filter(Boolean).join(" · ")}`)),
    h("div", { class: "case-title", "data-key": "case-title" },
      h("h2", { id: "decision-text", class: `decision-text ${inspection.summary.decision}` }, decisionText()),
      isClosed() && h("span", { class: "badge-text" }, t("inspection.closed")),
      h("span", { class: "grow" }),
      h("div", { class: "row-of-buttons", "data-key": "case-actions" },
        canWrite && h("button", { type: "button", "data-key": "add-photos", class: images.length ? "" : "primary", onclick: () => byId("inspection-files").click() }, t("inspection.addPhotos"), hint("o")),
        canWrite && notSeen > 0 && state.models.length > 0 && h("button", { type: "button", "data-key": "run-model", disabled: Boolean(run), onclick: runModel }, t("inspection.run", { n: notSeen })),
        images.length > 0 && h("a", { class: "button", href: compareAddress(inspection.id), "data-key": "compare" }, t("inspection.compare"), hint("c")),
        images.length > 0 && h("button", { type: "button", "data-key": "report", onclick: askReport }, t("inspection.report"), hint("r")),
        images.length > 0 && h("button", { type: "button", "data-key": "labels", onclick: askLabels }, t("inspection.labels")),
        mayWrite() && images.length > 0 && h("button", { type: "button", "data-key": "status", onclick: () => setStatus(isClosed() ? "open" : "closed") }, t(isClosed() ? "inspection.reopen" : "inspection.close")))),
    images.length > 0 && facts());
}

/** The view of the open photo, which a person can name. */
function photoBar() {
  const open = current();
  const image = currentImage();
  if (!image) return null;
  const position = open.images.indexOf(image);
  const set = async (/** @type {any} */ event) => {
    try {
      await patch(`/images/${image.id}`, { view: event.target.value.trim() }, { version: open.inspection.version });
    } catch (error) {
      showProblem(error);
    }
    await refresh();
  };
  const views = [...new Set([...open.inspection.required_views, ...open.images.map((i) => i.view).filter(Boolean)])];
  return h("div", { class: "photo-bar", "data-key": "photo-bar" },
    h("span", { class: "photo-name" }, image.file_name),
    h("span", { class: "quiet" }, t("photo.position", { i: position + 1, n: open.images.length })),
    h("span", { class: "grow" }),
    h("label", {}, h("span", { class: "quiet" }, t("photo.view")), " ",
      h("input", { id: "photo-view", "data-key": "photo-view", type: "text", list: "photo-views", value: image.view, disabled: isClosed() || !mayWrite(), maxlength: 64, autocomplete: "off", onchange: set })),
    h("datalist", { id: "photo-views", "data-key": "photo-views" }, views.map((v) => h("option", { value: v }))));
}

/** Return the keys of the view, in one line. */
function keyBar() {
  if (!store.current?.images.length) return null;
  /** @type {[string[], string][]} */
  const keys = current().edit
    ? [[["←↑↓→"], t("keys.move")], [["⇧"], t("keys.faster")], [["Tab"], t("keys.handle")], [["Enter"], t("edit.save")], [["Esc"], t("edit.cancel")]]
    : [[["a"], t("review.accept")], [["x"], t("review.reject")], [["e"], t("review.edit")], [["b", "p"], t("keys.redraw")], [["n"], t("review.add")], [["m"], t("review.note")],
      [["j", "k"], t("keys.findings")], [["←", "→"], t("keys.photos")], [["+", "-", "0"], t("keys.zoom")], [["?"], t("keys.all")]];
  return h("div", { class: "key-bar", "data-key": "key-bar", "aria-hidden": "true" }, keys.map(([names, text]) => h("span", {}, names.map((name) => hint(name)), " ", text)));
}

/** Return the view. */
export function inspectionView() {
  const open = store.current;
  if (!open) return h("div", { class: "page-width", "data-key": "inspection-loading" }, !store.problem && h("p", { class: "quiet" }, t("loading")));
  const isEmpty = !open.images.length;
  return h("div", { class: "case", "data-key": "inspection" },
    unstored(),
    header(),
    strip(),
    isEmpty
      ? h("div", { class: "drop", "data-key": "drop" }, h("p", { class: "lead" }, t("inspection.dropHere")), h("p", { class: "quiet" }, t("inspection.dropHelp")))
      : h("div", { class: "case-body", "data-key": "body" },
        h("section", { class: "case-stage", "aria-label": t("photo.title"), "data-key": "stage" }, photoBar(), viewer()),
        h("div", { class: "case-panel", "data-key": "panel" }, findingsTable(), hasModuleSheet() && moduleSheet(), findingPanel())),
    keyBar());
}
