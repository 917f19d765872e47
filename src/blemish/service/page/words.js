// Answers in words, and what counts as found at the threshold in force.

import { modelInfo, state } from "./store.js";

export const CLOSE = 0.1; // a score this near its threshold is a close call: a person should look

export const percent = (score) => `${(100 * score).toFixed(score > 0.995 && score < 1 ? 2 : 1)} %`;
export const share = (value) => `${Math.round(100 * value)} %`;
export const area = (value) => (value < 0.005 ? "< 0.01 %" : `${value.toFixed(value < 1 ? 2 : 1)} %`);
export const moment = (date) => date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
export const title = (text) => text ?? "finding";

// "Glass Crack" reads "glass crack" inside a sentence; "LED" and "C3" stay.
const lower = (text) => text.replace(/(?<![\p{L}\p{N}])\p{Lu}(?=\p{Ll})/gu, (c) => c.toLowerCase());
const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

const IRREGULAR = { glass: "glasses", lens: "lenses", tyre: "tyres", tire: "tires" };

function plural(name) {
  const words = name.split(" ");
  const lastWord = words.at(-1).toLowerCase();
  if (/(shatter|shattered|missing|broken|flat)$/.test(lastWord)) return name; // adjectives stay as they are
  const end = words.at(-1);
  words[words.length - 1] = IRREGULAR[lastWord] ??
    (/(s|x|z|ch|sh)$/.test(lastWord) ? `${end}es` : /[^aeiou]y$/.test(lastWord) ? `${end.slice(0, -1)}ies` : `${end}s`);
  return words.join(" ");
}

function list(parts) {
  return parts.length < 2 ? (parts[0] ?? "") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}

// The score from which a label counts, as the slider or the model says.
export function thresholdOf(result, label) {
  if (state.threshold !== null) return state.threshold;
  return result.labels.find((l) => l.label === label)?.threshold ?? 0.5;
}

export function floorOf(result) {
  return result?.score_floor ?? 0;
}

// The findings that count, best first; [] for models without boxes.
export function findings(result) {
  if (result.task === "localization") return result.objects; // one place, whatever its score
  return (result?.objects ?? []).filter((o) => o.score >= thresholdOf(result, o.label));
}

// What lies just below its threshold: not counted, but shown, as somebody has to look at it.
export function nearMisses(result) {
  return (result.objects ?? []).filter((o) => o.score < thresholdOf(result, o.label) && isClose(result, o));
}

export function isClose(result, item) {
  return result.task !== "localization" && Math.abs(item.score - thresholdOf(result, item.label)) < CLOSE;
}

export function labelHolds(result, item) {
  if (result.task === "classification") return result.labels.every((other) => other.score <= item.score);
  return item.score >= thresholdOf(result, item.label);
}

// What needs a look, and why: close calls on either side of the threshold.
export function closeCalls(result) {
  if (result.task === "classification") {
    const [first, second] = [...result.labels].sort((a, b) => b.score - a.score);
    const unsure = second ? first.score - second.score < 2 * CLOSE : false;
    return unsure || (state.threshold !== null && first.score < state.threshold) ? [first] : [];
  }
  return (result.objects ?? result.labels).filter((one) => isClose(result, one));
}

export function verdict(result) {
  const close = closeCalls(result).length;
  const tail = close ? `; ${close} ${close === 1 ? "needs" : "need"} a look` : "";
  if (result.task === "classification") {
    const best = [...result.labels].sort((a, b) => b.score - a.score)[0];
    return `${best.title}, ${percent(best.score)} sure${close ? "; needs a look" : ""}`;
  }
  if (result.task === "multilabel") {
    const held = result.labels.filter((l) => labelHolds(result, l)).map((l) => l.title);
    const words = held.length ? list(held.map((t, i) => (i ? lower(t) : upper(t)))) : "Nothing found";
    return words + tail;
  }
  if (result.task === "localization") {
    const box = result.objects[0];
    if (!box) return "Nothing found";
    return `${upper(title(box.title))}: ${box.area_percent.toFixed(1)} % of the photograph`;
  }
  const counts = new Map();
  for (const found of findings(result)) counts.set(title(found.title), (counts.get(title(found.title)) ?? 0) + 1);
  if (!counts.size) return `Nothing found${tail}`;
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([t, n]) => `${n} ${n === 1 ? lower(t) : plural(lower(t))}`);
  return list(parts) + tail;
}

const MOST_NAMED = 8;

export function knows(model) {
  const titles = model.labels.map((l) => lower(l.title));
  return titles.length > MOST_NAMED ? list([...titles.slice(0, MOST_NAMED), `${titles.length - MOST_NAMED} more`]) : list(titles);
}

export function cannotSee(name) {
  const model = modelInfo(name);
  if (!model) return "";
  if (model.task === "localization") return "This model marks one place; it cannot see any other, nor what the photograph does not show.";
  const where = { classification: " It says what, not where.", multilabel: " It says what, not where." }[model.task] ?? "";
  return `This model knows only ${knows(model)}; it cannot see anything else, nor what the photograph does not show.${where}`;
}

// What a map shows, for its caption; `map` is that of an answer.
export function mapWords(map) {
  const what = `“${map.title ?? "the place"}”`;
  return map.empty ? `Nothing in this photograph speaks for ${what}, says ${map.model} (${map.method})` : `Where ${map.model} looked for ${what} (${map.method})`;
}

export function proof(model) {
  if (!model?.certificate) return "none in the file";
  return model.certificate.passed ? `passed on ${count(model.certificate.photographs, "photograph")}` : "not passed";
}

export const STAGES = { decoding: "Opening", queued: "In the queue", inferring: "Looking", explaining: "Making the map" };

export function stageWords(item) {
  if (item.status === "waiting") return item.retryIn ? `Server busy, again in ${item.retryIn} s` : "Waiting";
  if (item.status === "sending") return `Sending, ${Math.round(100 * item.sent)} %`;
  if (item.status === "working") {
    const ahead = item.stage === "queued" && item.ahead ? `, ${item.ahead} ahead` : "";
    return (STAGES[item.stage] ?? "Sent") + ahead;
  }
  if (item.status === "cancelled") return "Cancelled";
  if (item.status === "failed") return item.problem.title;
  return item.result ? verdict(item.result) : "";
}

export function limitsWords(limits) {
  if (!limits) return "";
  const size = limits.max_upload_bytes < 2 ** 20 ? `${Math.floor(limits.max_upload_bytes / 2 ** 10)} kB` : `${Math.floor(limits.max_upload_bytes / 2 ** 20)} MB`;
  return `${limits.formats.join(", ")}; up to ${size} and ${Number((limits.max_pixels / 1e6).toPrecision(2))} megapixels each. ` +
    (limits.kept_hours === null ? "Nothing is kept on the server." : `Photographs are kept on the server for ${limits.kept_hours} hours.`);
}
