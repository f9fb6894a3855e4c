// One message of the conversation as it is shown.

import { copyButton } from "./clipboard.js";
import { element, icon, iconButton } from "./element.js";
import { MarkdownStream, showMarkdown } from "./markdown.js";
import { announce } from "./notices.js";

/**
 * What the user said.
 *
 * @param onResend Called with the new text when it was edited.
 */
export function userMessage(message, onResend) {
  const article = element("article", { class: "message user", "aria-label": "You" });
  const cancel = () => {
    show();
    article.querySelector("footer button:last-child").focus();
  };
  const show = () => {
    const edit = iconButton("edit", "Edit and send again", () =>
      article.replaceChildren(editor(message, cancel, onResend)),
    );
    article.replaceChildren(
      element("div", { class: "bubble" }, message.content),
      element(
        "footer",
        {},
        copyButton("Copy message", () => message.content),
        edit,
      ),
    );
  };
  show();
  return article;
}

function editor(message, onCancel, onResend) {
  const area = element("textarea", { "aria-label": "Edit message", rows: "3" });
  area.value = message.content;
  const form = element(
    "form",
    { class: "editor" },
    area,
    element(
      "div",
      { class: "buttons" },
      element("button", { type: "button", class: "quiet-button", onclick: onCancel }, "Cancel"),
      element("button", { type: "submit", class: "main-button" }, "Send again"),
    ),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (area.value.trim()) onResend(area.value);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") onCancel();
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === area)
      form.requestSubmit();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  requestAnimationFrame(() => area.focus());
  return form;
}

/** What the model says. */
export class AnswerView {
  /** @param actions {regenerate, enterKey}: called without arguments. */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.prose = element("div", { class: "prose" });
    this.element = element(
      "article",
      { class: "message answer", "aria-label": `Answer of ${message.model}` },
      this.prose,
    );
    if (message.status !== "running") this.show();
  }

  /** Shows what comes from `answer` until it ends. */
  follow(answer) {
    this.stream = new MarkdownStream(this.prose, (text) => this.element.isConnected && announce(text));
    this.waiting = waitingLine(answer);
    this.element.setAttribute("aria-busy", "true");
    if (this.message.content) this.stream.append(this.message.content);
    else this.element.append(this.waiting.line);
    answer.addEventListener("text", ({ detail }) => {
      this.waiting.end();
      this.stream.append(detail);
    });
    answer.addEventListener("end", () => {
      this.waiting.end();
      this.stream.finish();
      this.element.removeAttribute("aria-busy");
      this.showEnd();
    });
  }

  /** Shows the finished message. */
  show() {
    showMarkdown(this.prose, this.message.content);
    this.showEnd();
  }

  showEnd() {
    const { message } = this;
    this.element.querySelector("footer")?.remove();
    if (message.error) this.element.append(failure(message.error, this.actions));
    else if (message.status === "done" && !message.content) {
      this.prose.append(element("p", { class: "empty-answer" }, "The model ended its turn without a word."));
    }
    this.element.append(
      element(
        "footer",
        {},
        message.content ? copyButton("Copy answer", () => message.content) : null,
        message.error ? null : iconButton("again", "Answer again", this.actions.regenerate),
        element("span", { class: "figures" }, figures(message)),
      ),
    );
  }
}

/** A line that says how long the prompt is being read; `end` takes it away. */
function waitingLine(answer) {
  const word = element("span", {}, "Reading the prompt");
  const line = element("p", { class: "waiting", role: "status" }, icon("gem"), word);
  const time = element("span", { class: "figures", "aria-hidden": "true" });
  line.append(time);
  const timer = setInterval(() => (time.textContent = `${Math.floor(answer.seconds)} s`), 1000);
  return {
    line,
    end() {
      clearInterval(timer);
      line.remove();
    },
  };
}

function failure({ title, detail, needsKey }, { regenerate, enterKey }) {
  const button = needsKey
    ? element("button", { type: "button", class: "main-button", onclick: enterKey }, "Enter the key")
    : element("button", { type: "button", class: "main-button", onclick: regenerate }, "Try again");
  return element(
    "div",
    { class: "failure", role: "alert" },
    element("strong", {}, title),
    element("p", {}, detail),
    button,
  );
}

/** One line: who answered, how fast, and why it ended where that is not the model's own end. */
function figures({
  model,
  engine,
  status,
  finishReason,
  figures: { tokens, tokensPerSecond, firstTokenSeconds } = {},
}) {
  const parts = [
    model,
    engine,
    tokensPerSecond > 0 && `${rounded(tokensPerSecond)} tokens/s`,
    firstTokenSeconds > 0 && `${rounded(firstTokenSeconds)} s to first token`,
    tokens > 0 && `${tokens.toLocaleString("en")} ${tokens === 1 ? "token" : "tokens"}`,
    status === "stopped" && "stopped",
    finishReason === "length" && "ended by the limit of tokens",
  ];
  return parts.filter(Boolean).join(" · ");
}

function rounded(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
