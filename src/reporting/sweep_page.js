// A sweep: its history, its search space, and one trial wherever it shows.
(() => {
  const byNumber = new Map(data.trials.map((trial) => [trial.number, trial]));
  const color = (trial) => familyColor(trial.family);
  const told = (trial) => `trial ${trial.number}, ${trial.family}: ${trial.value || "no value"}`;
  const { choose, mark } = choosing(byNumber, told);

  const lines = (trial) => (trial ? [told(trial), `${trial.state}. ${trial.settings}`] : []);
  const pick = (trial) => choose(trial.number);

  // The history: trials by number, best so far.
  function drawHistory() {
    const place = $("history");
    const width = place.clientWidth, height = Math.min(360, Math.max(240, width * 0.4));
    const left = 62, right = 14, top = 18, bottom = 44;
    const last = Math.max(1, ...data.trials.map((trial) => trial.number));
    const x = (number) => left + (width - left - right) * (number / last);
    // Places count from the worst; the page shows low values low.
    const y = (up) => top + (height - top - bottom) * (data.higher ? 1 - up : up);
    const svg = make("svg", { width, height, role: "img", "aria-label": "History of the sweep" });
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

  // Parallel coordinates of one family; each axis can be brushed.
  let shown = data.spaces.length ? data.spaces[0].family : null;
  let brushes = new Map();

  function drawSpace() {
    const place = $("space");
    const space = data.spaces.find((one) => one.family === shown);
    if (!space) return;
    const left = 16, right = 96, top = 44, bottom = 16, height = 340;
    const gap = Math.max(118, (place.clientWidth - left - right) / Math.max(1, space.axes.length - 1));
    const width = left + right + gap * (space.axes.length - 1);
    const x = (index) => left + gap * index;
    const y = (up) => top + (height - top - bottom) * (1 - up);
    const svg = make("svg", { width, height, role: "img", "aria-label": `Settings of ${shown}` });
    const group = make("g", {}, null, svg);
    const kept = (trial) => [...brushes].every(([index, [low, high]]) => {
      const up = space.axes[index].places[trial.number];
      return up >= low && up <= high;
    });
    const last = space.axes[space.axes.length - 1];
    const trials = space.trials.map((number) => byNumber.get(number));
    trials.sort((a, b) => (a.state === "complete") - (b.state === "complete")
      || last.places[a.number] - last.places[b.number]);
    const heights = trials.filter((t) => t.state === "complete").map((t) => last.places[t.number]);
    const lowest = Math.min(...heights), span = Math.max(...heights) - lowest || 1;
    for (const trial of trials) {
      const d = space.axes.map((axis, i) => `${i ? "L" : "M"}${x(i)} ${y(axis.places[trial.number])}`);
      const line = make("path", { class: "line", d: d.join(""), "data-trial": trial.number }, null, group);
      if (trial.state === "complete") {
        line.setAttribute("stroke", color(trial));
        line.setAttribute("stroke-opacity", 0.3 + 0.7 * ((last.places[trial.number] - lowest) / span) ** 2);
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
      make("line", { class: "rule", x1: x(index), x2: x(index), y1: y(0), y2: y(1) }, null, svg);
      // Labels alternate in height, so that long ones do not run into each other.
      const anchor = index ? "middle" : "start";
      const title = make("text", { class: "title halo", x: index ? x(index) : 2, y: index % 2 ? 30 : 14, "text-anchor": anchor }, axis.label, svg);
      make("title", {}, axis.label, title);
      for (const [up, text] of axis.ticks) {
        const tick = make("text", { class: "halo", x: x(index) + 6, y: y(up) + 4 }, shortened(text, 18), svg);
        make("title", {}, text, tick);
      }
      const brush = make("rect", { class: "brush", x: x(index) - 7, width: 14, y: 0, height: 0 }, null, svg);
      const zone = make("rect", { class: "zone", x: x(index) - 14, width: 28, y: top - 8, height: height - top - bottom + 16, "data-axis": index }, null, svg);
      const paint = () => {
        const range = brushes.get(index);
        brush.setAttribute("visibility", range ? "visible" : "hidden");
        if (!range) return;
        brush.setAttribute("y", y(range[1]));
        brush.setAttribute("height", Math.max(1, y(range[0]) - y(range[1])));
      };
      const placeOf = (event) => {
        const share = (event.clientY - svg.getBoundingClientRect().top - top) / (height - top - bottom);
        return Math.min(1.02, Math.max(-0.02, 1 - share));
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
        if (Math.abs(now - start) > 0.015) brushes.set(index, [Math.min(start, now), Math.max(start, now)]);
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

  drawFamilies();
  for (const sign of ["▽ pruned", "× failed", "― best so far"]) html("span", sign, $("legend"));
  drawTabs();
  drawNowAndAfterTurns(draw);
})();
