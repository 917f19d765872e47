// The report: one HTML file with its pictures in it, for screens and for A4 or Letter paper.

import { modelInfo } from "./store.js";
import { cannotSee, closeCalls, findings, isClose, labelHolds, percent, thresholdOf, title, verdict } from "./words.js";

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const text = (value) => String(value).replace(/[&<>"']/g, (c) => escapes[c]);

const STYLE = `
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.1rem; margin: 0; } h2 { font-size: 1.35rem; line-height: 1.2; margin: .25rem 0; }
article { border-top: 2px solid #1b1f24; padding: 1rem 0 1.5rem; }
img { max-width: 100%; max-height: 14cm; display: block; margin: .75rem 0; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #d5d9de; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.quiet { color: #555e68; font-size: .85rem; overflow-wrap: anywhere; } thead { display: table-header-group; }
tr, img { break-inside: avoid; } article + article { break-before: page; }
@page { margin: 16mm; } @media print { body { margin: 0; max-width: none; padding: 0; } }
`;

function table(result) {
  if (result.objects) {
    const rows = findings(result).map((o) => `<tr><td class="n">${o.id}</td><td>${text(title(o.title))}${isClose(result, o) ? " (needs a look)" : ""}</td>` +
      `<td class="n">${percent(o.score)}</td><td class="n">${percent(thresholdOf(result, o.label))}</td><td class="n">${o.area_percent.toFixed(2)} %</td></tr>`);
    if (!rows.length) return "<p>No finding reaches its threshold.</p>";
    return `<table><thead><tr><th class="n">No.</th><th>Type</th><th class="n">Score</th><th class="n">Threshold</th><th class="n">Area</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }
  const rows = [...result.labels].sort((a, b) => b.score - a.score).map((l) => `<tr><td>${text(l.title)}</td><td class="n">${percent(l.score)}</td>` +
    `<td class="n">${result.task === "classification" ? "" : percent(thresholdOf(result, l.label))}</td><td>${labelHolds(result, l) ? "yes" : "no"}</td></tr>`);
  return `<table><thead><tr><th>Label</th><th class="n">Score</th><th class="n">Threshold</th><th>Verdict</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

export function reportPage(items, pictures) {
  const parts = items.map((item, i) => {
    const result = item.result;
    const model = modelInfo(result.model);
    const proof = model?.certificate ? (model.certificate.passed ? "passed" : "not passed") : "none";
    return `<article><p class="quiet">${text(item.name)} · ${item.when.toLocaleString()} · ${result.size_hw[1]} × ${result.size_hw[0]} px</p>` +
      `<h2>${text(verdict(result))}</h2>` +
      (pictures[i] ? `<img alt="The photograph with the findings outlined" src="${pictures[i]}">` : "<p class=\"quiet\">The photograph cannot be shown by this browser.</p>") +
      table(result) +
      `<p class="quiet">${text(cannotSee(result.model))}</p>` +
      `<p class="quiet">Model ${text(result.model_version)}, ${text(model?.architecture ?? "")}; file ${text(result.model_digest)}; parity certificate ${proof}. ` +
      `Photograph SHA-256 ${text(result.sha256)}.</p></article>`;
  });
  const close = items.reduce((sum, item) => sum + closeCalls(item.result).length, 0);
  const head = `${items.length} ${items.length === 1 ? "photograph" : "photographs"}${close ? `, ${close} close ${close === 1 ? "call" : "calls"} to look at` : ""}`;
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">` +
    `<title>Inspection report</title><style>${STYLE}</style></head><body><h1>Inspection report</h1><p class="quiet">${head}. Made by Blemish; a person decides.</p>${parts.join("")}</body></html>`;
}
