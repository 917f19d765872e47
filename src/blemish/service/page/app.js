// The page: connects the controls with the state, and draws the parts.

import { apiKey, getJson, getSamples, RefusedRequest } from "./api.js";
import { byId, fill, h } from "./dom.js";
import { drawDownloads } from "./downloads.js";
import { drawPanel, moreLabelsButton, prepareTabs, whenHeatmapWanted } from "./panel.js";
import { drawQueue } from "./queue.js";
import { drawResults } from "./results_table.js";
import { listenToKeys, showShortcuts } from "./shortcuts.js";
import { changed, currentPhoto, findModel, notify, onChange, state } from "./state.js";
import { chooseLanguage, dateTime, language, languages, setStaticTexts, t } from "./language.js";
import { checkedFor, limitsText, modelCheck, statusText, summarize } from "./text.js";
import { addFiles, isKeyProblem, requestHeatmap, retry, retryAfterKey, sendAllAgain, whenKeyRequired } from "./uploads.js";
import { drawViewer } from "./viewer.js";

const MAX_LABELS = 24; // that the first page shows until all are requested
const RECONNECT_MS = 3000;

function drawHeading() {
  const photo = currentPhoto();
  const summary = byId("summary");
  const byline = byId("byline");
  summary.classList.toggle("failed", Boolean(photo?.problem));
  if (photo?.result) {
    const { model } = photo.result;
    summary.textContent = summarize(photo.result);
    fill(byline, `${photo.name}, ${model}, ${photo.resultTime ? dateTime(photo.resultTime) : ""}. ${checkedFor(model)}`);
  } else if (photo?.problem) {
    const { problem } = photo;
    summary.textContent = problem.title;
    fill(byline, `${photo.name}. ${problem.detail} `,
      h("button", { type: "button", class: "link", "data-key": "retry-here", onclick: () => retry(photo) }, t("retry")),
      problem.request_id && h("span", { class: "block", "data-key": "request" }, t("problem.request", { code: problem.code, id: problem.request_id })));
  } else if (photo) {
    summary.textContent = statusText(photo);
    fill(byline, photo.name);
  }
}

/** @param {ModelDescription} model */
function labelList(model) {
  const shown = state.allLabels ? model.labels : model.labels.slice(0, MAX_LABELS);
  return [
    h("ul", { class: "labels" }, shown.map((l) => h("li", {}, l.display_name))),
    model.labels.length > MAX_LABELS && moreLabelsButton(model.labels.length, shown.length),
  ];
}

function drawModel() {
  const model = findModel(state.model);
  if (!model) {
    fill(byId("about-model"));
    return;
  }
  /** @type {[string, any][]} */
  const facts = [
    [t("about.checksFor"), model.labels.length ? labelList(model) : t("about.onePlace")],
    [t("about.notFor"), t("about.anythingElse")],
    [t("fact.model"), [model.name, model.architecture, model.created && t("about.created", { time: model.created })].filter(Boolean).join(", ")],
    [t("fact.check"), `${modelCheck(model)}${model.certificate ? "" : t("about.notVerified")}`],
    [t("fact.fileId"), model.model_digest.slice(0, 16)],
  ];
  fill(byId("about-model"), h("h2", {}, model.name), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

function drawNotice() {
  const { notice } = state;
  const element = byId("notice");
  element.hidden = !notice;
  element.classList.toggle("info", Boolean(notice?.info));
  fill(element, notice && h("span", { "data-key": "text" }, notice.text),
    notice?.buttonText && h("button", { type: "button", class: "link", "data-key": "button", onclick: notice.onButton }, notice.buttonText));
}

/** @type {typeof import("./inspections/main.js") | null} loaded if the server has a store */
let inspections = null;

function draw() {
  const isElsewhere = Boolean(inspections?.isOpen());
  byId("welcome").hidden = isElsewhere || state.photos.length > 0;
  byId("work").hidden = isElsewhere || state.photos.length === 0;
  for (const id of ["pick", "camera"]) byId(id).hidden = isElsewhere;
  drawNotice();
  if (isElsewhere) return;
  byId("limits").textContent = limitsText(state.limits);
  if (!state.photos.length) {
    drawModel();
    return;
  }
  drawQueue();
  drawResults();
  drawHeading();
  drawViewer();
  drawPanel();
  drawDownloads();
}

function drawModelChoice() {
  const select = byId("model");
  fill(select, state.models.map((m) => h("option", { value: m.name, selected: m.name === state.model }, m.name)));
  select.disabled = state.models.length < 2;
}

async function connect() {
  try {
    const [limits, models] = await Promise.all([getJson("/api/v1/limits"), getJson("/api/v1/models")]);
    state.limits = limits;
    state.models = models.models;
    if (!findModel(state.model)) state.model = models.default;
    drawModelChoice();
    notify(null);
    retryAfterKey();
    if (limits.inspections && !inspections) {
      inspections = await import("./inspections/main.js");
      await inspections.start().catch((error) => {
        inspections = null; // the next attempt starts them again
        throw error;
      });
    }
    if (location.hash === "#samples" && !state.photos.length) addFiles(await getSamples());
  } catch (error) {
    const problem = error instanceof RefusedRequest ? error.problem : null;
    if (problem && isKeyProblem(problem)) {
      askForKey(problem);
    } else {
      notify(error instanceof Error ? error.message : String(error));
      setTimeout(connect, RECONNECT_MS);
    }
  }
}

/** @param {PageProblem} problem */
function askForKey(problem) {
  notify(problem.detail, t("key.enter"), () => askForKey(problem));
  const dialog = byId("api-key");
  if (dialog.open) return;
  // Not a form: the page's policy forbids forms.
  const input = h("input", { id: "key", type: "password", autocomplete: "off", onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && use() });
  const use = () => {
    if (!/^[\x21-\x7e]+$/.test(input.value.trim())) { // a header cannot contain other characters
      input.focus();
      return;
    }
    apiKey.set(input.value.trim());
    dialog.close();
    connect();
  };
  dialog.replaceChildren(
    h("h2", { id: "api-key-title" }, t("key.title")),
    h("p", {}, t(problem.code === "api-key-unknown" ? "key.unknown" : "key.where")),
    h("label", { for: "key" }, t("key.label")),
    input,
    h("p", { class: "quiet" }, t("key.stored")),
    h("div", { class: "row-of-buttons" },
      h("button", { type: "button", class: "primary", onclick: use }, t("key.use")),
      h("button", { type: "button", onclick: () => dialog.close() }, t("key.notNow"))));
  dialog.showModal();
}

/** @param {Iterable<File> | ArrayLike<File>} list */
function addNonEmpty(list) {
  const files = Array.from(list).filter((f) => f.size > 0 || f.type);
  if (files.length && inspections?.isOpen()) inspections.takeFiles(files);
  else if (files.length) addFiles(files);
}

function listenToControls() {
  for (const id of ["pick", "pick-link"]) byId(id).addEventListener("click", () => byId("files").click());
  byId("camera").addEventListener("click", () => byId("camera-file").click());
  byId("show-shortcuts").addEventListener("click", showShortcuts);
  for (const id of ["files", "camera-file"]) {
    byId(id).addEventListener("change", (/** @type {any} */ event) => {
      addNonEmpty(event.target.files);
      event.target.value = "";
    });
  }
  byId("model").addEventListener("change", (/** @type {any} */ event) => {
    state.model = event.target.value;
    state.threshold = null;
    state.finding = null;
    state.tabChosen = false;
    sendAllAgain();
  });
}

function listenToPasteAndDrop() {
  document.addEventListener("paste", (event) => {
    const target = /** @type {Element} */ (event.target);
    if (!target.matches?.("input")) addNonEmpty(event.clipboardData?.files ?? []);
  });
  let depth = 0; // of nested elements that the pointer has entered
  /** @param {boolean} on */
  const showOverlay = (on) => { byId("drop-overlay").hidden = !on; };
  document.addEventListener("dragenter", (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    depth += 1;
    showOverlay(true);
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) showOverlay(false);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    showOverlay(false);
    addNonEmpty(event.dataTransfer?.files ?? []);
  });
}

function drawLanguages() {
  const select = byId("language");
  fill(select, languages.map(({ tag, name }) => h("option", { value: tag, selected: tag === language(), lang: tag }, name)));
  select.addEventListener("change", () => {
    chooseLanguage(select.value);
    setStaticTexts();
    changed();
  });
}

/** Without a store, photos and answers exist only in this page. @param {BeforeUnloadEvent} event */
function warnOfLoss(event) {
  if (state.photos.length) event.preventDefault();
}

setStaticTexts();
drawLanguages();
window.addEventListener("beforeunload", warnOfLoss);
onChange(draw);
whenHeatmapWanted(requestHeatmap);
whenKeyRequired(askForKey);
prepareTabs();
listenToControls();
listenToPasteAndDrop();
listenToKeys();
connect();
