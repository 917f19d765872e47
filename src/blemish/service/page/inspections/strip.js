// The strip of photos: what each shows, and the progress of those that are on their way.

import { h } from "../dom.js";
import { t } from "../language.js";
import { withUnconfirmed } from "./decisions.js";
import { dropUpload, isUploading, retryUpload, uploadsOf } from "./uploads.js";
import { smallUrl } from "./photos.js";
import { current, isUndecided, ofImage, selectImage } from "./state.js";

/** @param {InspectionImage} image */
function statusOf(image) {
  const { findings, inspection, run } = current();
  const mine = ofImage(findings, image.id).map(withUnconfirmed);
  const undecided = mine.filter(isUndecided).length;
  const problems = inspection.summary.image_problems[image.id] ?? [];
  if (inspection.summary.not_inspected.includes(image.id)) return { className: run ? "analyzing" : "waiting", text: t(run ? "strip.analyzing" : "strip.notInspected"), problems };
  if (undecided) return { className: "review", text: t("strip.undecided", { n: undecided }), problems };
  const kept = mine.filter((f) => f.state === "accepted").length;
  return { className: kept ? "found" : "clear", text: kept ? t("strip.findings", { n: kept }) : t("strip.clear"), problems };
}

/** @param {InspectionImage} image */
function tile(image) {
  const open = current();
  const selected = open.imageId === image.id;
  const url = smallUrl(image.id);
  const status = statusOf(image);
  return h("li", { class: `tile ${status.className}${selected ? " selected" : ""}`, "data-key": image.id },
    h("button", { type: "button", "data-key": `tile-${image.id}`, "aria-current": selected ? "true" : null, title: image.file_name, onclick: () => openImage(image) },
      h("span", { class: "tile-photo", "data-key": "photo" }, url && h("img", { src: url, alt: "", "data-key": "img" })),
      h("span", { class: "tile-name" }, image.view || image.file_name || t("photo.unnamed")),
      h("span", { class: "tile-status" }, status.text, status.problems.length > 0 && h("span", { class: "block warn" }, status.problems.map((p) => t(/** @type {any} */ (`quality.${p}`))).join(", ")))));
}

/** @param {Upload} upload */
function uploadTile(upload) {
  const failed = upload.status === "failed";
  return h("li", { class: `tile upload ${upload.status}`, "data-key": upload.id },
    h("span", { class: "tile-name" }, upload.name),
    h("span", { class: "tile-status" }, failed ? upload.problem?.title : t(upload.status === "sending" ? "upload.sending" : "upload.waiting")),
    !failed && h("progress", { max: 1, value: upload.sent, "aria-label": t("upload.progress", { name: upload.name }), "data-key": "progress" }),
    failed && h("span", { class: "tile-status" }, upload.problem?.detail),
    failed && upload.problem?.code !== "conflict.image-exists" && h("button", { type: "button", class: "link", "data-key": "retry", onclick: () => retryUpload(upload) }, t("retry")),
    h("button", { type: "button", class: "link", "data-key": "drop", "aria-label": `${t(failed ? "upload.dismiss" : "dialog.cancel")} ${upload.name}`, onclick: () => dropUpload(upload) }, t(failed ? "upload.dismiss" : "dialog.cancel")));
}

/** Return the strip. */
export function strip() {
  const open = current();
  const uploads = uploadsOf(open.inspection.id);
  const total = open.images.length + uploads.filter(isUploading).length;
  const failed = uploads.filter((u) => u.status === "failed").length;
  return h("nav", { class: "strip", "aria-label": t("strip.title"), "data-key": "strip" },
    uploads.length > 0 && h("p", { class: "strip-progress", "data-key": "progress", role: "status" },
      uploads.some(isUploading) ? t("upload.count", { done: open.images.length, n: total }) : "", failed ? ` ${t("upload.failed", { n: failed })}` : ""),
    open.run && h("p", { class: "strip-progress", "data-key": "run", role: "status" },
      t("run.progress", { model: open.run.model, done: open.run.done, n: open.run.total }),
      h("progress", { max: open.run.total, value: open.run.done, "aria-label": t("run.label"), "data-key": "run-progress" })),
    h("ol", { "data-key": "tiles" }, uploads.map(uploadTile), open.images.map(tile)));
}

/**
 * Show an image and select its first finding that needs a decision.
 * @param {InspectionImage} image
 */
function openImage(image) {
  const open = current();
  if (open.imageId === image.id && open.findingId) return;
  selectImage(image.id);
  const first = ofImage(open.findings, image.id).find((f) => isUndecided(withUnconfirmed(f)));
  if (first) open.findingId = first.id;
}

/** @param {number} offset */
export function stepImage(offset) {
  const open = current();
  const position = open.images.findIndex((i) => i.id === open.imageId);
  const image = open.images[Math.min(Math.max(position + offset, 0), open.images.length - 1)];
  if (!image) return;
  openImage(image);
  queueMicrotask(() => document.querySelector(`[data-key="tile-${image.id}"]`)?.scrollIntoView({ block: "nearest", inline: "nearest" }));
}
