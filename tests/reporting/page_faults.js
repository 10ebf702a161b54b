// A function that returns the faults of a page; see `faults` in pages.py. Luminance and contrast are
// those of WCAG 2.2.
() => {
  const faults = [], shown = (e) => e.checkVisibility() && e.getClientRects().length > 0;
  const words = (e) => e.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) faults.push(`the page scrolls: ${root.scrollWidth}`);

  for (const e of document.querySelectorAll("main *")) {
    if (!shown(e) || e.closest("svg") || !words(e)) continue;
    const style = getComputedStyle(e);
    if (style.overflowX === "auto" || style.display === "inline") continue;
    if (e.scrollWidth > e.clientWidth + 1 && style.overflowX !== "visible") faults.push(`cut: ${words(e)}`);
    const box = e.getBoundingClientRect();
    if (!e.closest(".scroll") && (box.right > innerWidth + 1 || box.left < -1)) {
      faults.push(`beside the screen: ${words(e)}`);
    }
  }

  for (const row of document.querySelectorAll("#board tbody tr, .scroll tbody tr")) {
    if (!shown(row)) continue;
    const name = row.querySelector(".who, .stays"), scroll = row.closest(".scroll");
    if (scroll) scroll.scrollLeft = scroll.scrollWidth;
    const box = name.getBoundingClientRect();
    if (!words(name) || box.left < -1 || box.right > innerWidth + 1) faults.push(`no name: ${words(row)}`);
    if (scroll) scroll.scrollLeft = 0;
  }

  for (const scroll of document.querySelectorAll(".scroll")) {
    if (!shown(scroll)) continue;
    const table = scroll.querySelector("table"), hint = scroll.previousElementSibling;
    const hidden = scroll.scrollWidth > scroll.clientWidth + 1 && getComputedStyle(scroll).overflowX === "auto";
    if (hidden && innerWidth <= 640 && !table.classList.contains("sortable")) faults.push(`too wide for a phone: ${words(table)}`);
    if (hidden !== shown(hint)) faults.push(`${hidden ? "no " : "a false "}sign of scrolling: ${words(table)}`);
    // Lines that are the table's, not the cells', are hidden behind the cells that stay.
    if (getComputedStyle(table).borderCollapse === "collapse") faults.push(`lines end before the name: ${words(table)}`);
  }

  for (const e of document.querySelectorAll("th button")) {
    const lines = e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).lineHeight);
    if (matchMedia("print").matches || !shown(e)) continue; // paper is narrow, and not sorted
    if (lines > words(e).split(/[ -]/).length + 0.5) faults.push(`an arrow alone: ${words(e)}`);
  }

  for (const svg of document.querySelectorAll("main svg")) {
    if (!shown(svg)) continue;
    const frame = svg.getBoundingClientRect();
    for (const line of svg.querySelectorAll(".whisker")) {
      const box = line.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1) faults.push("an interval leaves its column");
    }
    const texts = [...svg.querySelectorAll("text")].map((e) => [e, e.getBoundingClientRect()]);
    texts.forEach(([e, a], i) => {
      if (a.left < frame.left - 1 || a.right > frame.right + 1 || a.top < frame.top - 2 || a.bottom > frame.bottom + 2) {
        faults.push(`leaves its drawing: ${words(e)}`);
      }
      for (const [other, b] of texts.slice(i + 1)) {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1.5 && high > 3) faults.push(`${words(e)} over ${words(other)}`);
      }
    });
  }

  for (const e of document.querySelectorAll(".bars dd")) {
    const text = document.createRange();
    text.selectNodeContents(e.lastChild); // it stands after a drawing
    const lines = [...text.getClientRects()].filter((box) => box.width > 1).length;
    if (shown(e) && lines > 1) faults.push(`a share in several lines: ${words(e)}`);
  }

  const numbers = (text) => text.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const color = numbers(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  for (const e of document.querySelectorAll("main *")) {
    const own = [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !shown(e) || e.localName === "title") continue;
    const style = getComputedStyle(e);
    const [one, two] = [numbers(e.localName === "text" ? style.fill : style.color), behind(e)].map(luminance);
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) faults.push(`contrast ${contrast.toFixed(2)}: ${words(e)}`);
  }
  return [...new Set(faults)].slice(0, 20);
}
