// Copying text, also where the page came over plain http from another machine and the browser offers no clipboard.

import { element, icon } from "./element.js";

const SHOWN_MILLISECONDS = 1500;

/** Puts text on the clipboard; false where the browser refuses. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

function copyBySelection(text) {
  const focused = document.activeElement;
  const area = element("textarea", { class: "off-screen", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return isDone;
}

/** A button that copies what `text()` gives and says for a moment that it did. */
export function copyButton(label, text) {
  const word = element("span", { class: "copy-word", role: "status" });
  const button = element(
    "button",
    { type: "button", class: "icon-button copy", "aria-label": label, title: label },
    icon("copy"),
    word,
  );
  button.addEventListener("click", async () => {
    word.textContent = (await copy(text())) ? "Copied" : "Not copied: the browser refused";
    setTimeout(() => word.replaceChildren(), SHOWN_MILLISECONDS);
  });
  return button;
}
