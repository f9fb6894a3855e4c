// The server's API as this page uses it: /v1/models, /v1/chat/completions, /health. What fails is said in words.

// Usage with every event too, so that an answer that is stopped has its figures.
const STREAM_OPTIONS = { include_usage: true, continuous_usage_stats: true };
const KEY = "gemcut.api-key"; // in sessionStorage: gone with the tab

/** What the server refused, or that it could not be reached (status 0), or that an answer broke off. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }

  /** {title, detail, needsKey}: plain words, to be shown and kept with the answer. */
  explain() {
    const detail = this.message;
    if (this.code === "context_length_exceeded") {
      return { title: "This conversation no longer fits the model's context.", detail };
    }
    switch (this.status) {
      case 0:
        return { title: "The server cannot be reached.", detail };
      case 200:
        return { title: "The answer broke off.", detail };
      case 401:
      case 403:
        return { title: "The server wants an API key.", detail, needsKey: true };
      case 404:
        return { title: "The server does not offer this model.", detail };
      case 429:
        return { title: "The server is busy.", detail: detail + wait(this.retryAfter) };
      case 503:
        return { title: "The server is not taking requests now.", detail: detail + wait(this.retryAfter) };
      default:
        return { title: this.status < 500 ? "The server refused the request." : "The server failed.", detail };
    }
  }
}

function wait(seconds) {
  if (seconds === null) return "";
  return ` Try again in ${seconds} ${seconds === "1" ? "second" : "seconds"}.`;
}

/** The key that requests carry; empty for none. */
export const apiKey = {
  kept: null, // where storage is blocked
  get value() {
    try {
      return sessionStorage.getItem(KEY) ?? this.kept;
    } catch {
      return this.kept;
    }
  },
  set value(key) {
    this.kept = key;
    try {
      sessionStorage.setItem(KEY, key);
    } catch {
      // Storage is blocked: the key holds until the page is left.
    }
  },
};

/** The models that the server offers: id, engine, context_length, dtype, is_chat, defaults. */
export async function listModels() {
  const response = await request("v1/models");
  const body = await response.json().catch(() => null);
  if (!Array.isArray(body?.data)) throw new ApiError("What it sent is no list of models.", { status: 500 });
  return body.data;
}

/** Whether the server answers at all. */
export async function isAlive() {
  try {
    return (await fetch("health")).ok;
  } catch {
    return false;
  }
}

/**
 * The events of one streamed chat completion, as objects; `signal` ends it.
 *
 * Throws ApiError where the server refuses, reports an error within the stream, or ends it before its time.
 */
export async function* streamChat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: STREAM_OPTIONS }),
    signal,
  });
  try {
    for await (const data of eventData(response.body)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message, { status: 200, code: event.error.code });
      yield event;
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError(`The connection to the server failed (${error.message}).`, { status: 200 });
  }
  throw new ApiError("The server closed the connection before the answer was complete.", { status: 200 });
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (apiKey.value) headers.Authorization = `Bearer ${apiKey.value}`;
  let response;
  try {
    // Relative, so that the page also works behind a proxy that serves it below a path.
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("It may have stopped, or the network is down. Start it again with gemcut serve, then retry.");
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // A proxy in between answers with a page of its own.
  }
  return new ApiError(error.message ?? `It answered ${response.status} ${response.statusText}.`, {
    status: response.status,
    code: error.code ?? null,
    retryAfter: response.headers.get("Retry-After"),
  });
}

/** The data of each server-sent event; comments, which keep the connection alive, are passed over. */
async function* eventData(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map((text) => text.replace(/\r$/u, ""))) {
      if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /u, ""));
      if (line === "" && data.length > 0) {
        yield data.join("\n");
        data = [];
      }
    }
  }
}
