// The list of conversations: choose, rename, export, delete.

import { byId, element, iconButton } from "./element.js";

const DAY_MILLISECONDS = 86_400_000;

export class Sidebar {
  /** @param actions {select(id), remove(conversation), rename(conversation, title)}. */
  constructor(actions) {
    this.actions = actions;
    this.place = byId("conversations");
    this.shown = "";
    this.renaming = null;
  }

  /** Shows the conversations; `running` holds the ids of those with an answer in the making. */
  show(conversations, currentId, running) {
    const entries = conversations.map(({ id, title, updated }) => [id, title, groupOf(updated), running.has(id)]);
    const shown = JSON.stringify([entries, currentId, this.renaming]);
    if (shown === this.shown) return; // so that what has the focus stays
    this.shown = shown;
    const focused = this.place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const groups = Map.groupBy(conversations, ({ updated }) => groupOf(updated));
    this.place.replaceChildren(
      ...[...groups].flatMap(([name, members]) => [
        element("h2", {}, name),
        element(
          "ul",
          {},
          ...members.map((member) => this.row(member, member.id === currentId, running.has(member.id))),
        ),
      ]),
    );
    if (focused) [...this.place.querySelectorAll("[data-key]")].find(({ dataset }) => dataset.key === focused)?.focus();
    this.place.querySelector("input")?.select();
    this.again = () => this.show(conversations, currentId, running);
  }

  row(conversation, isCurrent, isRunning) {
    if (this.renaming === conversation.id) return element("li", { class: "row" }, this.renameForm(conversation));
    const { id, title } = conversation;
    const button = (name, label, run) => iconButton(name, `${label} “${title}”`, run, { "data-key": name + id });
    return element(
      "li",
      { class: isCurrent ? "row is-current" : "row" },
      element(
        "a",
        {
          href: `#${id}`,
          "aria-current": isCurrent ? "page" : null,
          "data-key": id,
          onclick: () => this.actions.select(id),
        },
        isRunning ? element("span", { class: "running", role: "img", "aria-label": "Answering" }) : null,
        element("span", { class: "title" }, title),
      ),
      element(
        "span",
        { class: "row-actions" },
        button("edit", "Rename", () => this.rename(id)),
        button("export", "Export", () => exportConversation(conversation)),
        button("delete", "Delete", () => this.actions.remove(conversation)),
      ),
    );
  }

  rename(id) {
    this.renaming = id;
    this.again();
  }

  renameForm(conversation) {
    const input = element("input", {
      "aria-label": "Name of the conversation",
      maxlength: "200",
      value: conversation.title,
    });
    const end = (title) => {
      if (this.renaming !== conversation.id) return; // leaving the field ends it a second time
      this.renaming = null;
      if (title) this.actions.rename(conversation, title);
      this.again();
      [...this.place.querySelectorAll("a")].find((link) => link.dataset.key === conversation.id)?.focus();
    };
    const form = element("form", { onsubmit: (event) => (event.preventDefault(), end(input.value.trim())) }, input);
    input.addEventListener("blur", () => end(input.value.trim()));
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // it does not also close the drawer
      event.stopPropagation();
      end(null);
    });
    return form;
  }
}

function groupOf(updated) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (updated >= midnight) return "Today";
  return updated >= midnight - 6 * DAY_MILLISECONDS ? "Last seven days" : "Older";
}

/** Saves the conversation as a JSON file. */
function exportConversation(conversation) {
  const file = new Blob([`${JSON.stringify(conversation, null, 2)}\n`], { type: "application/json" });
  const href = URL.createObjectURL(file);
  const name = conversation.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/gu, "") || "conversation";
  element("a", { href, download: `${name}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(href)); // after the browser took it
}
