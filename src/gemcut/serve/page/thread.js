// The conversation in the middle of the page: its messages, or what to know before the first one.

import { byId, element, icon } from "./element.js";
import { Follower } from "./follow.js";
import { AnswerView, userMessage } from "./message.js";

const CHAT_PROMPTS = [
  "Explain why the sky is blue, in three sentences.",
  "Write a haiku about the first frost.",
  "Write a Python function that merges two sorted lists.",
];
const BASE_PROMPTS = [
  "The planets of the solar system, in order from the Sun, are",
  "A simple recipe for bread: first,",
  "The capital of France is Paris. The capital of Japan is",
];

export class Thread {
  /** @param actions {resend(message, text), regenerate(message), enterKey(), suggest(text)}. */
  constructor(actions) {
    this.actions = actions;
    this.list = byId("messages");
    this.follower = new Follower(byId("thread"), this.list, (isFollowing) => {
      byId("to-end").hidden = isFollowing;
    });
    byId("to-end").addEventListener("click", () => this.follower.follow());
  }

  /** Shows a conversation from its end; `answer` is the one that is being made, or undefined. */
  show(conversation, answer) {
    this.list.replaceChildren();
    for (const message of conversation.messages) this.append(message, answer);
    this.follower.follow();
  }

  append(message, answer) {
    const { resend, regenerate, enterKey } = this.actions;
    if (message.role === "user") {
      this.list.append(userMessage(message, (text) => resend(message, text)));
      return;
    }
    const view = new AnswerView(message, { regenerate: () => regenerate(message), enterKey });
    this.list.append(view.element);
    if (answer?.message === message) view.follow(answer);
  }

  /** Before the first message: which model this is and something to begin with. */
  showEmpty(model) {
    const prompts = model?.is_chat === false ? BASE_PROMPTS : CHAT_PROMPTS;
    const suggestions = prompts.map((text) =>
      element("button", { type: "button", class: "suggestion", onclick: () => this.actions.suggest(text) }, text),
    );
    this.list.replaceChildren(
      element(
        "section",
        { class: "welcome" },
        icon("gem"),
        element("h2", {}, model ? `Talk to ${model.id}` : "Waiting for the server"),
        model ? element("p", { class: "facts" }, modelFacts(model)) : null,
        model ? element("div", { class: "suggestions" }, ...suggestions) : null,
        element(
          "p",
          { class: "note" },
          "Conversations stay in this browser. Nothing is sent anywhere but to this server.",
        ),
      ),
    );
  }
}

/** Engine, number format and context of a model, in words. */
export function modelFacts({ engine, dtype, context_length: context }) {
  const facts = [engine && `${engine} engine`, dtype, context && `${context.toLocaleString("en")} tokens of context`];
  return facts.filter(Boolean).join(" · ");
}
