// The page: joins its parts, and holds which conversation is shown and which answers are in the making.

import { Answer } from "./answer.js";
import { ApiError, isAlive, listModels } from "./api.js";
import { Composer } from "./composer.js";
import { byId, element } from "./element.js";
import { askForKey } from "./key.js";
import { announce, clearAnnouncements, showNotice } from "./notices.js";
import { Settings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { Store, titleOf } from "./store.js";
import { Thread, modelFacts } from "./thread.js";

const SAVE_MILLISECONDS = 2000; // between two savings of an answer that arrives
const ALIVE_MILLISECONDS = 3000; // between two questions whether the server is back

class App {
  constructor() {
    this.store = new Store();
    this.models = [];
    this.answers = new Map(); // by conversation id
    this.thread = new Thread({
      resend: (message, text) => this.resend(message, text),
      regenerate: (message) => this.regenerate(message),
      enterKey: () => this.enterKey(),
      suggest: (text) => (this.composer.text = text),
    });
    this.composer = new Composer({ send: (text) => this.send(text), stop: () => this.answer?.stop() });
    this.settings = new Settings(() => this.settingsChanged());
    this.sidebar = new Sidebar({
      select: () => byId("sidebar").hidePopover(),
      remove: (conversation) => this.remove(conversation),
      rename: (conversation, title) => this.store.save(Object.assign(conversation, { title })),
    });
    this.listen();
  }

  listen() {
    this.store.addEventListener("change", () => this.storeChanged());
    this.store.addEventListener("refused", ({ detail }) => showNotice(detail));
    addEventListener("hashchange", () => this.open(location.hash.slice(1)));
    addEventListener("pagehide", () => this.leave());
    setInterval(() => this.saveRunning(), SAVE_MILLISECONDS);
    byId("new-chat").addEventListener("click", () => this.newChat());
    byId("theme-button").addEventListener("click", () => announce(`${window.gemcutTheme.toggle()} colours`));
    byId("model").addEventListener("change", ({ target }) => {
      this.conversation.settings.model = target.value;
      this.settingsChanged();
      this.show();
    });
    addEventListener("keydown", (event) => this.onKey(event));
  }

  async start() {
    if (/Mac|iPhone|iPad/u.test(navigator.platform)) byId("new-chat-key").textContent = "⌘ K";
    this.open(location.hash.slice(1));
    if (this.store.unreadable > 0)
      showNotice(`${this.store.unreadable} kept conversations cannot be read, and were left as they are.`);
    await this.loadModels();
  }

  /** The answer in the making of the conversation that is shown. */
  get answer() {
    return this.answers.get(this.conversation.id);
  }

  /** The model that the shown conversation asks: its own while the server offers it, else the server's first. */
  get model() {
    return this.models.find(({ id }) => id === this.conversation.settings.model) ?? this.models[0];
  }

  async loadModels() {
    try {
      this.models = await listModels();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { title, needsKey } = error.explain();
      if (needsKey) {
        if (await this.enterKey()) return;
        showNotice(title, { label: "Enter the key", run: () => this.enterKey() });
      } else {
        showNotice(`${title} This page tries again by itself.`);
        await this.untilAlive();
        await this.loadModels();
      }
      return;
    }
    this.show();
  }

  async untilAlive() {
    do await new Promise((resolve) => setTimeout(resolve, ALIVE_MILLISECONDS));
    while (!(await isAlive()));
  }

  async enterKey() {
    if (!(await askForKey())) return false;
    await this.loadModels();
    return true;
  }

  // Which conversation is shown

  open(id) {
    const known = this.store.get(id);
    if (!known && id) history.replaceState(null, "", "#");
    if (known && known === this.conversation) return;
    this.conversation = known ?? this.store.create(this.conversation?.settings ?? this.store.latestSettings);
    this.show();
    this.composer.focus();
  }

  newChat() {
    byId("sidebar").hidePopover();
    if (location.hash.slice(1)) location.hash = "";
    else this.open("");
    this.composer.focus();
  }

  show() {
    clearAnnouncements();
    if (this.conversation.messages.length > 0) this.thread.show(this.conversation, this.answer);
    else this.thread.showEmpty(this.model);
    this.showModel();
    this.composer.running = this.answer !== undefined;
    this.storeChanged();
  }

  showModel() {
    const { model } = this;
    const select = byId("model");
    select.replaceChildren(...this.models.map(({ id }) => element("option", { value: id }, id)));
    select.value = model?.id ?? "";
    select.disabled = this.models.length < 2;
    byId("facts").textContent = model ? modelFacts(model) : "";
    byId("base-model").hidden = model?.is_chat !== false;
    byId("base-model").textContent =
      `${model?.id} is a base model: it was not trained to answer, only to continue text.`;
    this.settings.show(this.conversation.settings, model);
    this.showContext();
  }

  /** How much of the model's context the conversation fills, as the server counted it last. */
  showContext() {
    const { promptTokens, tokens } = this.conversation.messages.at(-1)?.figures ?? {};
    const limit = this.model?.context_length;
    byId("context").textContent =
      promptTokens && limit
        ? `${(promptTokens + tokens).toLocaleString("en")} of ${limit.toLocaleString("en")} tokens of context`
        : "";
  }

  storeChanged() {
    const kept = this.store.get(this.conversation.id);
    if (kept && kept !== this.conversation) {
      this.conversation = kept; // another tab went on with it
      this.show();
      return;
    }
    this.sidebar.show(this.store.newestFirst, this.conversation.id, new Set(this.answers.keys()));
    byId("title").textContent = this.conversation.title || "New chat";
    document.title = this.conversation.title ? `${this.conversation.title} · Gemcut` : "Gemcut";
  }

  settingsChanged() {
    this.store.latestSettings = this.conversation.settings;
    if (this.conversation.messages.length > 0) this.store.save(this.conversation);
  }

  // Talking

  send(text) {
    const { conversation } = this;
    if (conversation.messages.length === 0) {
      this.thread.list.replaceChildren();
      conversation.title ||= titleOf(text);
    }
    const message = { role: "user", content: text };
    conversation.messages.push(message);
    this.thread.append(message);
    this.ask();
  }

  /** Has the model answer the shown conversation as it stands. */
  ask() {
    const { conversation } = this;
    const model = this.model ?? { id: conversation.settings.model };
    const message = { role: "assistant", content: "", model: model.id, engine: model.engine, status: "running" };
    conversation.messages.push(message);
    const answer = new Answer(conversation, message);
    this.answers.set(conversation.id, answer);
    answer.addEventListener("end", () => this.ended(answer));
    this.store.touch(conversation);
    if (location.hash.slice(1) !== conversation.id) history.pushState(null, "", `#${conversation.id}`);
    this.thread.append(message, answer);
    this.thread.follower.follow();
    this.composer.running = true;
    this.composer.focus(); // what had the focus may be gone
    clearAnnouncements();
    answer.run();
  }

  ended(answer) {
    const { conversation, message } = answer;
    if (this.answers.get(conversation.id) === answer) this.answers.delete(conversation.id);
    if (conversation.messages.includes(message) && this.store.get(conversation.id)) this.store.touch(conversation);
    if (conversation !== this.conversation) return;
    this.composer.running = this.answer !== undefined;
    this.showContext();
  }

  resend(message, text) {
    this.cut(message, "What followed the edited message was removed.");
    this.send(text);
  }

  regenerate(message) {
    const isLast = message === this.conversation.messages.at(-1);
    const lost = isLast ? "The earlier answer was removed." : "The earlier answer and what followed it were removed.";
    this.cut(message, isLast && !message.content ? null : lost);
    this.ask();
  }

  /** Takes `message` and all after it out of the shown conversation; where that loses text, it can be undone. */
  cut(message, notice) {
    const { conversation } = this;
    const before = [...conversation.messages];
    this.answer?.stop();
    this.answers.delete(conversation.id);
    conversation.messages = before.slice(0, before.indexOf(message));
    this.thread.show(conversation);
    const undo = () => {
      this.answers.get(conversation.id)?.stop();
      this.answers.delete(conversation.id);
      conversation.messages = before;
      this.store.touch(conversation);
      if (conversation === this.conversation) this.show();
    };
    if (notice) showNotice(notice, { label: "Undo", run: undo });
  }

  remove(conversation) {
    const isShown = conversation === this.conversation;
    this.answers.get(conversation.id)?.stop();
    this.store.remove(conversation);
    if (isShown) this.newChat();
    else byId("new-chat").focus(); // the button that had it is gone
    const undo = () => {
      this.store.save(conversation);
      if (isShown) location.hash = conversation.id;
    };
    showNotice(`“${conversation.title}” was deleted.`, { label: "Undo", run: undo });
  }

  leave() {
    for (const answer of this.answers.values()) answer.stop();
    this.saveRunning();
  }

  saveRunning() {
    for (const { conversation } of this.answers.values()) this.store.save(conversation);
  }

  onKey(event) {
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.newChat();
    } else if (event.key === "Escape" && this.answer && !document.querySelector(":popover-open, dialog[open]")) {
      this.answer.stop();
    }
  }
}

new App().start();
