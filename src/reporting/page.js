"use strict";
// What every page has: its data, elements, a tip, tables that sort, one thing chosen, a legend of
// families, drawings that follow the width and appear in parts that are opened.
// Text goes in as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);

function make(name, attributes = {}, text = null, parent = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// A picture of its own size that shrinks where paper or a box is narrower.
function drawing(width, height, label) {
  return make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
}

// A text that fits into some pixels; the whole of it is its title.
function written(svg, look, text, room) {
  const made = make("text", look, shortened(text, room), svg);
  make("title", {}, text, made);
  return made;
}

function html(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

// Beside the pointer: a first line and a second one; nothing hides it.
function tip(event, first = null, second = "") {
  const box = $("tip");
  box.hidden = first === null;
  if (first === null) return;
  box.replaceChildren();
  html("strong", first, box);
  html("div", second, box);
  const { offsetWidth: width, offsetHeight: height } = box;
  box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  const below = event.clientY + 16;
  box.style.top = `${below + height > innerHeight ? event.clientY - height - 12 : below}px`;
}

const familyColor = (family) => data.colors[family] || "#7b8794";
// The width of a text in a drawing, in pixels, and as much of it as has room in so many.
const pen = document.createElement("canvas").getContext("2d");
pen.font = "600 12px system-ui, sans-serif";
const textWidth = (text) => pen.measureText(text).width;
function shortened(text, room) {
  const letters = [...text];
  if (textWidth(text) <= room) return text;
  while (letters.length > 1 && textWidth(`${letters.join("")}…`) > room) letters.pop();
  return `${letters.join("")}…`;
}

// The smallest of 1, 2 or 5 times a power of ten that is not below another number.
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= least * 0.999);
}

// The room at the left of a drawing that the texts of its [value, text] take, `least` at least.
const roomFor = (marks, least) => Math.max(least, ...marks.map(([, text]) => textWidth(text) + 12));

// Horizontal rules of a drawing at [value, text], with the texts beside their left ends.
function levels(svg, marks, y, left, right) {
  for (const [value, text] of marks) {
    make("line", { class: "rule", x1: left, x2: right, y1: y(value), y2: y(value) }, null, svg);
    make("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, text, svg);
  }
}

// What `find` finds under the pointer is described by its `lines` and chosen by a click.
function pointed(svg, find, lines, choose) {
  svg.addEventListener("pointermove", (event) => tip(event, ...lines(find(event))));
  svg.addEventListener("pointerleave", (event) => tip(event));
  svg.addEventListener("click", (event) => {
    const thing = find(event);
    if (thing) choose(thing);
  });
}

// Of points [[x, y], what] in a drawing the one nearest to the pointer, if it is near.
function nearest(event, svg, points) {
  const box = svg.getBoundingClientRect();
  const [px, py] = [event.clientX - box.left, event.clientY - box.top];
  let found = null, closest = 24;
  for (const [[a, b], what] of points) {
    const distance = Math.hypot(a - px, b - py);
    if (distance < closest) [found, closest] = [what, distance];
  }
  return found;
}

// A number as Python writes it; NaN for a text.
const numeric = (text) => Number(text.replace(/^(-?)inf$/, "$1Infinity"));

// Cells without a value stay last, whichever way the others go.
function sortBy(header) {
  const body = header.closest("table").tBodies[0];
  const up = header.getAttribute("aria-sort") !== "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => row.cells[header.cellIndex].dataset.value ?? "";
  // By its values, not by its look: sizes and intervals are texts that sort by a number.
  const numbers = [...body.rows].every((row) => !Number.isNaN(numeric(key(row))));
  const rows = [...body.rows].sort((a, b) => {
    const [one, two] = [key(a), key(b)];
    if (one === "" || two === "") return (one === "") - (two === "");
    const order = numbers ? Math.sign(numeric(one) - numeric(two)) || 0 : one.localeCompare(two);
    return up ? order : -order;
  });
  body.append(...rows);
}

// What can be chosen, by number, in the table or a drawing: marked wherever it shows, and described
// in the card by `label` and by pairs of a term and a text. Drawings that are made anew mark again.
function choosing(things, label) {
  let chosen = null;

  function mark() {
    for (const element of document.querySelectorAll("[data-trial]")) {
      element.classList.toggle("chosen", Number(element.dataset.trial) === chosen);
    }
    const line = document.querySelector("svg .line.chosen");
    if (line) line.parentNode.append(line);
  }

  function choose(number) {
    chosen = number;
    const thing = things.get(number), card = $("card");
    card.hidden = false;
    card.replaceChildren();
    html("strong", label(thing), card);
    const list = html("dl", "", card);
    for (const [term, text] of thing.about) {
      html("dt", term, list);
      html(term === data.command ? "code" : "span", text, html("dd", "", list));
    }
    mark();
  }

  for (const button of document.querySelectorAll("tr[data-trial] button")) {
    button.addEventListener("click", () => {
      const card = $("card"), part = button.closest("section, details");
      part.after(card);
      choose(Number(button.closest("tr").dataset.trial));
      card.scrollIntoView({ block: "nearest" });
    });
  }
  return { choose, mark };
}

function drawFamilies(shown = new Set(Object.keys(data.colors))) {
  for (const [family, shade] of Object.entries(data.colors)) {
    if (!shown.has(family)) continue;
    const entry = html("span", "", $("legend"));
    const dot = make("svg", { class: "dot", width: 10, height: 10 }, null, entry);
    make("circle", { cx: 5, cy: 5, r: 5, fill: shade }, null, dot);
    html("span", family, entry);
  }
}

// Draws at once, when the width has changed, and when a folded part is opened or printed: a drawing
// whose place has no width is left for later.
function drawWhereOpen(drawOnce) {
  const draw = () => {
    drawOnce();
    for (const box of document.querySelectorAll(".scroll")) {
      box.previousElementSibling.hidden = box.scrollWidth <= box.clientWidth + 1;
    }
  };
  draw();
  let drawnWidth = innerWidth;
  addEventListener("resize", () => {
    // A page that closes has hardly any width left.
    if (innerWidth === drawnWidth || document.querySelector("main").clientWidth < 200) return;
    drawnWidth = innerWidth;
    draw();
  });
  const parts = [...document.querySelectorAll("details")];
  for (const part of parts) part.addEventListener("toggle", () => part.open && draw());
  addEventListener("beforeprint", () => {
    for (const part of parts) part.open = true;
    draw();
  });
}

for (const header of document.querySelectorAll("table.sortable th")) {
  header.querySelector("button").addEventListener("click", () => sortBy(header));
}
