// The field where the user writes: grows with its text, sends by Enter, and stops a running answer.

import { byId } from "./element.js";

const MAX_HEIGHT_SHARE = 0.4; // of the window
// Software keyboards have no Shift+Enter: there Enter begins a line and the button sends.
const HAS_SOFT_KEYBOARD = matchMedia("(pointer: coarse) and (hover: none)");

export class Composer {
  /** @param actions {send(text), stop()}. */
  constructor({ send, stop }) {
    this.area = byId("prompt");
    this.button = byId("send");
    this.send = send;
    this.stop = stop;
    this.isRunning = false;
    this.area.addEventListener("input", () => this.update());
    this.area.addEventListener("keydown", (event) => this.onKey(event));
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.isRunning) this.stop();
      else this.submit();
    });
    this.update();
  }

  set text(text) {
    this.area.value = text;
    this.update();
    this.focus();
  }

  /** Whether the button stops an answer instead of sending. */
  set running(isRunning) {
    this.isRunning = isRunning;
    this.button.classList.toggle("is-stop", isRunning);
    this.button.setAttribute("aria-label", isRunning ? "Stop the answer" : "Send");
    this.button.title = isRunning ? "Stop (Esc)" : "Send (Enter)";
    this.update();
  }

  /** Puts the cursor here, unless that would bring up a keyboard over the page. */
  focus() {
    if (!HAS_SOFT_KEYBOARD.matches) this.area.focus();
  }

  onKey(event) {
    const isSend = event.key === "Enter" && !event.shiftKey && !event.isComposing && !HAS_SOFT_KEYBOARD.matches;
    if (!isSend) return;
    event.preventDefault();
    if (!this.isRunning) this.submit();
  }

  submit() {
    const text = this.area.value;
    if (!text.trim()) return;
    this.area.value = "";
    this.update();
    this.focus();
    this.send(text);
  }

  update() {
    this.button.disabled = !this.isRunning && !this.area.value.trim();
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, innerHeight * MAX_HEIGHT_SHARE)}px`;
  }
}
