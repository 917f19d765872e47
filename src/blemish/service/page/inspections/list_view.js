// The list of inspections, those that need a review first.

import { h } from "../dom.js";
import { date, dateTime, number, t, tValue } from "../language.js";
import { changed } from "../state.js";
import { openCreateDialog } from "./create_dialog.js";
import { hint } from "./finding_panel.js";
import { loadList } from "./loading.js";
import { smallUrl } from "./photos.js";
import { inspectionAddress } from "./router.js";
import { store } from "./state.js";

const TYPING_MS = 250;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing;

/** @type {Record<string, (i: InspectionOverview) => string | number>} the store sorts by "review" */
const SORT_KEYS = {
  reference: (i) => i.asset.reference,
  images: (i) => -i.images,
  open: (i) => -i.open_findings,
  updated: (i) => i.updated_at,
};

/** @param {InspectionOverview} item */
function statusOf(item) {
  if (item.status === "closed") return { className: "closed", text: t("list.closed") };
  if (item.open_findings) return { className: "review", text: t("list.undecided", { n: item.open_findings }) };
  if (item.needs_review) return { className: "waiting", text: t(item.images ? "list.notInspected" : "list.noPhotos") };
  return { className: "done", text: item.decided_findings ? t("list.decided", { n: item.decided_findings }) : t("list.nothingFound") };
}

/** @param {InspectionOverview} item */
function row(item) {
  const url = item.cover_image_id && smallUrl(item.cover_image_id);
  const status = statusOf(item);
  const open = () => { location.hash = inspectionAddress(item.id); };
  return h("tr", { "data-key": item.id, class: status.className, onclick: open },
    h("td", { class: "cover" }, url ? h("img", { src: url, alt: "", "data-key": "cover" }) : h("span", { class: "no-cover", "aria-hidden": "true", "data-key": "cover-none" })),
    h("td", {},
      h("a", { href: inspectionAddress(item.id), class: "reference", "data-key": `open-${item.id}` }, item.asset.reference),
      h("span", { class: "block quiet" }, [tValue("kind", item.asset.kind), item.kind].filter(Boolean).join(", "))),
    h("td", {}, h("span", { class: `status-text ${status.className}` }, status.text)),
    h("td", { class: "wide" }, tValue("phase", item.phase)),
    h("td", { class: "number" }, number(item.images)),
    h("td", { class: "wide" }, h("time", { datetime: item.updated_at, title: dateTime(item.updated_at) }, date(item.updated_at))));
}

function filters() {
  const { filter } = store.list;
  const kinds = store.settings?.asset_kinds ?? [];
  const load = () => { changed(); loadList(); };
  const shows = /** @type {const} */ (["open", "review", "closed", "all"]);
  return h("div", { class: "list-filters", role: "search", "data-key": "filters" },
    h("label", { class: "search" }, h("span", { class: "screen-reader" }, t("list.search")),
      h("input", {
        type: "search", id: "list-search", "data-key": "list-search", placeholder: t("list.search"), value: filter.reference,
        oninput: (/** @type {any} */ event) => {
          filter.reference = event.target.value;
          clearTimeout(typing);
          typing = setTimeout(load, TYPING_MS);
        },
      }), hint("/")),
    h("div", { class: "segments", role: "group", "aria-label": t("list.show"), "data-key": "show" }, shows.map((show) =>
      h("button", { type: "button", "data-key": `show-${show}`, "aria-pressed": String(filter.show === show), onclick: () => { filter.show = show; load(); } }, t(`list.show.${show}`)))),
    h("label", { "data-key": "kind" }, h("span", { class: "screen-reader" }, t("list.kind")),
      h("select", { "data-key": "list-kind", onchange: (/** @type {any} */ event) => { filter.kind = event.target.value; load(); } },
        h("option", { value: "", selected: !filter.kind }, t("list.allKinds")),
        kinds.map((kind) => h("option", { value: kind, selected: filter.kind === kind }, tValue("kind", kind))))),
    h("label", { class: "sort-choice", "data-key": "sort" }, h("span", { class: "quiet" }, t("list.sort")),
      h("select", { "data-key": "list-sort", onchange: (/** @type {any} */ event) => { store.list.sort = event.target.value; changed(); } },
        ["review", ...Object.keys(SORT_KEYS)].map((key) => h("option", { value: key, selected: store.list.sort === key }, t(/** @type {any} */ (`list.sort.${key}`)))))));
}

function sorted() {
  const key = SORT_KEYS[store.list.sort];
  const items = store.list.items ?? [];
  if (!key) return items;
  const sign = store.list.sort === "updated" ? -1 : 1;
  return [...items].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return sign * (typeof x === "string" ? x.localeCompare(String(y)) : Number(x) - Number(y));
  });
}

export const mayWrite = () => !store.settings || store.settings.scopes.includes("write") || store.settings.scopes.includes("admin");

/** Return the view. */
export function listView() {
  const { items, cursor, filter } = store.list;
  const isFiltered = Boolean(filter.reference || filter.kind || filter.show !== "open");
  return h("div", { class: "page-width", "data-key": "list" },
    h("div", { class: "view-head", "data-key": "head" },
      h("h2", { class: "view-title" }, t("list.title")),
      h("span", { class: "grow" }),
      mayWrite() && h("button", { type: "button", class: "primary", "data-key": "new-inspection", onclick: () => openCreateDialog() }, t("list.new"), hint("n"))),
    filters(),
    items === null && !store.problem && h("p", { class: "quiet", "data-key": "loading" }, t("loading")),
    items?.length === 0 && h("div", { class: "empty-list", "data-key": "empty" },
      h("p", { class: "lead" }, t(isFiltered ? "list.emptyFiltered" : "list.empty")),
      !isFiltered && h("p", { class: "quiet" }, t("list.emptyHelp"))),
    items !== null && items.length > 0 && h("table", { class: "inspection-list", "data-key": "table" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, h("span", { class: "screen-reader" }, t("list.cover"))), h("th", { scope: "col" }, t("list.asset")), h("th", { scope: "col" }, t("list.status")),
        h("th", { scope: "col", class: "wide" }, t("list.phase")), h("th", { scope: "col", class: "number" }, t("list.images")), h("th", { scope: "col", class: "wide" }, t("list.updated")))),
      h("tbody", { "data-key": "rows" }, sorted().map(row))),
    cursor && h("button", { type: "button", "data-key": "more", onclick: () => loadList({ more: true }) }, t("list.more")));
}
