// The open photo with the outlines of its findings, and with the edit in progress.

import { paletteColor } from "../colors.js";
import { h, s } from "../dom.js";
import { number, t, tValue } from "../language.js";
import { badge, findingOutline, outlinePath, placeBadges } from "../outlines.js";
import { changed } from "../state.js";
import { Zoom } from "../zoom.js";
import { withUnconfirmed } from "./decisions.js";
import { writeDraft } from "./drafts.js";
import { labelNames, labelText } from "./labels.js";
import { drawEdit, editHandlers } from "./outline_editor.js";
import { hasFailed, largeUrl, prefetch, smallUrl } from "./photos.js";
import { current, currentImage, effective, numberOf, ofImage, selectFinding } from "./state.js";

/** @type {string | null} */
let drawnImage = null;
const element = () => /** @type {SVGSVGElement | null} */ (document.querySelector("#inspection-image"));
export const viewport = new Zoom(applyView);

/** Show what `viewport` describes; numbers and handles keep their size. */
export function applyView() {
  const svg = element();
  if (!svg || !viewport.size) return;
  svg.setAttribute("viewBox", viewport.viewBox);
  svg.classList.toggle("zoomed", viewport.view !== null);
  placeBadges(svg);
  const unit = 1 / (svg.getScreenCTM()?.a || 1);
  for (const handle of svg.querySelectorAll(".handle")) {
    const [x, y] = (handle.getAttribute("data-at") ?? "0,0").split(",");
    handle.setAttribute("transform", `translate(${x} ${y}) scale(${unit})`);
  }
}

/** Return the number of image pixels in a pixel of the screen, at least 1. */
export const pixelStep = () => Math.max(1, Math.round(1 / (element()?.getScreenCTM()?.a || 1)));

/** @param {string} label */
export const colorOf = (label) => paletteColor(labelNames().indexOf(label));

/** @param {string} id @param {boolean} on */
export function hover(id, on) {
  for (const one of document.querySelectorAll(`[data-finding="${id}"]`)) one.classList.toggle("hover", on);
}

/** @param {StoredFinding} finding */
function outline(finding) {
  const { id, state } = finding;
  const values = effective(finding);
  const d = outlinePath(values);
  if (!d) return null;
  const selected = current().findingId === id;
  const text = `${numberOf(finding)}. ${labelText(values.label)}, ${tValue("state", state)}${finding.score === null ? "" : `, ${number(finding.score, { style: "percent" })}`}`;
  return findingOutline({
    id,
    d,
    text,
    color: colorOf(values.label),
    classes: `finding ${state}${selected ? " selected" : ""}`,
    selected,
    onselect: () => selectFinding(finding),
    isDrag: () => viewport.moved,
    onhover: (on) => hover(id, on),
  });
}

/** Show the selected finding in the center, unless it is large already. */
export function zoomToFinding() {
  const open = current();
  const finding = open.findings.find((f) => f.id === open.findingId);
  const box = finding && effective(finding).box_xyxy;
  if (box) viewport.zoomTo(box);
}

/** @param {InspectionImage} image */
function photo(image) {
  const open = current();
  const size = { w: image.width, h: image.height };
  viewport.setImage(size, image.id !== drawnImage);
  drawnImage = image.id;
  const position = open.images.indexOf(image);
  const url = largeUrl(image) ?? smallUrl(image.id);
  prefetch(open.images[position + 1]);
  const shown = ofImage(open.findings, image.id).map(withUnconfirmed);
  const area = (/** @type {StoredFinding} */ f) => f.area_share ?? 1;
  const sorted = [...shown].sort((a, b) => area(b) - area(a)); // the smallest on top, so that each can be reached
  const edit = open.edit?.imageId === image.id && open.edit.kind !== "note" ? open.edit : null;
  const onEdit = () => {
    writeDraft(open.inspection.id, open.edit);
    changed();
  };
  const visible = sorted.filter((f) => f.id !== edit?.findingId);
  const zoom = viewport.handlers();
  return s("svg", {
    id: "inspection-image",
    class: `photo-image${viewport.view ? " zoomed" : ""}${edit ? " editing" : ""}`,
    role: "group",
    tabindex: -1, // edits by keys move the focus here
    "aria-label": image.file_name || t("photo.unnamed"),
    viewBox: viewport.viewBox,
    preserveAspectRatio: "xMidYMid meet",
    "data-key": "open-photo",
    ...(edit ? editHandlers(edit, size, /** @type {any} */ (zoom), onEdit) : zoom),
  },
    url && s("image", { href: url, width: size.w, height: size.h, preserveAspectRatio: "none", "data-key": "pixels" }),
    s("g", { class: "outlines", "data-key": "outlines" }, visible.map(outline)),
    s("g", { class: "badges", "data-key": "badges" }, visible.filter((f) => outlinePath(effective(f))).map((f) => badge(numberOf(f), /** @type {any} */ (effective(f))))),
    edit && drawEdit(edit));
}

/** Return the viewer. */
export function viewer() {
  const image = currentImage();
  if (!image) return h("div", { class: "viewer inspection-viewer", "data-key": "viewer" });
  const button = (/** @type {string} */ key, /** @type {string} */ text, /** @type {string} */ label, /** @type {() => void} */ onclick) =>
    h("button", { type: "button", "data-key": key, onclick, "aria-label": label, title: label }, text);
  return h("div", { class: "viewer inspection-viewer", "data-key": "viewer" },
    photo(image),
    hasFailed(image) && h("p", { class: "quiet empty over", "data-key": "failed" }, t("photo.failed")),
    h("div", { class: "tools", role: "group", "aria-label": t("zoom.group"), "data-key": "tools" },
      button("zoom-in", "+", t("zoom.in"), () => viewport.zoom(1 / 1.5)),
      button("zoom-out", "−", t("zoom.out"), () => viewport.zoom(1.5)),
      button("zoom-fit", t("zoom.fit"), t("zoom.fitPhoto"), () => viewport.fit())));
}
