// Length against accuracy, and what the runs' configs say.
function lengths(panel) {
  const redraw = () => lengths(panel);
  const [lengthName, rightName] =
    logged("eval/length") && logged("eval/accuracy")
      ? ["eval/length", "eval/accuracy"]
      : ["train/completions/mean_length", "train/reward"];
  const bins = data.runs.map((run, i) => [run, i]).filter(([run]) => run.lengths);
  panel.replaceChildren(
    el("div", { class: "bar" }, together(redraw)),
    legend(redraw) ?? "",
    el(
      "div",
      { class: "grid" },
      against(lengthName, rightName),
      bins.map(([run]) => histogram(run)),
    ),
  );
}

function against(lengthName, rightName) {
  const found = shown()
    .map((line) => {
      const a = line.curves[lengthName],
        b = line.curves[rightName];
      if (!a || !b) return null;
      const points = a.x
        .map((step, i) => [step, a.y[i], b.y[b.x.indexOf(step)]])
        .filter((p) => p[1] !== null && p[2] !== null && p[2] !== undefined);
      return { ...line, points };
    })
    .filter((l) => l && l.points.length);
  const title = `${short(rightName)} against ${short(lengthName)}`;
  const readout = el("p", { class: "readout" }, "each point a step; a ring marks the last");
  const figure = el(
    "figure",
    { class: "card chart" },
    el(
      "div",
      { class: "head" },
      el("h3", {}, title),
      tip(`Across: ${explained(lengthName)}. Up: ${explained(rightName)}`, title),
    ),
    readout,
  );
  if (!found.length) {
    readout.textContent = "Not logged by the runs shown.";
    return figure;
  }
  const all = found.flatMap((l) => l.points);
  const s = scales(range(all.map((p) => p[1])), range(all.map((p) => p[2])));
  const room = (s.x1 - s.x0) * 0.05;
  s.x0 -= room;
  s.x1 += room;
  s.px = (v) => LEFT + ((v - s.x0) / (s.x1 - s.x0)) * (W - LEFT - RIGHT);
  const all_points = [];
  const parts = found.map((l) => {
    const x = l.points.map((p) => p[1]),
      y = l.points.map((p) => p[2]);
    const marks = l.points.map((p, i) => {
      const end = i === l.points.length - 1;
      const dot = svg("circle", {
        cx: s.px(p[1]),
        cy: s.py(p[2]),
        r: end ? 5 : 3,
        style: { fill: end ? "var(--card)" : l.colour, stroke: l.colour, "stroke-width": 2 },
      });
      all_points.push({ dot, p, l });
      return dot;
    });
    return [
      svg("path", {
        class: "line",
        d: path(x, y, s),
        "stroke-dasharray": l.dash,
        style: { stroke: l.colour, opacity: 0.55 },
      }),
      marks,
    ];
  });
  let at = -1;
  const show = (place) => {
    at = Math.max(0, Math.min(all_points.length - 1, place));
    const { p, l } = all_points[at];
    all_points.forEach((other) => other.dot.classList.toggle("on", other === all_points[at]));
    readout.replaceChildren(
      el("span", { style: { "--colour": l.colour } }, el("i"), "step ", el("b", {}, String(p[0]))),
      el("span", {}, `${short(lengthName)} `, el("b", {}, number(p[1]))),
      el("span", {}, `${short(rightName)} `, el("b", {}, number(p[2]))),
    );
  };
  figure.append(
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        role: "img",
        tabindex: "0",
        "aria-label": `${title}. Arrow keys read the points.`,
        onkeydown: (e) => {
          const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: 1e9 }[e.key];
          if (to !== undefined) {
            e.preventDefault();
            show(to);
          }
        },
        onpointermove: (e) => {
          const box = e.currentTarget.getBoundingClientRect(),
            k = W / box.width,
            x = (e.clientX - box.left) * k,
            y = (e.clientY - box.top) * k;
          const far = ({ p }) => (s.px(p[1]) - x) ** 2 + (s.py(p[2]) - y) ** 2;
          show(
            all_points.reduce(
              (best, point, i) => (far(point) < far(all_points[best]) ? i : best),
              0,
            ),
          );
        },
      },
      axes(s, false),
      parts,
    ),
  );
  return figure;
}

function histogram(run) {
  const { edges, reward } = run.lengths,
    parts = ["first", "last"].map((name) => run.lengths[name]);
  const most = Math.max(...parts.flatMap((p) => p.count)) || 1;
  const s = scales([edges[0], edges.at(-1)], [0, 1]);
  s.py = (v) => H - BOTTOM - v * (H - TOP - BOTTOM);
  s.y0 = 0;
  s.y1 = 1;
  const colours = ["var(--new)", "var(--c0)"];
  const bars = parts.map((part, k) =>
    part.count.map((count, i) => {
      const width = (s.px(edges[i + 1]) - s.px(edges[i])) / 2 - 1,
        x = s.px(edges[i]) + k * (width + 1);
      const text = `${edges[i]} to ${edges[i + 1] - 1} tokens, steps ${part.steps.join(" to ")}: ${part.correct[i]} of ${count} correct`;
      return svg(
        "g",
        {},
        svg("title", {}, text),
        svg("rect", {
          x,
          width: Math.max(1, width),
          y: s.py(count / most),
          height: (count / most) * (H - TOP - BOTTOM),
          style: { fill: colours[k], opacity: 0.25 },
        }),
        svg("rect", {
          x,
          width: Math.max(1, width),
          y: s.py(part.correct[i] / most),
          height: (part.correct[i] / most) * (H - TOP - BOTTOM),
          style: { fill: colours[k] },
        }),
      );
    }),
  );
  const rows = edges.slice(0, -1).map((low, i) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, `${low}–${edges[i + 1] - 1}`),
      parts.map((p) =>
        el(
          "td",
          { class: "num" },
          p.count[i] ? `${number(p.correct[i] / p.count[i])} ` : "– ",
          el("small", {}, `of ${p.count[i]}`),
        ),
      ),
    ),
  );
  const heads = parts.map((p) => `steps ${p.steps[0]} to ${p.steps[1]}`);
  return el(
    "figure",
    { class: "card chart" },
    el(
      "div",
      { class: "head" },
      el("h3", {}, `${run.name}: answers by length`),
      tip(
        `Rollouts by their tokens, in the first and the last fifth of the run. Solid: correct by ${reward}; pale: not.`,
        "this",
      ),
    ),
    el(
      "div",
      { class: "legend" },
      heads.map((text, k) => key(text, colours[k], { box: true })),
    ),
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        role: "img",
        "aria-label": `answers by length of ${run.name}; the table below has the numbers`,
      },
      bars,
      across(s, true),
      svg("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }),
      svg("text", { x: LEFT - 6, y: s.py(1) + 8, "text-anchor": "end" }, String(most)),
    ),
    el("details", {}, el("summary", {}, "Accuracy by length"), table(["tokens", ...heads], rows)),
  );
}

function config(panel) {
  const names = data.runs.map((run) => run.name);
  const rows = data.differences.map(([name, ...values]) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, el("code", {}, name)),
      values.map((v) => el("td", { class: "mono" }, v === null ? "–" : v)),
    ),
  );
  const difference =
    data.runs.length < 2
      ? ""
      : [
          el("h2", {}, "Differences"),
          rows.length
            ? el("div", { class: "card" }, table(["key", ...names], rows))
            : el("p", { class: "note" }, "The configs differ in nothing but names."),
        ];
  panel.replaceChildren(
    ...[difference].flat(),
    el("h2", {}, data.runs.length > 1 ? "Configs" : "Config"),
    ...data.runs.map((run, i) => {
      const body = Object.entries(run.config).map(([k, v]) =>
        el("tr", {}, el("th", { scope: "row" }, el("code", {}, k)), el("td", { class: "mono" }, v)),
      );
      return el(
        "details",
        { class: "card", open: i === 0 && data.runs.length === 1 ? "" : null },
        el("summary", {}, run.name),
        body.length
          ? table(["key", "value"], body)
          : el("p", { class: "note" }, "This run has no config.yaml."),
      );
    }),
  );
}
