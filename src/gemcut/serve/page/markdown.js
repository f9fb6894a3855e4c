// Markdown as elements, all at once or while it arrives.

import { parseBlocks } from "./blocks.js";
import { copyButton } from "./clipboard.js";
import { element } from "./element.js";
import { inlineNodes } from "./inline.js";

const RENDER_SHARE = 0.25; // of the time, at most, goes into drawing an answer that arrives

/** Elements for these blocks of Markdown. */
function blockElements(blocks) {
  return blocks.map((block) => RENDERERS[block.kind](block));
}

const RENDERERS = {
  paragraph: ({ text }) => element("p", {}, ...inlineNodes(text)),
  // A page's own headings are h1 and h2.
  heading: ({ level, text }) => element(`h${Math.min(level + 2, 6)}`, {}, ...inlineNodes(text)),
  rule: () => element("hr"),
  quote: ({ blocks }) => element("blockquote", {}, ...blockElements(blocks)),
  code: ({ language, text }) => codeElement(language, text),
  list: ({ isOrdered, first, isTight, items }) =>
    element(
      isOrdered ? "ol" : "ul",
      { start: isOrdered && first !== 1 ? String(first) : null },
      ...items.map((blocks) => element("li", {}, ...itemNodes(blocks, isTight))),
    ),
  table: ({ alignments, rows: [head, ...rows] }) =>
    element(
      "div",
      { class: "table", tabindex: "0", role: "group", "aria-label": "Table" },
      element(
        "table",
        {},
        element("thead", {}, tableRow("th", head, alignments)),
        element("tbody", {}, ...rows.map((row) => tableRow("td", row, alignments))),
      ),
    ),
};

function itemNodes(blocks, isTight) {
  if (!isTight) return blockElements(blocks);
  return blocks.flatMap((block) => (block.kind === "paragraph" ? inlineNodes(block.text) : blockElements([block])));
}

function tableRow(tag, cells, alignments) {
  return element(
    "tr",
    {},
    ...cells.map((cell, column) => element(tag, { "data-align": alignments[column] }, ...inlineNodes(cell))),
  );
}

function codeElement(language, text) {
  const code = element("code", {}, text);
  return element(
    "figure",
    { class: "code" },
    element(
      "figcaption",
      {},
      element("span", {}, language || "text"),
      copyButton("Copy code", () => code.textContent),
    ),
    // Wide code scrolls, also by keyboard.
    element("pre", { tabindex: "0", role: "group", "aria-label": "Code" }, code),
  );
}

function linesOf(source) {
  return source
    .replaceAll("\r", "")
    .split("\n")
    .map((line) => line.replace(/^[ \t]+/u, (space) => space.replaceAll("\t", "    ")));
}

/**
 * Markdown that grows: shows what came so far, and draws only its last block anew.
 *
 * A block is settled once the next one has two whole lines: nothing that follows can change it. Settled blocks stay the
 * same elements, so a selection in them survives and a long answer costs no more to extend than a short one.
 *
 * @param container Element that receives the blocks.
 * @param onSettled Called with the text of each block that will not change any more.
 */
export class MarkdownStream {
  constructor(container, onSettled = () => {}) {
    this.container = container;
    this.onSettled = onSettled;
    this.source = ""; // of what is not settled
    this.open = []; // elements of what is not settled
    this.frame = 0;
    this.notBefore = 0;
  }

  /** Takes in more text and shows it with one of the next frames. */
  append(text) {
    this.source += text;
    this.frame ||= requestAnimationFrame((now) => this.onFrame(now));
  }

  /** Shows everything; nothing follows. */
  finish() {
    cancelAnimationFrame(this.frame);
    this.draw();
    for (const node of this.open) this.onSettled(node.innerText);
    this.open = [];
    this.source = "";
  }

  onFrame(now) {
    if (now < this.notBefore) {
      this.frame = requestAnimationFrame((later) => this.onFrame(later));
      return;
    }
    this.frame = 0;
    const begin = performance.now();
    this.draw();
    const end = performance.now();
    this.notBefore = end + (end - begin) * (1 / RENDER_SHARE - 1);
  }

  draw() {
    const lines = linesOf(this.source);
    const blocks = parseBlocks(lines);
    const numWhole = lines.length - 1; // the last line may go on
    const next = blocks.findLastIndex((block) => block.start + 2 <= numWhole);
    const settled = Math.max(next, 0);
    this.replaceOpen(blocks);
    if (settled === 0) return;
    for (const node of this.open.splice(0, settled)) this.onSettled(node.innerText);
    this.source = lines.slice(blocks[settled].start).join("\n");
    this.lastBlock = this.open.length === 1 ? blocks.at(-1) : null;
  }

  replaceOpen(blocks) {
    const grown = blocks.length === 1 && this.open.length === 1 && grownCode(this.open[0], this.lastBlock, blocks[0]);
    if (!grown) {
      for (const node of this.open) node.remove();
      this.open = blockElements(blocks);
      this.container.append(...this.open);
    }
    this.lastBlock = blocks.length === 1 ? blocks[0] : null;
  }
}

/** Lengthens the element of a code block that only grew; false where it did anything else. */
function grownCode(node, before, after) {
  const isSame = before?.kind === "code" && after.kind === "code" && before.language === after.language;
  if (!isSame || !after.text.startsWith(before.text)) return false;
  const code = node.querySelector("code");
  const added = after.text.slice(before.text.length);
  if (!code.firstChild) code.append(added);
  else code.firstChild.appendData(added);
  return true;
}

/** Shows a whole Markdown text in `container`. */
export function showMarkdown(container, source) {
  container.replaceChildren(...blockElements(parseBlocks(linesOf(source))));
}
