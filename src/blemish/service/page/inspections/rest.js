// The client of the store of inspections, as described in docs/inspections.md.

import { headers, RefusedRequest, unexpected, unreachable } from "../api.js";

const API = "/api/v1";

/**
 * @typedef {{ body?: any, version?: number | null, key?: string }} RequestOptions `version`: that the resource must
 *   have; `key`: makes a repeated request one
 */

/**
 * @param {string} method
 * @param {string} path below /api/v1
 * @param {RequestOptions} [options]
 */
async function send(method, path, { body, version, key } = {}) {
  const all = { ...headers() };
  if (body !== undefined) all["Content-Type"] = "application/json";
  if (version !== undefined && version !== null) all["If-Match"] = `"${version}"`;
  if (key) all["Idempotency-Key"] = key;
  let response;
  try {
    response = await fetch(`${API}${path}`, { method, headers: all, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new RefusedRequest(unreachable());
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  throw new RefusedRequest(problem?.code ? problem : unexpected(response.status));
}

/** @param {string} path */
export const get = async (path) => (await send("GET", path)).json();
/** @param {string} path @param {any} body @param {RequestOptions} [options] */
export const post = async (path, body, options = {}) => (await send("POST", path, { ...options, body })).json();
/** @param {string} path @param {any} body @param {RequestOptions} [options] */
export const patch = async (path, body, options = {}) => (await send("PATCH", path, { ...options, body })).json();

/**
 * Return all items of a list.
 * @param {string} path with a query
 */
export async function getAll(path) {
  const items = [];
  let cursor = null;
  do {
    const more = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    const page = await get(`${path}${more}`);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return items;
}

/**
 * Return a file, and the answer that contained it.
 * @param {string} path
 */
export async function getFile(path) {
  const response = await send("GET", path);
  try {
    return { blob: await response.blob(), response };
  } catch {
    throw new RefusedRequest(unreachable());
  }
}

export const newKey = () => crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

/**
 * Send one photo. XMLHttpRequest, because only it reports how many bytes have been sent.
 * @param {string} inspectionId
 * @param {File} file
 * @param {{ view: string, key: string, onSent: (share: number) => void }} options
 * @returns {{ promise: Promise<any>, abort: () => void }} its promise gives the stored image, or null after `abort`
 */
export function uploadImage(inspectionId, file, { view, key, onSent }) {
  const request = new XMLHttpRequest();
  const promise = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.onerror = () => reject(new RefusedRequest(unreachable()));
    request.onabort = () => resolve(null);
    request.onload = () => {
      let answer = null;
      try {
        answer = JSON.parse(request.responseText);
      } catch {
        // not an answer of the service itself, but of a proxy
      }
      if (request.status === 201 && answer) resolve(answer);
      else reject(new RefusedRequest(answer?.code ? answer : unexpected(request.status), Number(request.getResponseHeader("Retry-After"))));
    };
    request.open("POST", `${API}/inspections/${inspectionId}/images`);
    for (const [name, value] of Object.entries({ ...headers(), "Idempotency-Key": key })) request.setRequestHeader(name, value);
    const form = new FormData();
    form.append("image", file, file.name);
    form.append("view", view);
    form.append("file_name", file.name);
    request.send(form);
  });
  return { promise, abort: () => request.abort() };
}
