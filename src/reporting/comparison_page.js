// A comparison: trade-off, curves, reliability and confusion, and one candidate.
(() => {
  const byRank = new Map(data.candidates.map((one) => [one.rank, one]));
  // What is rounded to 0 has no minus.
  const percent = (share, digits = 0) => `${(Number((100 * share).toFixed(digits)) + 0).toFixed(digits)} %`;
  // Shares in percent, other figures as they are.
  const writtenAs = (share) => (value, digits) => (share ? percent(value, digits) : `${Number(value.toPrecision(3))}`);
  const figure = writtenAs(data.percent), ofCurve = writtenAs(data.curve_percent);
  // A name with a reading direction of its own, as <bdi> gives it where there is markup.
  const isolated = (name) => `\u2068${name}\u2069`;
  const label = (one) => `${one.rank}. ${one.name}`;
  const { choose, mark } = choosing(byRank, label);

  function lines(one) {
    if (!one) return [];
    const cost = one.cost === null ? "" : `, ${one.cost.toPrecision(3)} ms`;
    return [label(one), `${figure(one.figure, 1)}${cost}${one.tied ? ", tied with the best" : ""}`];
  }

  function show(place, svg, points) {
    pointed(svg, (event) => nearest(event, svg, points), lines, (one) => choose(one.rank));
    place.replaceChildren(svg);
  }

  // Round numbers between two others with their texts, some `most` of them.
  function ticks(low, high, most, text = figure) {
    const step = roundStep((high - low) / most || 1);
    const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
    const digits = Math.max(0, -Math.floor(Math.log10(100 * step) + 1e-9));
    const found = Array.from({ length: last - first + 1 }, (_, k) => (first + k) * step);
    return found.map((share) => [share, text(share, digits)]);
  }

  // Of many values, all but a few that would flatten the others: those that learnt nothing.
  function worthShowing(values, share) {
    const sorted = [...values].sort((a, b) => b - a), [best, last] = [sorted[0], sorted[sorted.length - 1]];
    if (sorted.length < 10) return [last, best];
    return [Math.max(last, best - 1.5 * (best - sorted[Math.floor(share * (sorted.length - 1))])), best];
  }

  function drawPlane() {
    const place = $("plane"), shown = data.candidates.filter((one) => one.cost > 0);
    if (!place || !place.clientWidth || !shown.length) return;
    const width = place.clientWidth, height = Math.min(380, Math.max(260, width * 0.45));
    const figures = shown.map((one) => one.figure);
    const costs = shown.map((one) => Math.log10(one.cost));
    const pad = (low, high) => [low - 0.06 * (high - low || 1), high + 0.06 * (high - low || 1)];
    const [from, to] = pad(Math.min(...costs), Math.max(...costs));
    const [low, high] = pad(...(data.higher ? worthShowing(figures, 0.9) : [Math.min(...figures), Math.max(...figures)]));
    const axis = ticks(low, high, 5);
    const left = roomFor(axis, 56), right = 16, top = 12, bottom = 40;
    const x = (cost) => left + (width - left - right) * ((Math.log10(cost) - from) / (to - from));
    // What is far worse has a place of its own: at the edge it would seem to have its value.
    const worse = height - bottom - 9, some = shown.some((one) => one.figure < low);
    const floor = some ? worse - 14 : height - bottom;
    const y = (share) => (share < low ? worse : top + (floor - top) * (1 - (share - low) / (high - low)));
    const svg = drawing(width, height, "Figures against latency");
    levels(svg, axis, y, left, width - right);
    if (some) make("text", { x: left - 8, y: worse + 4, "text-anchor": "end" }, "worse", svg);
    let last = -Infinity;
    for (let power = Math.floor(from); power <= to; power++) {
      for (const factor of [1, 2, 5]) {
        const cost = factor * 10 ** power, at = x(cost);
        if (at < left || at > width - right || at - last < 44) continue;
        last = at;
        make("line", { class: "rule", x1: at, x2: at, y1: top, y2: height - bottom }, null, svg);
        make("text", { x: at, y: height - bottom + 16, "text-anchor": "middle" }, `${Number(cost.toPrecision(2))}`, svg);
      }
    }
    const middle = (left + width - right) / 2;
    make("text", { x: middle, y: height - 4, "text-anchor": "middle" }, "milliseconds for one picture", svg);
    let path = "";
    for (const rank of data.front) {
      const one = byRank.get(rank);
      if (!(one.cost > 0)) continue;
      path += path ? `H${x(one.cost)}V${y(one.figure)}` : `M${x(one.cost)} ${y(one.figure)}`;
    }
    if (path) make("path", { class: "front", d: `${path}H${width - right}` }, null, svg);
    const points = [];
    for (const one of [...shown].reverse()) {
      const stroke = familyColor(one.family), at = [x(one.cost), y(one.figure)];
      const dot = { cx: at[0], cy: at[1], r: 5, stroke, "stroke-width": 1.6, "data-trial": one.rank };
      make("circle", one.tied ? { ...dot, fill: stroke } : { ...dot, class: "open" }, null, svg);
      points.push([at, one]);
    }
    show(place, svg, points);
  }

  // Panels side by side, as many as have room for `least` pixels; `draw` fills each.
  function panels(name, items, [least, most], ratio, draw) {
    const place = $(name), gap = 20;
    if (!place || !place.clientWidth) return;
    place.className = "panels";
    const room = place.clientWidth + gap;
    const columns = Math.max(1, Math.min(items.length, Math.floor(room / (least + gap))));
    const side = Math.min(most, Math.floor(room / columns) - gap);
    place.replaceChildren(...items.map((item) => {
      const height = Math.round(side * ratio);
      const svg = drawing(side, height, name);
      draw(svg, item, side, height);
      return svg;
    }));
  }

  function drawCurves() {
    const every = data.curves.flatMap((one) => one.lines.flat());
    if (!every.length) return;
    const epochs = Math.max(...every.map(([epoch]) => epoch));
    const values = every.map(([, value]) => value).filter((value) => value !== null);
    const [low, high] = worthShowing(values, 0.6), axis = ticks(low, high, 4, ofCurve);
    panels("curves", data.curves, [250, 360], 0.62, (svg, { family, lines }, width, height) => {
      const left = roomFor(axis, 48), right = 10, top = 26, bottom = 34;
      const x = (epoch) => left + (width - left - right) * ((epoch - 1) / Math.max(1, epochs - 1));
      const y = (share) => top + (height - top - bottom) * (1 - (share - low) / (high - low || 1));
      written(svg, { class: "title", x: 0, y: 12 }, family, width);
      levels(svg, axis, y, left, width - right);
      for (const epoch of new Set([1, Math.ceil(epochs / 2), epochs])) {
        make("text", { x: x(epoch), y: height - 18, "text-anchor": "middle" }, epoch, svg);
      }
      make("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "epoch", svg);
      // What lies below is cut off; where that is all, it is said.
      if (!lines.flat().some(([, value]) => value >= low)) {
        make("text", { x: (left + width - right) / 2, y: height - bottom - 8, "text-anchor": "middle" }, `below ${ofCurve(low)}`, svg);
      }
      const inside = make("svg", { width, height: height - bottom }, null, svg);
      [...lines].reverse().forEach((line, index) => {
        const best = index === lines.length - 1;
        let d = "", pen = "M";
        for (const [epoch, value] of line) {
          if (value === null) pen = "M";
          else [d, pen] = [`${d}${pen}${x(epoch)} ${y(value)}`, "L"];
        }
        make("path", { class: best ? "curve best" : "curve", d, stroke: familyColor(family) }, null, inside);
      });
    });
  }

  function drawReliability() {
    panels("reliability", data.leaders, [250, 320], 1.06, (svg, one, width, height) => {
      const left = 50, right = 10, top = 44, bottom = 34;
      const x = (share) => left + (width - left - right) * share;
      const y = (share) => top + (height - top - bottom) * (1 - share);
      written(svg, { class: "title", x: 0, y: 12 }, one.name, width);
      make("text", { x: 0, y: 27 }, `calibration error ${one.error}`, svg);
      const quarters = [0, 0.25, 0.5, 0.75, 1];
      levels(svg, quarters.map((share) => [share, percent(share)]), y, x(0), x(1));
      for (const share of quarters) {
        make("text", { x: x(share) + (share === 1 ? right : 0), y: height - 18, "text-anchor": share === 1 ? "end" : "middle" }, percent(share), svg);
      }
      make("text", { x: x(0.5), y: height - 4, "text-anchor": "middle" }, "confidence", svg);
      make("line", { class: "even", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }, null, svg);
      const fill = familyColor(one.family);
      const path = one.confidence.map((share, i) => `${i ? "L" : "M"}${x(share)} ${y(one.right[i])}`).join("");
      make("path", { class: "curve best", d: path, stroke: fill }, null, svg);
      one.confidence.forEach((share, i) => {
        const dot = make("circle", { cx: x(share), cy: y(one.right[i]), r: 2 + 9 * Math.sqrt(one.shares[i]), fill }, null, svg);
        make("title", {}, `${percent(one.right[i], 1)} right where ${percent(share, 1)} sure; ${percent(one.shares[i], 1)} of the pictures`, dot);
      });
    });
  }

  function drawConfusion() {
    const count = data.classes.length, counted = count <= 12;
    const short = data.classes.map((name) => shortened(name, 90));
    const longest = Math.max(...short.map(textWidth));
    panels("confusion", data.leaders, [260, 420], 1, (svg, one, width, height) => {
      if (!one.matrix.length) return;
      const named = count <= 26, margin = named ? 10 + longest : 10;
      const top = 20 + margin, cell = Math.min((width - margin - 4) / count, (height - top - 4) / count);
      written(svg, { class: "title", x: 0, y: 12 }, one.name, width);
      one.matrix.forEach((row, i) => {
        const total = row.reduce((sum, value) => sum + value, 0) || 1;
        const y = top + cell * i;
        if (named) {
          make("text", { x: margin - 5, y: y + cell / 2 + 4, "text-anchor": "end" }, short[i], svg);
          const at = [margin + cell * (i + 0.5) + 4, top - 6];
          make("text", { x: at[0], y: at[1], transform: `rotate(-90 ${at[0]} ${at[1]})` }, short[i], svg);
        }
        row.forEach((value, j) => {
          const look = { x: margin + cell * j, y, width: cell - 1, height: cell - 1 };
          const share = Math.sqrt(value / total);
          const kind = i === j ? "cell" : "cell off";
          const box = make("rect", { ...look, class: kind, "fill-opacity": value ? 0.08 + 0.37 * share : 0.02 }, null, svg);
          make("title", {}, `${isolated(data.classes[i])} taken for ${isolated(data.classes[j])}: ${value} of ${total}`, box);
          if (counted && value) {
            const text = value < 10000 ? value : `${Math.round(value / 1000)}k`;
            make("text", { class: "count", x: look.x + cell / 2, y: y + cell / 2 + 4, "text-anchor": "middle" }, text, svg);
          }
        });
      });
    });
  }

  if ($("legend")) drawFamilies();
  drawWhereOpen(() => {
    drawPlane();
    drawCurves();
    drawReliability();
    drawConfusion();
    mark();
  });
})();
