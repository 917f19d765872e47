// The report: one HTML file with its pictures in it, for screens and for A4 or Letter paper.

import { colourOf } from "./colours.js";
import { modelInfo } from "./store.js";
import { area, cannotSee, closeCalls, findings, isClose, labelHolds, mapWords, moment, nearMisses, percent, proof, share, thresholdOf, title, verdict } from "./words.js";

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const text = (value) => String(value).replace(/[&<>"']/g, (c) => escapes[c]);

const STYLE = `
:root { color-scheme: light; }
body { font: 15px/1.45 -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; color: #1b1f24; background: #fff; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.1rem; margin: 0; } h2 { font-size: 1.35rem; line-height: 1.2; margin: .25rem 0; }
article { border-top: 2px solid #1b1f24; padding: 1rem 0 1.5rem; }
img { max-width: 100%; max-height: 14cm; display: block; } figure { margin: .75rem 0; } figcaption { margin-top: .2rem; }
.pair { display: flex; flex-wrap: wrap; gap: 0 1rem; } .pair figure { flex: 0 1 auto; max-width: 100%; } .pair .map { flex: 1 1 6cm; max-width: 9cm; }
.halves { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #d5d9de; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.quiet { color: #555e68; font-size: .85rem; margin: .4rem 0; overflow-wrap: anywhere; } thead { display: table-header-group; }
.swatch { display: inline-block; width: .7rem; height: .7rem; border: 1px solid #1b1f24; margin-right: .45rem; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.decision { display: grid; grid-template-columns: 2fr 1fr 1fr; gap: 1rem; margin-top: 2.2rem; } .decision span { border-top: 1px solid #1b1f24; font-size: .85rem; color: #555e68; }
tr, figure, .signed { break-inside: avoid; } article + article { break-before: page; }
@page { margin: 14mm; } @media print { body { margin: 0; max-width: none; padding: 0; font-size: 10pt; } img { max-height: 9cm; } figure { margin: .5rem 0; } th, td { padding-top: .15rem; padding-bottom: .15rem; } article { padding: .4rem 0 0; } .decision { margin-top: 1.6rem; } }
`;

function table(result) {
  if (result.objects) {
    const row = (o, words) => `<tr><td class="n">${o.id}</td><td><span class="swatch" style="background:${colourOf(result, o.label)}"></span>${text(title(o.title))}${words}</td>` +
      `<td class="n">${percent(o.score)}</td><td class="n">${share(thresholdOf(result, o.label))}</td><td class="n">${area(o.area_percent)}</td></tr>`;
    const rows = [
      ...findings(result).map((o) => row(o, isClose(result, o) ? " (needs a look)" : "")),
      ...nearMisses(result).map((o) => row(o, " (below the threshold, not counted; needs a look)")),
    ];
    if (!rows.length) return "<p>No finding reaches its threshold.</p>";
    return `<table><thead><tr><th class="n">No.</th><th>Type</th><th class="n">Score</th><th class="n">Threshold</th><th class="n">Area</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }
  const rows = [...result.labels].sort((a, b) => b.score - a.score).map((l) => `<tr><td>${text(l.title)}</td><td class="n">${percent(l.score)}</td>` +
    `<td class="n">${result.task === "classification" ? "" : share(thresholdOf(result, l.label))}</td><td>${labelHolds(result, l) ? "yes" : "no"}</td></tr>`);
  return `<table><thead><tr><th>Label</th><th class="n">Score</th><th class="n">Threshold</th><th>Verdict</th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

// The photograph, and the map where one was made: as large as it, or smaller than one with outlines to be read.
function figures(item, pictures) {
  const map = item.map;
  const caption = map && `<figcaption class="quiet">${text(mapWords(map))}. ${map.empty ? "The map is empty." : "A map shows what moved the score, not the outline of the damage."}</figcaption>`;
  const one = pictures.photograph
    ? `<figure><img alt="The photograph${item.result.objects ? " with the findings outlined" : ""}" src="${pictures.photograph}">${map?.empty ? caption : ""}</figure>`
    : "<p class=\"quiet\">The photograph cannot be shown by this browser.</p>";
  if (!pictures.map) return one;
  const other = `<figure class="map"><img alt="The same photograph under the map" src="${pictures.map}">${caption}</figure>`;
  return `<div class="${item.result.objects ? "pair" : "halves"}">${one}${other}</div>`;
}

export function reportPage(items, pictures) {
  const parts = items.map((item, i) => {
    const result = item.result;
    const model = modelInfo(result.model);
    return `<article><p class="quiet">${text(item.name)}, ${text(moment(item.when))}, ${result.size_hw[1]} × ${result.size_hw[0]} px</p>` +
      `<h2>${text(verdict(result))}</h2>` +
      figures(item, pictures[i]) +
      table(result) +
      `<div class="signed"><p class="quiet">${text(cannotSee(result.model))}</p>` +
      `<p class="quiet">Model ${text(result.model_version)}, ${text(model?.architecture ?? "")}; file ${text(result.model_digest)}; parity check ${proof(model)}${model?.created ? `; made ${text(model.created)}` : ""}. ` +
      `Photograph SHA-256 ${text(result.sha256)}.</p>` +
      `<div class="decision"><span>Decision</span><span>Name</span><span>Date</span></div></div></article>`;
  });
  const close = items.reduce((sum, item) => sum + closeCalls(item.result).length, 0);
  const head = `${items.length} ${items.length === 1 ? "photograph" : "photographs"}${close ? `, ${close} close ${close === 1 ? "call" : "calls"} to look at` : ""}`;
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">` +
    `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">` +
    `<title>Inspection report</title><style>${STYLE}</style></head><body><h1>Inspection report</h1><p class="quiet">${head}. Made by Blemish; a person decides.</p>${parts.join("")}</body></html>`;
}
