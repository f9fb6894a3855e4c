// What the page says beside the conversation: short notices with an undo, and words for screen readers.

import { byId, element } from "./element.js";

const SHOWN_MILLISECONDS = 10_000;
let timer = 0;

/** Shows one line until the next one or for ten seconds; `action` is {label, run} or null. */
export function showNotice(text, action = null) {
  const place = byId("notice");
  const hide = () => place.replaceChildren();
  const button =
    action &&
    element("button", { type: "button", class: "quiet-button", onclick: () => (hide(), action.run()) }, action.label);
  clearTimeout(timer);
  place.replaceChildren(element("div", { class: "notice" }, element("span", {}, text), button));
  timer = setTimeout(hide, SHOWN_MILLISECONDS);
}

/** Has a screen reader say this after what it is saying now. */
export function announce(text) {
  if (text.trim()) byId("spoken").append(element("p", {}, text));
}

/** Forgets what was said. */
export function clearAnnouncements() {
  byId("spoken").replaceChildren();
}
