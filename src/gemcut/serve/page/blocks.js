// Markdown's blocks: which lines belong together, and as what. Their elements are made in markdown.js.

const MAX_DEPTH = 16; // lists and quotes inside one another; deeper ones stay text
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\s]*)[^`]*$/u;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/u;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/u;
const QUOTE = /^ {0,3}> ?/u;
const ITEM = /^( *)([-*+]|(\d{1,9})[.)])( +|$)(.*)$/u;
const DELIMITER_ROW = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/u;

/**
 * The blocks of these lines, in order: {kind, start, ...}, `start` the number of the block's first line.
 *
 * Kinds: paragraph {text}, heading {level, text}, code {language, text, isClosed}, rule, quote {blocks},
 * list {isOrdered, first, isTight, items: [blocks]}, table {alignments, rows: [[text]]}, whose first row is its head.
 */
export function parseBlocks(lines, depth = 0) {
  const blocks = [];
  for (let start = 0; start < lines.length;) {
    if (isBlank(lines[start])) {
      start += 1;
      continue;
    }
    const [block, end] = blockAt(lines, start, depth);
    blocks.push({ ...block, start });
    start = end;
  }
  return blocks;
}

/** The block that begins at `start`, and the number of the first line after it. */
function blockAt(lines, start, depth) {
  const line = lines[start];
  let found;
  if ((found = FENCE.exec(line))) return codeAt(lines, start, found);
  if ((found = HEADING.exec(line))) {
    return [{ kind: "heading", level: found[1].length, text: headingText(found[2] ?? "") }, start + 1];
  }
  if (RULE.test(line)) return [{ kind: "rule" }, start + 1];
  if (depth < MAX_DEPTH && QUOTE.test(line)) return quoteAt(lines, start, depth);
  if (depth < MAX_DEPTH && (found = ITEM.exec(line))) return listAt(lines, start, depth, found);
  if (isTable(lines, start)) return tableAt(lines, start);
  return paragraphAt(lines, start, depth);
}

function codeAt(lines, start, [fence, marker, language]) {
  const indent = indentOf(fence);
  const closing = new RegExp(`^ {0,3}[${marker[0]}]{${marker.length},}[ \\t]*$`, "u");
  let end = start + 1;
  while (end < lines.length && !closing.test(lines[end])) end += 1;
  const text = lines
    .slice(start + 1, end)
    .map((line) => dedent(line, indent))
    .join("\n");
  return [{ kind: "code", language, text, isClosed: end < lines.length }, end + 1];
}

function quoteAt(lines, start, depth) {
  let end = start;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(start, end).map((line) => line.replace(QUOTE, ""));
  return [{ kind: "quote", blocks: parseBlocks(inner, depth + 1) }, end];
}

function listAt(lines, start, depth, first) {
  const isOrdered = first[3] !== undefined;
  const items = [];
  let isTight = true;
  let end = start;
  for (let found = first; found && (found[3] !== undefined) === isOrdered;) {
    const item = itemAt(lines, end, found);
    items.push(parseBlocks(item.lines, depth + 1));
    isTight &&= item.isTight;
    end = item.end;
    const next = nextNonBlank(lines, end);
    found = next < lines.length && !RULE.test(lines[next]) && ITEM.exec(lines[next]);
    if (found && found[1].length > first[1].length + 1) found = null;
    if (found && (found[3] !== undefined) === isOrdered) {
      isTight &&= next === end;
      end = next;
    }
  }
  return [{ kind: "list", isOrdered, first: Number(first[3] ?? 1), isTight, items }, end];
}

/** The lines of one list item without their indentation. A nested marker may be indented by two only, as models do. */
function itemAt(lines, start, [, indent, marker, , gap, rest]) {
  const width = indent.length + marker.length + (gap.length > 4 || gap === "" ? 1 : gap.length);
  const inner = [gap.length > 4 ? gap.slice(1) + rest : rest];
  let isTight = true;
  let isInFence = FENCE.test(inner[0]);
  let end = start + 1;
  for (let next = end; next < lines.length; next += 1) {
    const line = lines[next];
    if (isBlank(line)) {
      if (!isInFence) continue;
    } else {
      const isNested = ITEM.test(line) && indentOf(line) >= indent.length + 2;
      const isLazy =
        next === end && !isInFence && !isBlank(inner.at(-1)) && !ITEM.test(line) && !startsBlock(lines, next);
      if (indentOf(line) < width && !isNested && !isLazy) break;
    }
    if (next > end) isTight = false;
    for (; end < next; end += 1) inner.push("");
    inner.push(dedent(line, width));
    if (FENCE.test(inner.at(-1))) isInFence = !isInFence;
    end = next + 1;
  }
  return { lines: inner, isTight, end };
}

function isTable(lines, start) {
  const head = lines[start];
  const delimiters = lines[start + 1];
  if (delimiters === undefined || !head.includes("|") || !delimiters.includes("|")) return false;
  return DELIMITER_ROW.test(delimiters) && cells(delimiters).length === cells(head).length;
}

function tableAt(lines, start) {
  const alignments = cells(lines[start + 1]).map((cell) => {
    if (!cell.endsWith(":")) return cell.startsWith(":") ? "left" : null;
    return cell.startsWith(":") ? "center" : "right";
  });
  const rows = [cells(lines[start])];
  let end = start + 2;
  for (; end < lines.length && !isBlank(lines[end]) && lines[end].includes("|"); end += 1) {
    const row = cells(lines[end]).slice(0, alignments.length);
    while (row.length < alignments.length) row.push("");
    rows.push(row);
  }
  return [{ kind: "table", alignments, rows }, end];
}

/** The cells of a table's line: between bars that are neither escaped nor, by the same rule, in code. */
function cells(line) {
  const inner = line.trim().replace(/^\|/u, "");
  const parts = [""];
  for (let i = 0; i < inner.length; i += 1) {
    if (inner[i] === "\\" && inner[i + 1] === "|") parts[parts.length - 1] += inner[(i += 1)];
    else if (inner[i] === "|") parts.push("");
    else parts[parts.length - 1] += inner[i];
  }
  if (parts.length > 1 && parts.at(-1).trim() === "") parts.pop();
  return parts.map((part) => part.trim());
}

function paragraphAt(lines, start, depth) {
  let end = start + 1;
  while (end < lines.length && !isBlank(lines[end]) && !startsBlock(lines, end, depth)) end += 1;
  return [
    {
      kind: "paragraph",
      text: lines
        .slice(start, end)
        .map((line) => line.trim())
        .join("\n"),
    },
    end,
  ];
}

/** Whether this line ends a paragraph above it. A number in front only does so where a list could begin with it: 1. */
function startsBlock(lines, number, depth = 0) {
  const line = lines[number];
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line) || isTable(lines, number)) return true;
  if (depth >= MAX_DEPTH) return false;
  const item = ITEM.exec(line);
  return QUOTE.test(line) || (item !== null && item[5] !== "" && (item[3] === undefined || item[3] === "1"));
}

function headingText(text) {
  const trimmed = text.trimEnd();
  let end = trimmed.length;
  while (trimmed[end - 1] === "#") end -= 1;
  return end === 0 || " \t".includes(trimmed[end - 1]) ? trimmed.slice(0, end).trim() : trimmed.trim();
}

function isBlank(line) {
  return line.trim() === "";
}

function indentOf(line) {
  return line.length - line.trimStart().length;
}

function dedent(line, width) {
  return line.slice(Math.min(width, indentOf(line)));
}

function nextNonBlank(lines, number) {
  while (number < lines.length && isBlank(lines[number])) number += 1;
  return number;
}
