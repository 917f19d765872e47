// The service, as docs/rest.md has it. Uploads go by XMLHttpRequest: it alone tells how many bytes have left.

import { kept } from "./kept.js";

export class Refused extends Error {
  constructor(problem, retryAfter) {
    super(problem.detail);
    this.problem = problem;
    this.retryAfter = retryAfter;
  }
}

const UNREACHABLE = {
  code: "unreachable",
  title: "The server cannot be reached",
  detail: "The server does not answer. Check that it still runs and that you are connected, then retry.",
};
const GARBLED = {
  code: "garbled",
  title: "The answer was cut short",
  detail: "The server's answer ended too early, as when it is restarted. Retry.",
};

export const key = kept("sessionStorage", "blemish-api-key");

const headers = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});

export async function get(path) {
  let response;
  try {
    response = await fetch(path, { headers: headers(), cache: "no-store" });
  } catch {
    throw new Refused(UNREACHABLE);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new Refused(body?.code ? body : { ...UNREACHABLE, detail: `The server answered ${response.status}.` });
  return body;
}

export async function picture(path, tries = 3) {
  let response;
  try {
    response = await fetch(path, { headers: headers() });
  } catch {
    throw new Refused(UNREACHABLE);
  }
  if (response.status === 429 && tries > 1) {
    await new Promise((later) => setTimeout(later, 1000 * (Number(response.headers.get("Retry-After")) || 1)));
    return picture(path, tries - 1);
  }
  if (!response.ok) {
    throw new Refused({ code: "link_expired", title: "The picture is gone", detail: "The picture has expired on the server. Retry to make it again." });
  }
  return URL.createObjectURL(await response.blob());
}

// Send one photograph; `on.sent(share)` while it uploads, `on.stage(line)` for each line of the server.
// Gives { promise, abort }. The promise holds the result, or a Refused; null when aborted.
export function predict(file, name, parameters, on) {
  const request = new XMLHttpRequest();
  const query = new URLSearchParams({ ...parameters, stream: "true" });
  const promise = new Promise((resolve, reject) => {
    let read = 0;
    let last = null;
    const lines = () => {
      const text = request.responseText;
      let end;
      while ((end = text.indexOf("\n", read)) >= 0) {
        const line = text.slice(read, end).trim();
        read = end + 1;
        if (!line) continue;
        try {
          last = JSON.parse(line);
        } catch {
          continue;
        }
        if (last.stage !== "done" && last.stage !== "failed") on.stage?.(last);
      }
    };
    request.upload.onprogress = (event) => event.lengthComputable && on.sent?.(event.loaded / event.total);
    request.upload.onload = () => on.sent?.(1);
    request.onprogress = () => request.status === 200 && lines();
    request.onerror = () => reject(new Refused(last || request.status ? GARBLED : UNREACHABLE));
    request.ontimeout = request.onerror;
    request.onabort = () => resolve(null);
    request.onload = () => {
      if (request.status !== 200) {
        const retry = Number(request.getResponseHeader("Retry-After"));
        let problem = null;
        try {
          problem = JSON.parse(request.responseText);
        } catch {
          // not one of the service's own answers: a proxy in between
        }
        reject(new Refused(problem?.code ? problem : { ...UNREACHABLE, detail: `The server answered ${request.status}. Retry later.` }, retry));
        return;
      }
      lines();
      if (last?.stage === "done") resolve(last.result);
      else if (last?.stage === "failed") reject(new Refused(last.problem));
      else reject(new Refused(GARBLED));
    };
    request.open("POST", `/api/v1/predict?${query}`);
    for (const [header, value] of Object.entries(headers())) request.setRequestHeader(header, value);
    const form = new FormData();
    form.append("image", file, name);
    request.send(form);
  });
  return { promise, abort: () => request.abort() };
}
