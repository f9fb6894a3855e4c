// Conversations, kept in this browser's localStorage: one entry each, so that tabs do not overwrite one another's.

const PREFIX = "gemcut.conversation.";
const LATEST = "gemcut.settings";
const TITLE_LENGTH = 60;

/** A name that no other conversation has. `crypto.randomUUID` is missing where a page came over plain http. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(36).padStart(2, "0")).join("");
}

/** {model, system, sampling}: what a conversation asks for; unset values are the model's own. */
export function emptySettings() {
  return { model: "", system: "", sampling: {} };
}

/** What a message says at its start, for lists. */
export function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1).trimEnd()}…` : line;
}

/**
 * All conversations: {id, title, created, updated, settings, messages}, times in milliseconds.
 *
 * A message is {role, content}; an assistant's also has model, engine, status ("running", "done", "stopped",
 * "failed"), and figures or an error. Events: "change" when any conversation changed here or in another tab,
 * "refused" with a text when the browser keeps nothing.
 */
export class Store extends EventTarget {
  constructor() {
    super();
    this.conversations = new Map();
    this.unreadable = 0;
    this.storage = openStorage();
    for (const name of Object.keys(this.storage ?? {})) this.read(name);
    addEventListener("storage", ({ key }) => this.onOtherTab(key));
  }

  /** Conversations, the last changed first. */
  get newestFirst() {
    return [...this.conversations.values()].sort((a, b) => b.updated - a.updated);
  }

  get(id) {
    return this.conversations.get(id);
  }

  /** A conversation that is kept once it has a message. */
  create(settings) {
    const now = Date.now();
    return { id: newId(), title: "", created: now, updated: now, settings: structuredClone(settings), messages: [] };
  }

  /** Keeps the conversation as it is now. */
  save(conversation) {
    this.conversations.set(conversation.id, conversation);
    this.write(PREFIX + conversation.id, conversation);
    this.changed();
  }

  /** Keeps the conversation, which now is the newest. */
  touch(conversation) {
    conversation.updated = Date.now();
    this.save(conversation);
  }

  remove(conversation) {
    this.conversations.delete(conversation.id);
    this.storage?.removeItem(PREFIX + conversation.id);
    this.changed();
  }

  /** Settings that the next new conversation begins with. */
  get latestSettings() {
    return { ...emptySettings(), ...parsed(this.storage?.getItem(LATEST)) };
  }

  set latestSettings(settings) {
    this.write(LATEST, settings);
  }

  write(name, value) {
    try {
      this.storage?.setItem(name, JSON.stringify(value));
    } catch (error) {
      const why =
        "This browser's storage is full: changes are lost with this tab. Export and delete some conversations.";
      this.dispatchEvent(
        new CustomEvent("refused", { detail: error.name === "QuotaExceededError" ? why : error.message }),
      );
    }
  }

  read(name) {
    if (!name.startsWith(PREFIX)) return;
    const value = parsed(this.storage.getItem(name));
    if (!isConversation(value)) {
      this.unreadable += 1; // left as it is: a newer version of this page may read it
      return;
    }
    for (const message of value.messages) {
      if (message.status === "running") message.status = "stopped"; // the page was left while it came
    }
    this.conversations.set(value.id, value);
  }

  onOtherTab(name) {
    if (!name?.startsWith(PREFIX)) return;
    const mine = this.conversations.get(name.slice(PREFIX.length));
    if (mine?.messages.some(({ status }) => status === "running")) return; // this tab's answer is the newer state
    if (this.storage.getItem(name) === null) this.conversations.delete(name.slice(PREFIX.length));
    else this.read(name);
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function openStorage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

function parsed(text) {
  try {
    return JSON.parse(text ?? "null");
  } catch {
    return null;
  }
}

function isConversation(value) {
  return (
    typeof value?.id === "string" &&
    typeof value.title === "string" &&
    typeof value.settings?.sampling === "object" &&
    Array.isArray(value.messages) &&
    value.messages.every(({ role, content }) => ["user", "assistant"].includes(role) && typeof content === "string")
  );
}
