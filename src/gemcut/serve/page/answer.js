// One answer while it is made: the request, what came of it, and how fast.

import { ApiError, streamChat } from "./api.js";

/**
 * The messages of a request. Templates want user and model to take turns, so an answer that never came is left out
 * and what the user said before and after it becomes one message.
 */
export function requestMessages(conversation) {
  const messages = [];
  if (conversation.settings.system.trim()) messages.push({ role: "system", content: conversation.settings.system });
  for (const { role, content, status } of conversation.messages) {
    if (role === "assistant" && (status === "running" || (content === "" && status !== "done"))) continue;
    const last = messages.at(-1);
    if (role === "user" && last?.role === "user") last.content += `\n\n${content}`;
    else messages.push({ role, content });
  }
  return messages;
}

/**
 * Fills `message` from the server.
 *
 * Events: "text" with the new text as detail, "end" when the message's status is final.
 */
export class Answer extends EventTarget {
  constructor(conversation, message) {
    super();
    this.conversation = conversation;
    this.message = message;
    this.controller = new AbortController();
    this.begun = performance.now();
    this.firstText = null;
    this.firstTokens = 0; // that the first text came with
  }

  /** Seconds since the request was sent. */
  get seconds() {
    return (performance.now() - this.begun) / 1000;
  }

  /** Ends the request; what came stays. */
  stop() {
    this.controller.abort();
  }

  async run() {
    const { message, conversation } = this;
    const body = { model: message.model, messages: requestMessages(conversation), ...conversation.settings.sampling };
    try {
      for await (const event of streamChat(body, this.controller.signal)) this.take(event);
      message.status = "done";
    } catch (error) {
      // A page that is left may see its connection break before it sees that it stopped it.
      message.status = this.controller.signal.aborted ? "stopped" : "failed";
      if (message.status === "failed") {
        if (!(error instanceof ApiError)) console.error(error);
        message.error = (error instanceof ApiError ? error : new ApiError(String(error), { status: 200 })).explain();
      }
    }
    message.figures = { ...this.ownFigures(), ...message.figures };
    this.dispatchEvent(new Event("end"));
  }

  take(event) {
    const choice = event.choices?.[0];
    const text = choice?.delta?.content;
    if (event.usage) this.message.figures = serverFigures(event);
    if (text) {
      this.lastText = performance.now();
      if (this.firstText === null) {
        this.firstText = this.lastText;
        this.firstTokens = event.usage?.completion_tokens;
      }
      this.message.content += text;
      this.dispatchEvent(new CustomEvent("text", { detail: text }));
    }
    if (choice?.finish_reason) this.message.finishReason = choice.finish_reason;
  }

  /** What was seen from here; the server's own figures, when they came, are nearer to the truth. */
  ownFigures() {
    if (this.firstText === null) return {};
    const tokens = this.message.figures?.tokens - this.firstTokens;
    const seconds = (this.lastText - this.firstText) / 1000;
    return {
      firstTokenSeconds: (this.firstText - this.begun) / 1000,
      ...(tokens > 0 && seconds > 0 && { tokensPerSecond: tokens / seconds }),
    };
  }
}

function serverFigures({ usage, timings }) {
  const figures = { promptTokens: usage.prompt_tokens, tokens: usage.completion_tokens };
  if (timings) {
    figures.tokensPerSecond = timings.tokens_per_second;
    figures.firstTokenSeconds = timings.time_to_first_token_seconds;
  }
  return figures;
}
