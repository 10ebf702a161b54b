// A sweep: its history, its search space, and one trial wherever it shows.
(() => {
  const byNumber = new Map(data.trials.map((trial) => [trial.number, trial]));
  const color = (trial) => familyColor(trial.family);
  const label = (trial) => `${trial.name}: ${trial.value || "no value"}`;
  const { choose, mark } = choosing(byNumber, label);

  const lines = (trial) => (trial ? [label(trial), `${trial.state}. ${trial.settings}`] : []);
  const pick = (trial) => choose(trial.number);

  // The history: trials by number, best so far.
  function drawHistory() {
    const place = $("history");
    if (!place) return;
    const width = place.clientWidth, height = Math.min(360, Math.max(240, width * 0.4));
    const left = roomFor(data.ticks, 62), right = 14, top = 18, bottom = 44;
    const last = Math.max(1, ...data.trials.map((trial) => trial.number));
    const x = (number) => left + (width - left - right) * (number / last);
    // Places count from the worst; the page shows low values low.
    const y = (up) => top + (height - top - bottom) * (data.higher ? 1 - up : up);
    const svg = drawing(width, height, "History of the sweep");
    levels(svg, data.ticks, y, left, width - right);
    const step = roundStep(Math.max(1, (last * 90) / width));
    for (let number = 0; number <= last; number += step) {
      make("text", { x: x(number), y: height - bottom + 24, "text-anchor": "middle" }, number, svg);
    }
    const middle = (left + width - right) / 2;
    make("text", { x: middle, y: height - 4, "text-anchor": "middle" }, "trial", svg);
    let best = null, path = "";
    for (const trial of data.trials) {
      if (trial.state !== "complete" || trial.place === null) continue;
      if (best === null) path = `M${x(trial.number)} ${y(trial.place)}`;
      else path += `H${x(trial.number)}`;
      best = best === null ? trial.place : Math.max(best, trial.place);
      path += `V${y(best)}`;
    }
    if (best !== null) make("path", { class: "best-so-far", d: `${path}H${width - right}` }, null, svg);
    const points = [];
    for (const trial of data.trials) {
      const failed = trial.state === "failed";
      if (trial.place === null && !failed) continue;
      const at = [x(trial.number), y(failed ? -0.03 : trial.place)];
      points.push([at, trial]);
      const common = { "data-trial": trial.number };
      if (failed) {
        make("path", { ...common, class: "failed", d: `M${at[0] - 4} ${at[1] - 4}l8 8m0-8l-8 8` }, null, svg);
      } else if (trial.state === "complete") {
        make("circle", { ...common, cx: at[0], cy: at[1], r: 4.5, fill: color(trial) }, null, svg);
      } else {
        const d = `M${at[0] - 4.5} ${at[1] - 4}h9l-4.5 8z`;
        make("path", { ...common, class: "hollow", d, stroke: color(trial) }, null, svg);
      }
    }
    pointed(svg, (event) => nearest(event, svg, points), lines, pick);
    place.replaceChildren(svg);
  }

  // Parallel coordinates of one family: an axis a row, the result on top, so that all of them fit
  // into any width. Each axis can be brushed.
  let shown = data.spaces.length ? data.spaces[0].family : null;
  let brushes = new Map();

  function drawSpace() {
    const place = $("space");
    const space = data.spaces.find((one) => one.family === shown);
    if (!space || !place.clientWidth) return;
    const left = 14, right = 14, top = 30, row = 62, width = place.clientWidth;
    const height = top + row * (space.axes.length - 1) + 30;
    const x = (share) => left + (width - left - right) * share;
    const y = (index) => top + row * index;
    const svg = drawing(width, height, `Settings of ${shown}`);
    const group = make("g", {}, null, svg);
    const kept = (trial) => [...brushes].every(([index, [low, high]]) => {
      const at = space.axes[index].places[trial.number];
      return at >= low && at <= high;
    });
    const result = space.axes[0];
    const trials = space.trials.map((number) => byNumber.get(number));
    trials.sort((a, b) => (a.state === "complete") - (b.state === "complete")
      || result.places[a.number] - result.places[b.number]);
    const results = trials.filter((t) => t.state === "complete").map((t) => result.places[t.number]);
    const lowest = Math.min(...results), span = Math.max(...results) - lowest || 1;
    for (const trial of trials) {
      const d = space.axes.map((axis, i) => `${i ? "L" : "M"}${x(axis.places[trial.number])} ${y(i)}`);
      const line = make("path", { class: "line", d: d.join(""), "data-trial": trial.number }, null, group);
      if (trial.state === "complete") {
        line.setAttribute("stroke", color(trial));
        line.setAttribute("stroke-opacity", 0.35 + 0.65 * ((result.places[trial.number] - lowest) / span) ** 2);
      } else {
        line.classList.add("pruned");
      }
    }
    const sift = () => {
      let count = 0;
      for (const line of group.children) {
        const stays = kept(byNumber.get(Number(line.dataset.trial)));
        line.classList.toggle("out", !stays);
        count += stays;
      }
      $("kept").textContent = `${count} of ${trials.length} trials`;
      $("clear").hidden = brushes.size === 0;
    };
    space.axes.forEach((axis, index) => {
      make("line", { class: "rule", x1: x(0), x2: x(1), y1: y(index), y2: y(index) }, null, svg);
      written(svg, { class: "title halo", x: left, y: y(index) - 9 }, axis.label, width - left - right);
      drawTicks(svg, axis.ticks, x, y(index) + 17, width);
      const brush = make("rect", { class: "brush", y: y(index) - 7, height: 14, x: 0, width: 0 }, null, svg);
      const zone = make("rect", { class: "zone", y: y(index) - 14, height: 28, x: 0, width, "data-axis": index }, null, svg);
      const paint = () => {
        const range = brushes.get(index);
        brush.setAttribute("visibility", range ? "visible" : "hidden");
        if (!range) return;
        brush.setAttribute("x", x(range[0]));
        brush.setAttribute("width", Math.max(1, x(range[1]) - x(range[0])));
      };
      const placeOf = (event) => {
        const box = svg.getBoundingClientRect();
        const share = ((event.clientX - box.left) * (width / box.width) - left) / (width - left - right);
        return Math.min(1.02, Math.max(-0.02, share));
      };
      let start = null;
      zone.addEventListener("pointerdown", (event) => {
        start = placeOf(event);
        zone.setPointerCapture(event.pointerId);
        brushes.delete(index);
        paint();
        sift();
      });
      zone.addEventListener("pointermove", (event) => {
        if (start === null) return;
        const now = placeOf(event);
        if (Math.abs(now - start) > 0.01) brushes.set(index, [Math.min(start, now), Math.max(start, now)]);
        paint();
        sift();
      });
      for (const ending of ["pointerup", "pointercancel"]) {
        zone.addEventListener(ending, () => { start = null; });
      }
      paint();
    });
    const under = (event) => byNumber.get(Number(event.target.closest(".line")?.dataset.trial));
    pointed(svg, under, lines, pick);
    place.replaceChildren(svg);
    sift();
  }

  // The texts of an axis, each within the drawing and none over the one before it.
  function drawTicks(svg, ticks, x, y, width) {
    let free = 0;
    for (const [share, text] of [...ticks].sort((a, b) => a[0] - b[0])) {
      const short = shortened(text, 150), half = textWidth(short) / 2;
      const middle = Math.min(width - half - 2, Math.max(half + 2, x(share)));
      if (middle - half < free) continue;
      free = middle + half + 8;
      const tick = make("text", { class: "halo", x: middle, y, "text-anchor": "middle" }, short, svg);
      if (short !== text) make("title", {}, text, tick);
    }
  }

  function drawTabs() {
    for (const { family } of data.spaces) {
      const button = html("button", family, $("tabs"));
      button.type = "button";
      button.setAttribute("aria-pressed", family === shown);
      button.addEventListener("click", () => {
        shown = family;
        for (const other of $("tabs").children) other.setAttribute("aria-pressed", other === button);
        $("clear").click();
      });
    }
    $("clear").addEventListener("click", () => {
      brushes = new Map();
      draw();
    });
  }

  function draw() {
    drawHistory();
    drawSpace();
    mark();
  }

  // The legend names what is drawn, and nothing else.
  function drawLegend() {
    const drawn = data.trials.filter((trial) => trial.place !== null || trial.state === "failed");
    const some = (sign, ...states) => drawn.some((trial) => states.includes(trial.state)) && html("span", sign, $("legend"));
    drawFamilies(new Set(drawn.map((trial) => trial.family)));
    const unended = ["pruned", "stopped", "running"].filter((state) => drawn.some((trial) => trial.state === state));
    some(`▽ ${unended.join(" or ")}`, ...unended);
    some("× failed", "failed");
    some("― best so far", "complete");
  }

  // What a reader has opened, chosen or marked stays as it is.
  function isReadFrom() {
    return document.querySelector("details[open]") || !$("card").hidden || String(getSelection());
  }

  // A race that was killed does not say so; that it writes its page no more shows it.
  function watch() {
    if (Date.now() / 1000 - data.live.written < 3 * data.live.next_within) return;
    const since = new Date(data.live.written * 1000).toLocaleString();
    $("live").textContent = `There is no sign of the race since ${since}: it was ended, or its machine rests. The command that began it goes on with it.`;
  }

  if (data.live) {
    watch();
    setInterval(() => {
      watch();
      if (!document.hidden && !isReadFrom()) location.reload();
    }, 10000);
  }
  if ($("history")) drawLegend();
  if (data.spaces.length) drawTabs();
  drawWhereOpen(draw);
})();
