// Answers in words, and what counts as found at the threshold in force.

import { modelInfo, state } from "./store.js";

export const CLOSE = 0.1; // a score this near its threshold is a close call: a person should look

export const percent = (score) => `${(100 * score).toFixed(score > 0.995 && score < 1 ? 2 : 1)} %`;
export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
export const title = (text) => text ?? "finding";

const lower = (text) => (/^[A-Z][a-z]/.test(text) ? text[0].toLowerCase() + text.slice(1) : text);

const IRREGULAR = { glass: "glasses", lens: "lenses", tyre: "tyres", tire: "tires" };

function plural(name) {
  const words = name.split(" ");
  const lastWord = words.at(-1).toLowerCase();
  if (/(shatter|shattered|missing|broken|flat)$/.test(lastWord)) return name; // adjectives stay as they are
  words[words.length - 1] = IRREGULAR[lastWord] ?? (/(s|x|z|ch|sh)$/.test(lastWord) ? `${words.at(-1)}es` : `${words.at(-1)}s`);
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
  return (result?.objects ?? []).filter((o) => o.score >= thresholdOf(result, o.label));
}

export function isClose(result, item) {
  return Math.abs(item.score - thresholdOf(result, item.label)) < CLOSE;
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
  if (result.objects && result.task !== "localization") return result.objects.filter((o) => isClose(result, o));
  return result.objects ? [] : result.labels.filter((l) => isClose(result, l));
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
    const words = held.length ? list(held.map((t, i) => (i ? lower(t) : t))) : "Nothing found";
    return words + tail;
  }
  if (result.task === "localization") {
    const box = result.objects[0];
    return `${title(box.title)}: ${box.area_percent.toFixed(1)} % of the photograph`;
  }
  const counts = new Map();
  for (const found of findings(result)) counts.set(title(found.title), (counts.get(title(found.title)) ?? 0) + 1);
  if (!counts.size) return `Nothing found${tail}`;
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([t, n]) => `${n} ${n === 1 ? lower(t) : plural(lower(t))}`);
  return list(parts) + tail;
}

export function cannotSee(name) {
  const model = modelInfo(name);
  if (!model) return "";
  const known = list(model.labels.map((l) => lower(l.title)));
  const where = { classification: "It says what, not where.", multilabel: "It says what, not where.", localization: "It marks one place only." }[model.task] ?? "";
  return `This model knows only ${known}. Anything else, and damage the photograph does not show, it cannot see. ${where}`.trim();
}

export function stageWords(item) {
  if (item.status === "waiting") return item.retryIn ? `server busy, again in ${item.retryIn} s` : "waiting";
  if (item.status === "sending") return `sending, ${Math.round(100 * item.sent)} %`;
  if (item.status === "working") {
    const words = { decoding: "opening", queued: "in the queue", inferring: "looking", explaining: "explaining" };
    const ahead = item.stage === "queued" && item.ahead ? `, ${item.ahead} ahead` : "";
    return (words[item.stage] ?? "sent") + ahead;
  }
  if (item.status === "cancelled") return "cancelled";
  if (item.status === "failed") return item.problem.title;
  return item.result ? verdict(item.result) : "";
}

export function limitsWords(limits) {
  if (!limits) return "";
  const megabytes = Math.floor(limits.max_upload_bytes / 2 ** 20);
  return `${limits.formats.join(", ")}; up to ${megabytes} MB and ${Math.round(limits.max_pixels / 1e6)} megapixels each. ` +
    (limits.kept_hours === null ? "Nothing is kept on the server." : `Photographs are kept on the server for ${limits.kept_hours} hours.`);
}
