// The list of photographs: what each is doing, and what can be done about it.

import { byId, fill, h } from "./dom.js";
import { thumbnail } from "./pictures.js";
import { cancel, remove, removeAll, retry, retryAll } from "./sending.js";
import { changed, state } from "./store.js";
import { closeCalls, count, stageWords } from "./words.js";

export function selectPhotograph(id) {
  state.selected = id;
  state.finding = null;
  changed();
}

export function step(by) {
  const place = state.photographs.findIndex((p) => p.id === state.selected);
  const item = state.photographs[Math.min(Math.max(place + by, 0), state.photographs.length - 1)];
  if (!item) return;
  selectPhotograph(item.id);
  document.querySelector(`[data-key="photo-${item.id}"]`)?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// Where the one who removed a photograph goes on: the next one's button, not the top of the page.
export function removeAndStay(item) {
  const place = state.photographs.indexOf(item);
  remove(item);
  const next = state.photographs[Math.min(place, state.photographs.length - 1)];
  queueMicrotask(() => (next ? document.querySelector(`[data-key="photo-${next.id}"]`) : byId("pick"))?.focus());
}

function row(item) {
  const busy = ["waiting", "sending", "working"].includes(item.status);
  const failed = item.status === "failed" || item.status === "cancelled";
  const words = stageWords(item);
  const act = (key, text, does) => h("button", { type: "button", class: "link", "data-key": `${key}-${item.id}`, "aria-label": `${text} ${item.name}`, onclick: does }, text);
  return h("li", { class: `photo ${item.status}${state.selected === item.id ? " selected" : ""}`, "data-key": `row-of-${item.id}` },
    h("button", {
      type: "button",
      class: "face",
      "data-key": `photo-${item.id}`,
      "aria-current": state.selected === item.id ? "true" : null,
      onclick: () => selectPhotograph(item.id),
    },
      thumbnail(item),
      h("span", { class: "what" }, h("span", { class: "name", title: item.name }, item.name), h("span", { class: "status" }, words))),
    busy
      ? act("cancel", "Cancel", () => cancel(item))
      : h("button", { type: "button", class: "cross", "data-key": `remove-${item.id}`, "aria-label": `Remove ${item.name}`, title: "Remove", onclick: () => removeAndStay(item) }, "×"),
    failed && act("retry", "Retry", () => retry(item)),
    item.status === "sending" && h("progress", { "data-key": "sending", max: 1, value: item.sent, "aria-label": `Sending ${item.name}` }),
    item.status === "working" && h("progress", { "data-key": "working", "aria-label": `${item.name}: ${words}` }));
}

export function drawQueue() {
  const all = state.photographs;
  const done = all.filter((p) => p.status === "done");
  const failed = all.filter((p) => p.status === "failed").length;
  const close = done.filter((p) => closeCalls(p.result).length).length;
  const parts = [count(all.length, "photograph"), `${done.length} done`];
  if (failed) parts.push(`${failed} failed`);
  if (close) parts.push(`${close} to look at`);
  fill(byId("batch"),
    `${parts.join(", ")}. `,
    failed > 1 && h("button", { type: "button", class: "link", "data-key": "retry-all", onclick: retryAll }, "Retry all"),
    all.length > 1 && h("button", { type: "button", class: "link", "data-key": "remove-all", onclick: () => { removeAll(); byId("pick").focus(); } }, "Remove all"));
  fill(byId("queue"), all.map(row));
}
