// Markdown inside a paragraph: code, emphasis, links, line breaks. Every step looks ahead a bounded way, or once.

import { element } from "./element.js";

const MAX_OPEN = 32; // emphasis inside emphasis; markers beyond it stay text
const PUNCTUATION = /[\p{P}\p{S}]/u;
const SPACE = /\s/u;
const LABEL = String.raw`\[((?:[^[\]\\\n]|\\.)*)\]`;
const ADDRESS = String.raw`<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?`;
const TITLE = String.raw`(?:[ \t]+(?:"[^"\n]*"|'[^'\n]*'))?`;
const LINK = new RegExp(String.raw`!?${LABEL}\([ \t]*${ADDRESS}${TITLE}[ \t]*\)`, "uy");
const BRACKETED_URL = /<(https?:\/\/[^\s<>]+)>/iuy;
const BARE_URL = /https?:\/\/[^\s<>"`]+/iuy;
const PLAIN = /(?:[^\\`\n[!<*_~hH]|h(?!ttps?:))+/iuy; // what cannot begin anything

/**
 * The nodes of one stretch of Markdown text.
 *
 * HTML is text like any other. A link leads to http or https or stays text; an image becomes a link, so that an answer
 * cannot make the browser ask another host for anything.
 */
export function inlineNodes(text, isInLink = false) {
  return new InlineParser(text, isInLink).parse();
}

class InlineParser {
  constructor(text, isInLink) {
    this.text = text;
    this.isInLink = isInLink;
    this.position = 0;
    this.frames = [{ marker: "", count: 0, nodes: [] }]; // open emphasis, innermost last
    this.unclosed = new Set(); // lengths of backtick runs that are known to have no partner
  }

  parse() {
    while (this.position < this.text.length) {
      if (!this.plain() && !this.special()) this.addText(this.text[this.position++]);
    }
    while (this.frames.length > 1) this.giveUpFrame();
    return this.frames[0].nodes;
  }

  special() {
    switch (this.text[this.position]) {
      case "\\":
        return this.escape();
      case "`":
        return this.codeSpan();
      case "\n":
        return this.lineBreak();
      case "[":
      case "!":
        return this.link();
      case "<":
        return this.url(BRACKETED_URL);
      case "h":
      case "H":
        return !/\w/u.test(this.text[this.position - 1] ?? "") && this.url(BARE_URL);
      default:
        return this.emphasis();
    }
  }

  match(pattern) {
    pattern.lastIndex = this.position;
    return pattern.exec(this.text);
  }

  plain() {
    const found = this.match(PLAIN);
    if (!found) return false;
    this.addText(found[0]);
    this.position += found[0].length;
    return true;
  }

  add(node) {
    this.frames.at(-1).nodes.push(node);
  }

  addText(text) {
    const nodes = this.frames.at(-1).nodes;
    const last = nodes.at(-1);
    if (last?.nodeType === Node.TEXT_NODE) last.appendData(text);
    else nodes.push(document.createTextNode(text));
  }

  escape() {
    const next = this.text[this.position + 1];
    if (next === undefined || next === "\n" || !PUNCTUATION.test(next)) return false;
    this.addText(next);
    this.position += 2;
    return true;
  }

  lineBreak() {
    this.add(element("br"));
    this.position += 1;
    return true;
  }

  codeSpan() {
    let end = this.position;
    while (this.text[end] === "`") end += 1;
    const size = end - this.position;
    const close = this.unclosed.has(size) ? -1 : this.closingBackticks(end, size);
    if (close < 0) {
      this.unclosed.add(size);
      this.addText("`".repeat(size));
      this.position = end;
      return true;
    }
    const code = this.text.slice(end, close).replaceAll("\n", " ");
    const isPadded = code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "";
    this.add(element("code", {}, isPadded ? code.slice(1, -1) : code));
    this.position = close + size;
    return true;
  }

  closingBackticks(from, size) {
    for (let start = this.text.indexOf("`", from); start >= 0;) {
      let end = start;
      while (this.text[end] === "`") end += 1;
      if (end - start === size) return start;
      start = this.text.indexOf("`", end);
    }
    return -1;
  }

  link() {
    const found = this.isInLink ? null : this.match(LINK);
    const href = found && safeUrl(found[2]);
    if (!href) return false;
    const isImage = found[0].startsWith("!");
    const label = isImage ? [found[1] || found[2]] : inlineNodes(found[1], true);
    this.add(anchor(href, label));
    this.position += found[0].length;
    return true;
  }

  url(pattern) {
    const found = this.isInLink ? null : this.match(pattern);
    if (!found) return false;
    const address = found[1] ?? withoutTrailingPunctuation(found[0]);
    const href = safeUrl(address);
    if (!href) return false;
    this.add(anchor(href, [address]));
    this.position += found[1] ? found[0].length : address.length;
    return true;
  }

  /** A run of * or _ or ~~, by CommonMark's rules for which side of it is text. */
  emphasis() {
    const marker = this.text[this.position];
    if (!"*_~".includes(marker)) return false;
    let end = this.position;
    while (this.text[end] === marker) end += 1;
    const original = end - this.position;
    let count = original;
    const { canOpen, canClose } = sides(marker, this.text[this.position - 1] ?? " ", this.text[end] ?? " ");
    this.position = end;
    if (marker === "~" && original !== 2) {
      this.addText(marker.repeat(count));
      return true;
    }
    while (canClose && count > 0) {
      const used = this.close(marker, count, original, canOpen);
      if (!used) break;
      count -= used;
    }
    if (count > 0 && canOpen && this.frames.length <= MAX_OPEN) {
      this.frames.push({ marker, count, original, canClose, nodes: [] });
    } else if (count > 0) {
      this.addText(marker.repeat(count));
    }
    return true;
  }

  /** Ends the innermost emphasis of this marker; returns how many markers that used up, 0 if there is none. */
  close(marker, count, original, canOpen) {
    const fits = (frame) =>
      !(canOpen || frame.canClose) ||
      (frame.original + original) % 3 !== 0 ||
      (frame.original % 3 === 0 && original % 3 === 0);
    const index = this.frames.findLastIndex((frame) => frame.marker === marker && fits(frame));
    if (index < 0) return 0;
    while (this.frames.length - 1 > index) this.giveUpFrame();
    const frame = this.frames[index];
    const used = frame.count >= 2 && count >= 2 ? 2 : 1;
    const tag = marker === "~" ? "del" : used === 2 ? "strong" : "em";
    frame.nodes = [element(tag, {}, ...frame.nodes)];
    frame.count -= used;
    if (frame.count === 0) {
      this.frames.pop();
      this.frames.at(-1).nodes.push(...frame.nodes);
    }
    return used;
  }

  /** The innermost frame's markers were text after all. */
  giveUpFrame() {
    const frame = this.frames.pop();
    this.addText(frame.marker.repeat(frame.count));
    for (const node of frame.nodes) {
      if (node.nodeType === Node.TEXT_NODE) this.addText(node.data);
      else this.add(node);
    }
  }
}

function sides(marker, before, after) {
  const beforeSpace = SPACE.test(before);
  const afterSpace = SPACE.test(after);
  const beforeMark = PUNCTUATION.test(before);
  const afterMark = PUNCTUATION.test(after);
  const left = !afterSpace && (!afterMark || beforeSpace || beforeMark);
  const right = !beforeSpace && (!beforeMark || afterSpace || afterMark);
  if (marker !== "_") return { canOpen: left, canClose: right };
  return { canOpen: left && (!right || beforeMark), canClose: right && (!left || afterMark) };
}

function safeUrl(address) {
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && (url.protocol === "https:" || url.protocol === "http:") ? url.href : null;
}

function anchor(href, children) {
  return element("a", { href, target: "_blank", rel: "noopener noreferrer" }, ...children);
}

/** An address as people write it in a sentence: without its full stop, and without a bracket that opened before it. */
function withoutTrailingPunctuation(address) {
  let end = address.length;
  for (;;) {
    const last = address[end - 1];
    if (".,;:!?'*_~".includes(last)) end -= 1;
    else if (last === ")" && !address.slice(0, end).includes("(")) end -= 1;
    else return address.slice(0, end);
  }
}
