// The client of the REST service, as described in docs/rest.md. Uploads use XMLHttpRequest, because only it reports
// how many bytes have been sent.

import { storedText } from "./browser_storage.js";
import { t } from "./language.js";

/** A request that the server refused, or that got no answer. */
export class RefusedRequest extends Error {
  /**
   * @param {PageProblem} problem
   * @param {number} [retryAfter] seconds
   */
  constructor(problem, retryAfter) {
    super(problem.detail);
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

export const unreachable = () => ({ code: "unreachable", title: t("problem.unreachable"), detail: t("problem.unreachableDetail") });
const incomplete = () => ({ code: "incomplete-answer", title: t("problem.incomplete"), detail: t("problem.incompleteDetail") });
const linkExpired = () => ({ code: "link-expired", title: t("problem.linkExpired"), detail: t("problem.linkExpiredDetail") });

export const apiKey = storedText("sessionStorage", "blemish-api-key");

/** @returns {Record<string, string>} */
export const headers = () => (apiKey.get() ? { Authorization: `Bearer ${apiKey.get()}` } : {});

/** @param {number} status */
export const unexpected = (status) => ({ ...unreachable(), detail: t("problem.status", { status: String(status) }) });

/**
 * Return the JSON at a path of the service.
 * @param {string} path
 */
export async function getJson(path) {
  let response;
  try {
    response = await fetch(path, { headers: headers(), cache: "no-store" });
  } catch {
    throw new RefusedRequest(unreachable());
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new RefusedRequest(body?.code ? body : unexpected(response.status));
  return body;
}

/** Return the sample images of the server as files, none if it has none. */
export async function getSamples() {
  const { samples } = await getJson("/page/samples.json");
  return Promise.all(samples.map(async (/** @type {{ name: string, path: string }} */ { name, path }) => {
    const response = await fetch(path, { headers: headers() });
    if (!response.ok) throw new RefusedRequest(unexpected(response.status));
    return new File([await response.blob()], name);
  }));
}

/**
 * Return an object URL of the image behind a link of an answer.
 * @param {string} path
 * @returns {Promise<string>}
 */
export async function getImage(path, tries = 3) {
  let response;
  try {
    response = await fetch(path, { headers: headers() });
  } catch {
    throw new RefusedRequest(unreachable());
  }
  if (response.status === 429 && tries > 1) {
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    return getImage(path, tries - 1);
  }
  if (!response.ok) throw new RefusedRequest(linkExpired());
  return URL.createObjectURL(await response.blob());
}

/**
 * Send one photo to the service.
 * @param {File} file
 * @param {string} name
 * @param {Record<string, string>} parameters of the query
 * @param {{ onSent?: (share: number) => void, onStage?: (line: StageLine) => void }} callbacks `onSent`: the share of
 *   the upload that has been sent, 0 to 1; `onStage`: each line of the streamed answer but the last
 * @returns {UploadRequest} its promise gives the result, null after `abort`, or throws a RefusedRequest
 */
export function predict(file, name, parameters, { onSent, onStage }) {
  const request = new XMLHttpRequest();
  const query = new URLSearchParams({ ...parameters, stream: "true" });
  /** @type {Promise<PredictionResponse | null>} */
  const promise = new Promise((resolve, reject) => {
    let position = 0;
    /** @type {StageLine | null} */
    let last = null;
    const readLines = () => {
      const text = request.responseText;
      let end;
      while ((end = text.indexOf("\n", position)) >= 0) {
        const line = text.slice(position, end).trim();
        position = end + 1;
        if (!line) continue;
        try {
          last = /** @type {StageLine} */ (JSON.parse(line));
        } catch {
          continue;
        }
        if (last.stage !== "done" && last.stage !== "failed") onStage?.(last);
      }
    };
    request.upload.onprogress = (event) => event.lengthComputable && onSent?.(event.loaded / event.total);
    request.upload.onload = () => onSent?.(1);
    request.onprogress = () => request.status === 200 && readLines();
    request.onerror = () => reject(new RefusedRequest(last || request.status ? incomplete() : unreachable()));
    request.ontimeout = request.onerror;
    request.onabort = () => resolve(null);
    request.onload = () => {
      if (request.status !== 200) {
        const retryAfter = Number(request.getResponseHeader("Retry-After"));
        let problem = null;
        try {
          problem = JSON.parse(request.responseText);
        } catch {
          // not an answer of the service itself, but of a proxy
        }
        reject(new RefusedRequest(problem?.code ? problem : unexpected(request.status), retryAfter));
        return;
      }
      readLines();
      if (last?.stage === "done") resolve(last.result ?? null);
      else if (last?.stage === "failed" && last.problem) reject(new RefusedRequest(last.problem));
      else reject(new RefusedRequest(incomplete()));
    };
    request.open("POST", `/api/v1/predict?${query}`);
    for (const [header, value] of Object.entries(headers())) request.setRequestHeader(header, value);
    const form = new FormData();
    form.append("image", file, name);
    request.send(form);
  });
  return { promise, abort: () => request.abort() };
}
