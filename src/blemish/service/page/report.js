// The report: one HTML file that contains its images, for screens and for A4 or Letter paper.

import { labelColor } from "./colors.js";
import { dateTime, language, t } from "./language.js";
import { findModel } from "./state.js";
import {
  areaPercent, checkedFor, displayName, findings, heatmapCaption, heatmapNote, isPositive, modelCheck,
  nearMisses, needsReview, percent, retakeText, reviewItems, summarize, thresholdOf, wholePercent,
} from "./text.js";

/** @type {Record<string, string>} */
const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
/** @param {unknown} value */
const escape = (value) => String(value).replace(/[&<>"']/g, (c) => ESCAPES[c]);

const STYLE = `
:root { color-scheme: light; }
body { font: 15px/1.45 -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; color: #1b1f24; background: #fff; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.1rem; margin: 0; } h2 { font-size: 1.35rem; line-height: 1.2; margin: .25rem 0; }
article { border-top: 2px solid #1b1f24; padding: 1rem 0 1.5rem; }
img { max-width: 100%; max-height: 14cm; display: block; } figure { margin: .75rem 0; } figcaption { margin-top: .2rem; }
.pair { display: flex; flex-wrap: wrap; gap: 0 1rem; } .pair figure { flex: 0 1 auto; max-width: 100%; } .pair .heatmap { flex: 1 1 6cm; max-width: 9cm; }
.halves { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #d5d9de; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.quiet { color: #555e68; font-size: .85rem; margin: .4rem 0; overflow-wrap: anywhere; } thead { display: table-header-group; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border: 1px solid #1b1f24; margin-right: .45rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.decision { display: grid; grid-template-columns: 2fr 1fr 1fr; gap: 1rem; margin-top: 2.2rem; } .decision span { border-top: 1px solid #1b1f24; font-size: .85rem; color: #555e68; }
tr, figure, .signed { break-inside: avoid; } article + article { break-before: page; }
@page { margin: 14mm; } @media print { body { margin: 0; max-width: none; padding: 0; font-size: 10pt; } img { max-height: 9cm; } figure { margin: .5rem 0; } th, td { padding-top: .15rem; padding-bottom: .15rem; } article { padding: .4rem 0 0; } .decision { margin-top: 1.6rem; } }
`;

/** @param {PredictionResponse} result */
function table(result) {
  if (result.detections) {
    /** @type {(detection: Detection, note: string) => string} */
    const row = (d, note) => `<tr><td class="n">${d.id}</td><td><span class="swatch" style="background:${labelColor(result, d.label)}"></span>${escape(displayName(d))}${note}</td>` +
      `<td class="n">${percent(d.score)}</td><td class="n">${wholePercent(thresholdOf(result, d.label))}</td><td class="n">${areaPercent(d.area_percent)}</td></tr>`;
    const rows = [
      ...findings(result).map((d) => row(d, needsReview(result, d) ? ` (${t("summary.needsReview")})` : "")),
      ...nearMisses(result).map((d) => row(d, ` (${t("report.below")})`)),
    ];
    if (!rows.length) return `<p>${t("report.noneReaches")}</p>`;
    return `<table><thead><tr><th class="n">${t("findings.number")}</th><th>${t("table.type")}</th><th class="n">${t("table.confidence")}</th><th class="n">${t("table.threshold")}</th><th class="n">${t("table.area")}</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }
  const rows = [...result.labels].sort((a, b) => b.score - a.score).map((l) => `<tr><td>${escape(l.display_name)}</td><td class="n">${percent(l.score)}</td>` +
    `<td class="n">${result.task === "classification" ? "" : wholePercent(thresholdOf(result, l.label))}</td><td>${t(isPositive(result, l) ? "yes" : "no")}</td></tr>`);
  return `<table><thead><tr><th>${t("findings.label")}</th><th class="n">${t("table.confidence")}</th><th class="n">${t("table.threshold")}</th><th>${t("table.result")}</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

/**
 * Return the photo, and its heatmap if there is one: of the same size, or smaller than a photo whose outlines matter.
 * @param {ReadyPhoto} photo
 * @param {ReportImages} images
 */
function figures(photo, images) {
  const { heatmap, result } = photo;
  const caption = heatmap ? `<figcaption class="quiet">${escape(heatmapCaption(heatmap))}. ${heatmap.empty ? t("heatmap.empty") : heatmapNote(heatmap)}</figcaption>` : "";
  const original = images.photo
    ? `<figure><img alt="${t(result.detections ? "report.altFindings" : "report.altPhoto")}" src="${images.photo}">${heatmap?.empty ? caption : ""}</figure>`
    : `<p class="quiet">${t("report.noPhoto")}</p>`;
  if (!images.heatmap) return original;
  const second = `<figure class="heatmap"><img alt="${t("report.altHeatmap")}" src="${images.heatmap}">${caption}</figure>`;
  return `<div class="${result.detections ? "pair" : "halves"}">${original}${second}</div>`;
}

/**
 * @param {ReadyPhoto} photo
 * @param {ReportImages} images
 */
function article(photo, images) {
  const { result } = photo;
  const model = findModel(result.model);
  const created = model?.created ? `; ${t("about.created", { time: model.created })}` : "";
  const values = { model: result.model_version, architecture: model?.architecture ?? "", created, check: modelCheck(model), file: result.model_digest, photo: result.sha256 };
  return `<article><p class="quiet">${escape(photo.name)}, ${escape(photo.resultTime ? dateTime(photo.resultTime) : "")}, ${result.size_hw[1]} × ${result.size_hw[0]} px</p>` +
    `<h2>${escape(summarize(result))}</h2>` +
    (retakeText(result) ? `<p><strong>${escape(retakeText(result))}.</strong> ${t("report.retake")}</p>` : "") +
    figures(photo, images) +
    table(result) +
    `<div class="signed"><p class="quiet">${escape(checkedFor(result.model))}</p>` +
    `<p class="quiet">${escape(t("report.provenance", values))}</p>` +
    `<div class="decision"><span>${t("report.decision")}</span><span>${t("report.name")}</span><span>${t("report.date")}</span></div></div></article>`;
}

/**
 * Return the report as one HTML file.
 * @param {ReadyPhoto[]} photos
 * @param {ReportImages[]} images of each photo
 */
export function reportHtml(photos, images) {
  const review = photos.filter((photo) => reviewItems(photo.result).length).length;
  const reviewText = review ? `, ${t("summary.review", { n: review })}` : "";
  return `<!doctype html><html lang="${language()}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">` +
    `<title>${t("report.heading")}</title><style>${STYLE}</style></head><body><h1>${t("report.heading")}</h1>` +
    `<p class="quiet">${t("queue.photos", { n: photos.length })}${reviewText}. ${t("report.createdWith")} ${t("disclaimer")}</p>` +
    `${photos.map((photo, i) => article(photo, images[i])).join("")}</body></html>`;
}
