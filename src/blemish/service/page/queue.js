// The list of photographs: what each is doing, and what can be done about it.

import { byId, fill, h } from "./dom.js";
import { cancel, remove, retry, retryAll } from "./sending.js";
import { changed, state } from "./store.js";
import { count, stageWords } from "./words.js";

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

function row(item) {
  const busy = ["waiting", "sending", "working"].includes(item.status);
  const failed = item.status === "failed" || item.status === "cancelled";
  const words = stageWords(item);
  return h("li", { class: `photo ${item.status}${state.selected === item.id ? " selected" : ""}` },
    h("button", {
      type: "button",
      class: "face",
      "data-key": `photo-${item.id}`,
      "aria-current": state.selected === item.id ? "true" : null,
      onclick: () => selectPhotograph(item.id),
    },
      h("img", { src: item.shown ?? item.url, alt: "", loading: "lazy" }),
      h("span", { class: "what" }, h("span", { class: "name", title: item.name }, item.name), h("span", { class: "status" }, words))),
    item.status === "sending" && h("progress", { max: 1, value: item.sent, "aria-label": `Sending ${item.name}` }),
    item.status === "working" && h("progress", { "aria-label": `${item.name}: ${words}` }),
    h("span", { class: "acts" },
      busy && h("button", { type: "button", class: "link", "data-key": `cancel-${item.id}`, "aria-label": `Cancel ${item.name}`, onclick: () => cancel(item) }, "Cancel"),
      failed && h("button", { type: "button", class: "link", "data-key": `retry-${item.id}`, "aria-label": `Retry ${item.name}`, onclick: () => retry(item) }, "Retry"),
      !busy && h("button", { type: "button", class: "link", "data-key": `remove-${item.id}`, "aria-label": `Remove ${item.name}`, onclick: () => remove(item) }, "Remove")));
}

export function drawQueue() {
  const all = state.photographs;
  const done = all.filter((p) => p.status === "done").length;
  const failed = all.filter((p) => p.status === "failed").length;
  fill(byId("batch"),
    `${count(all.length, "photograph")}, ${done} done${failed ? `, ${failed} failed` : ""}`,
    failed > 1 && h("button", { type: "button", class: "link", "data-key": "retry-all", onclick: retryAll }, "Retry all"));
  fill(byId("queue"), all.map(row));
}
