// The page: what comes in, and which part draws what.

import { get, key } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { drawDownloads } from "./downloads.js";
import { listenToKeys, showKeys } from "./keys.js";
import { drawPanel, onMapWanted, prepareTabs } from "./panel.js";
import { drawQueue } from "./queue.js";
import { add, again, explain, onKey, retry } from "./sending.js";
import { changed, current, modelInfo, onChange, state } from "./store.js";
import { drawViewer } from "./viewer.js";
import { cannotSee, count, limitsWords, stageWords, verdict } from "./words.js";

function drawHead() {
  const item = current();
  const line = byId("verdict");
  line.classList.toggle("failed", Boolean(item?.problem));
  if (item?.result) {
    line.textContent = verdict(item.result);
    fill(byId("byline"), `${item.name} · ${item.result.model} · ${item.when.toLocaleString()}`, h("br"), cannotSee(item.result.model));
  } else if (item?.problem) {
    line.textContent = item.problem.title;
    fill(byId("byline"), `${item.name}. ${item.problem.detail} `, h("button", { type: "button", class: "link", "data-key": "retry-here", onclick: () => retry(item) }, "Retry"));
  } else if (item) {
    const words = stageWords(item);
    line.textContent = words[0].toUpperCase() + words.slice(1);
    fill(byId("byline"), item.name);
  }
}

function drawAbout() {
  const model = modelInfo(state.model);
  const parent = byId("about-model");
  if (!model) {
    fill(parent);
    return;
  }
  fill(parent,
    h("h2", {}, model.name),
    h("p", {}, `Looks for ${count(model.labels.length, "label")}:`),
    h("ul", { class: "labels" }, model.labels.map((l) => h("li", {}, l.title))),
    h("p", { class: "quiet" }, cannotSee(model.name)),
    h("p", { class: "quiet" }, `${model.architecture}, file ${model.model_digest.slice(0, 12)}. ` +
      (model.certificate ? (model.certificate.passed ? `Proved against the network it came from on ${count(model.certificate.photographs, "photograph")}.` : "It did not pass its parity check.") : "It carries no parity certificate.")));
}

function draw() {
  byId("welcome").hidden = state.photographs.length > 0;
  byId("work").hidden = state.photographs.length === 0;
  byId("notice").hidden = !state.notice;
  byId("notice").textContent = state.notice ?? "";
  byId("limits").textContent = limitsWords(state.limits);
  if (!state.photographs.length) {
    drawAbout();
    return;
  }
  drawQueue();
  drawHead();
  drawViewer();
  drawPanel();
  drawDownloads();
}

function drawModels() {
  const select = byId("model");
  fill(select, state.models.map((m) => h("option", { value: m.name, selected: m.name === state.model }, m.name)));
  select.disabled = state.models.length < 2;
}

async function begin() {
  try {
    state.limits = await get("/api/v1/limits");
    const answer = await get("/api/v1/models");
    state.models = answer.models;
    state.model = answer.default;
    state.notice = null;
    drawModels();
  } catch (refused) {
    if (refused.problem?.code === "key_missing" || refused.problem?.code === "key_unknown") askForKey(refused.problem);
    state.notice = refused.message;
    setTimeout(begin, 3000);
  }
  changed();
}

function askForKey(problem) {
  const dialog = byId("api-key");
  if (dialog.open) return;
  const input = h("input", { id: "key", type: "password", autocomplete: "off", required: true });
  fill(dialog,
    h("h2", { id: "api-key-title" }, "This server asks for a key"),
    h("p", {}, problem.detail),
    h("form", { method: "dialog", onsubmit: () => { key.set(input.value.trim()); begin(); } },
      h("label", { for: "key" }, "API key"), input, h("button", { class: "primary" }, "Use it")),
    h("p", { class: "quiet" }, "It is kept for this tab only."));
  dialog.showModal();
}

function files(list) {
  const found = [...list].filter((f) => f.size > 0 || f.type);
  if (found.length) add(found);
}

function listen() {
  for (const id of ["pick", "pick-too"]) byId(id).addEventListener("click", () => byId("files").click());
  byId("camera").addEventListener("click", () => byId("shot").click());
  byId("show-keys").addEventListener("click", showKeys);
  for (const id of ["files", "shot"]) {
    byId(id).addEventListener("change", (event) => {
      files(event.target.files);
      event.target.value = "";
    });
  }
  byId("model").addEventListener("change", (event) => {
    state.model = event.target.value;
    state.threshold = null;
    state.finding = null;
    again();
  });
  document.addEventListener("paste", (event) => files(event.clipboardData?.files ?? []));
  let depth = 0;
  const over = (on) => (byId("over").hidden = !on);
  document.addEventListener("dragenter", (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    depth += 1;
    over(true);
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) over(false);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    over(false);
    files(event.dataTransfer?.files ?? []);
  });
}

onChange(draw);
onMapWanted(explain);
onKey(askForKey);
prepareTabs();
listen();
listenToKeys();
begin();
