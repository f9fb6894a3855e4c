// Asks for the API key where the server wants one.

import { apiKey } from "./api.js";
import { byId } from "./element.js";

/** Whether the user gave a key, which requests carry from then on. */
export function askForKey() {
  const dialog = byId("key-dialog");
  const input = byId("key");
  if (dialog.open) return Promise.resolve(false);
  byId("key-text").textContent = apiKey.value
    ? "It refused the one it was given."
    : "Whoever runs it can tell you which.";
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const listening = new AbortController();
    const { signal } = listening;
    byId("key-cancel").addEventListener("click", () => dialog.close("cancel"), { signal });
    dialog.addEventListener(
      "close",
      () => {
        const isGiven = dialog.returnValue === "given";
        listening.abort();
        resolve(isGiven);
      },
      { signal },
    );
    dialog.querySelector("form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        apiKey.value = input.value.trim();
        dialog.close("given");
      },
      { signal },
    );
  });
}
