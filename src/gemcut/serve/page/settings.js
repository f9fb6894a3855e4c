// System prompt and sampling of the conversation. A field that is left empty takes the model's own value.

import { byId, element } from "./element.js";

// The request's names, as the API has them.
const FIELDS = [
  {
    name: "temperature",
    label: "Temperature",
    hint: "0 always takes the likeliest token",
    min: 0,
    max: 2,
    step: "any",
  },
  { name: "top_k", label: "Top k", hint: "Only the k likeliest tokens; 0 is all", min: 0, step: 1 },
  { name: "top_p", label: "Top p", hint: "The likeliest up to this sum", min: 0, max: 1, step: "any" },
  { name: "min_p", label: "Min p", hint: "None below this share of the likeliest", min: 0, max: 1, step: "any" },
  {
    name: "max_completion_tokens",
    label: "Max tokens",
    hint: "Length of an answer",
    min: 1,
    step: 1,
    empty: "no limit",
  },
  { name: "seed", label: "Seed", hint: "The same seed, the same answer", step: 1, empty: "random" },
];

export class Settings {
  /** @param onChange Called after the shown settings were changed. */
  constructor(onChange) {
    this.onChange = onChange;
    this.system = byId("system");
    this.system.addEventListener("input", () => {
      this.settings.system = this.system.value;
      this.changed();
    });
    this.inputs = FIELDS.map((field) => this.field(field));
    byId("reset").addEventListener("click", () => {
      this.settings.sampling = {};
      this.show(this.settings, this.model);
      this.changed();
    });
  }

  field({ name, label, hint, empty, ...limits }) {
    const input = element("input", {
      id: `field-${name}`,
      type: "number",
      inputmode: limits.step === 1 ? "numeric" : "decimal",
      "aria-describedby": `hint-${name}`,
      ...limits,
    });
    input.addEventListener("input", () => {
      if (input.value === "" || !input.validity.valid) delete this.settings.sampling[name];
      else this.settings.sampling[name] = input.valueAsNumber;
      this.changed();
    });
    byId("sampling").append(
      element(
        "div",
        { class: "field" },
        element("label", { for: input.id }, label),
        input,
        element("p", { class: "hint", id: `hint-${name}` }, hint),
      ),
    );
    return { name, input, empty };
  }

  /** Shows these settings, which it then changes; `model` gives the defaults, and is undefined before it is known. */
  show(settings, model) {
    this.settings = settings;
    this.model = model;
    this.system.value = settings.system;
    for (const { name, input, empty } of this.inputs) {
      input.value = settings.sampling[name] ?? "";
      input.placeholder = model?.defaults?.[name] ?? empty ?? "";
    }
    this.mark();
  }

  changed() {
    this.mark();
    this.onChange();
  }

  /** A dot on the button where anything differs from the model's own. */
  mark() {
    const isChanged = this.settings.system.trim() !== "" || Object.keys(this.settings.sampling).length > 0;
    byId("settings-button").classList.toggle("is-changed", isChanged);
  }
}
