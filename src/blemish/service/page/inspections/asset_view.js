// The history of an asset: its inspections, the newest first, with what changed.

import { h } from "../dom.js";
import { date, number, t, tValue } from "../language.js";
import { openCreateDialog } from "./create_dialog.js";
import { labelText } from "./labels.js";
import { mayWrite } from "./list_view.js";
import { smallUrl } from "./photos.js";
import { compareAddress, inspectionAddress, LIST_ADDRESS } from "./router.js";
import { store } from "./state.js";

/** @param {Record<string, number>} counts */
const damagesText = (counts) => Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([label, n]) => `${number(n)} × ${labelText(label)}`).join(", ");

/** @param {InspectionOverview} item @param {AssetSummary | undefined} summary */
function entry(item, summary) {
  const url = item.cover_image_id && smallUrl(item.cover_image_id);
  const changes = summary?.comparison?.changes ?? [];
  const kinds = ["new", "worsened", "pre-existing", "repaired", "unknown"].filter((kind) => changes.some((c) => c.change === kind));
  return h("li", { class: "history-entry", "data-key": item.id },
    h("span", { class: "history-cover", "data-key": "cover" }, url && h("img", { src: url, alt: "", "data-key": "img" })),
    h("div", { class: "history-text", "data-key": "text" },
      h("p", { class: "history-date" }, h("a", { href: inspectionAddress(item.id), "data-key": `open-${item.id}` }, date(item.created_at)), h("span", { class: "quiet" }, ` ${[tValue("phase", item.phase), item.kind].filter(Boolean).join(" · ")}`)),
      h("p", { class: "history-decision" }, summary ? tValue("decision", summary.decision) : "…", summary && Object.keys(summary.counts).length > 0 && `: ${damagesText(summary.counts)}`),
      h("p", { class: "quiet" }, [
        t("history.photos", { n: item.images }),
        summary?.worst_severity && t("history.worst", { level: summary.worst_severity }),
        item.open_findings > 0 && t("list.undecided", { n: item.open_findings }),
        item.status === "closed" && t("list.closed"),
      ].filter(Boolean).join(" · ")),
      kinds.length > 0 && h("p", { class: "changes" }, kinds.map((kind) => h("span", { class: `change ${kind}` }, `${number(changes.filter((c) => c.change === kind).length)} ${tValue("change", kind)}`)))),
    item.previous_id && h("a", { class: "button", href: compareAddress(item.id), "data-key": "compare" }, t("inspection.compare")));
}

/** Return the view. */
export function assetView() {
  const open = store.asset;
  if (!open) return h("div", { class: "page-width", "data-key": "asset-loading" }, !store.problem && h("p", { class: "quiet" }, t("loading")));
  const { asset, inspections, summaries } = open;
  const attributes = Object.entries(asset.attributes);
  return h("div", { class: "page-width", "data-key": "asset" },
    h("p", { class: "crumbs", "data-key": "crumbs" }, h("a", { href: LIST_ADDRESS, "data-key": "to-list" }, t("list.title")), h("span", { "aria-hidden": "true" }, " / "), tValue("kind", asset.kind)),
    h("div", { class: "view-head", "data-key": "head" },
      h("h2", { class: "view-title" }, asset.reference),
      h("span", { class: "quiet" }, t("asset.inspections", { n: inspections.length })),
      h("span", { class: "grow" }),
      mayWrite() && h("button", { type: "button", class: "primary", "data-key": "inspect-again", onclick: () => openCreateDialog({ asset, previousId: inspections[0]?.id }) }, t("asset.again"))),
    attributes.length > 0 && h("dl", { class: "facts", "data-key": "facts" }, attributes.map(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))])),
    h("ol", { class: "asset-history", "data-key": "history" }, inspections.map((item) => entry(item, summaries[item.id]))));
}
