// The page: what comes in, and which part draws what.

import { get, key } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { drawDownloads } from "./downloads.js";
import { listenToKeys, showKeys } from "./keys.js";
import { drawPanel, moreLabels, onMapWanted, prepareTabs } from "./panel.js";
import { drawQueue } from "./queue.js";
import { add, again, explain, onKey, retry, retryKeyless } from "./sending.js";
import { changed, current, modelInfo, notify, onChange, state } from "./store.js";
import { drawViewer } from "./viewer.js";
import { cannotSee, count, limitsWords, moment, proof, stageWords, verdict } from "./words.js";

function drawHead() {
  const item = current();
  const line = byId("verdict");
  line.classList.toggle("failed", Boolean(item?.problem));
  if (item?.result) {
    line.textContent = verdict(item.result);
    fill(byId("byline"), `${item.name}, ${item.result.model}, ${moment(item.when)}. ${cannotSee(item.result.model)}`);
  } else if (item?.problem) {
    line.textContent = item.problem.title;
    fill(byId("byline"), `${item.name}. ${item.problem.detail} `,
      h("button", { type: "button", class: "link", "data-key": "retry-here", onclick: () => retry(item) }, "Retry"),
      item.problem.request_id && h("span", { class: "block", "data-key": "request" }, `For your administrator: ${item.problem.code}, request ${item.problem.request_id}`));
  } else if (item) {
    line.textContent = stageWords(item);
    fill(byId("byline"), item.name);
  }
}

const MOST_LABELS = 24; // that stand on the first page unless somebody asks for all

function labels(model) {
  const shown = state.allLabels ? model.labels : model.labels.slice(0, MOST_LABELS);
  return [h("ul", { class: "labels" }, shown.map((l) => h("li", {}, l.title))), model.labels.length > MOST_LABELS && moreLabels(model.labels.length, shown.length)];
}

function drawAbout() {
  const model = modelInfo(state.model);
  if (!model) {
    fill(byId("about-model"));
    return;
  }
  const facts = [
    ["Looks for", model.labels.length ? labels(model) : "one place"],
    ["Cannot see", "Anything else, and what the photograph does not show."],
    ["Model", `${model.run || model.name}, ${model.architecture}${model.created ? `, made ${model.created}` : ""}`],
    ["File", model.model_digest.slice(0, 16)],
    ["Parity check", `${proof(model)}${model.certificate ? "" : "; whether it decides as the network it came from is not proved"}`],
  ];
  fill(byId("about-model"), h("h2", {}, model.name), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function drawNotice() {
  const notice = state.notice;
  byId("notice").hidden = !notice;
  byId("notice").classList.toggle("calm", Boolean(notice?.calm));
  fill(byId("notice"), notice && h("span", { "data-key": "words" }, notice.text),
    notice?.act && h("button", { type: "button", class: "link", "data-key": "act", onclick: notice.does }, notice.act));
}

function draw() {
  byId("welcome").hidden = state.photographs.length > 0;
  byId("work").hidden = state.photographs.length === 0;
  drawNotice();
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
    const [limits, answer] = await Promise.all([get("/api/v1/limits"), get("/api/v1/models")]);
    state.limits = limits;
    state.models = answer.models;
    if (!modelInfo(state.model)) state.model = answer.default;
    drawModels();
    notify(null);
    retryKeyless();
  } catch (refused) {
    if (isAboutKey(refused.problem)) {
      askForKey(refused.problem);
    } else {
      notify(refused.message);
      setTimeout(begin, 3000);
    }
  }
}

const isAboutKey = (problem) => problem?.code === "key_missing" || problem?.code === "key_unknown";

function askForKey(problem) {
  notify(problem.detail, "Enter the key", () => askForKey(problem));
  const dialog = byId("api-key");
  if (dialog.open) return;
  // No form: the page's policy lets none be sent anywhere.
  const input = h("input", { id: "key", type: "password", autocomplete: "off", onkeydown: (event) => event.key === "Enter" && use() });
  const use = () => {
    if (!/^[\x21-\x7e]+$/.test(input.value.trim())) { // no header can carry other characters
      input.focus();
      return;
    }
    key.set(input.value.trim());
    dialog.close();
    begin();
  };
  dialog.replaceChildren(
    h("h2", { id: "api-key-title" }, "This server asks for a key"),
    h("p", {}, problem.code === "key_unknown" ? "The server does not know the key that was sent. Check it, and enter it again." : "Whoever runs the server can give you one."),
    h("label", { for: "key" }, "API key"),
    input,
    h("p", { class: "quiet" }, "It is kept for this tab only, and forgotten when you close it."),
    h("div", { class: "row-of-buttons" },
      h("button", { type: "button", class: "primary", onclick: use }, "Use it"),
      h("button", { type: "button", onclick: () => dialog.close() }, "Not now")));
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
    state.tabChosen = false;
    again();
  });
  document.addEventListener("paste", (event) => {
    if (!event.target.matches?.("input")) files(event.clipboardData?.files ?? []);
  });
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
