// The tabs with curves: overview, curves, difficulty.
const GLANCE = [
  "eval/accuracy",
  "train/reward",
  "train/completions/mean_length",
  "train/entropy",
  "train/teacher/gap",
  "train/completions/clipped_ratio",
  "train/groups/no_signal",
  "train/step_time",
];

const logged = (name) => data.runs.some((run) => run.curves[name]);

function ends(curve) {
  if (!curve) return el("td", { class: "num" }, "–");
  const first = curve.y.find((v) => v !== null),
    last = curve.y.findLast((v) => v !== null);
  const spread =
    curve.hi && curve.lo && state.together ? curve.hi.findLast((v) => v !== null) - last : 0;
  return el(
    "td",
    { class: "num" },
    el("small", {}, `${number(first)} → `),
    number(last),
    spread > 0 ? el("small", {}, ` ± ${number(spread)}`) : null,
  );
}

function overview(panel) {
  const redraw = () => overview(panel);
  const names = GLANCE.filter(logged);
  const head = [
    "Run",
    ...names.map((name) => (name.startsWith("eval/") ? name : short(name).split("/").at(-1))),
  ];
  const rows = lines().map((line) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, key(line.label, line.colour, { ...line, bare: true })),
      names.map((name) => ends(onlySeeds(line, name))),
    ),
  );
  panel.replaceChildren(
    el("div", { class: "bar" }, together(redraw)),
    names.length
      ? el(
          "div",
          { class: "card" },
          el("h3", {}, "From the first to the last step"),
          table(head, rows),
        )
      : el("p", { class: "note" }, "No metrics were logged."),
    el("h2", {}, "At a glance"),
    legend(redraw) ?? "",
    el("div", { class: "grid" }, names.map(metric)),
    el("h2", {}, data.runs.length > 1 ? "What was run" : "The run"),
    el("div", { class: "grid wide" }, data.runs.map(what)),
  );
}

// The range of a bucket of steps is no spread over seeds.
function onlySeeds(line, name) {
  const curve = line.curves[name];
  return curve && line.runs.length < 2 ? { y: curve.y } : curve;
}

function what(run) {
  const about = run.about,
    versions = about.versions || {};
  const facts = {
    folder: about.folder,
    command: about.argv && about.argv.join(" "),
    commit: about.commit,
    started: about.started,
    seed: about.seed,
    processes: about.processes,
    device: about.device && `${about.device}${about.threads ? `, ${about.threads} threads` : ""}`,
    host: about.host,
    student: run.config["model.path"],
    teacher: run.config["teacher.path"],
    algorithm: run.config["algorithm.use"],
    versions: [["rlkd", about.rlkd], ["python", about.python], ...Object.entries(versions)]
      .filter((v) => v[1])
      .map(([k, v]) => `${k} ${v}`)
      .join(", "),
    rollouts: `${run.stored} stored, ${run.rollouts.length} in this report`,
  };
  return el(
    "section",
    { class: "card" },
    el("h3", {}, run.name),
    el(
      "dl",
      { class: "facts" },
      Object.entries(facts)
        .filter(([, v]) => v !== undefined && v !== null && v !== "" && v !== "null")
        .map(([k, v]) => [
          el("dt", {}, k),
          el(
            "dd",
            { class: ["folder", "command", "commit", "versions"].includes(k) ? "mono" : null },
            String(v),
          ),
        ]),
    ),
  );
}

function curves(panel) {
  const body = el("div");
  const draw = () =>
    body.replaceChildren(
      ...data.sections.flatMap((section) => {
        const names = section.names.filter((name) => !name.startsWith("train/difficulty/"));
        const drawn = [
          ...(section.names.some((name) => PHASES.test(name)) ? resources() : []),
          ...names.filter(alone).map(metric),
        ];
        return drawn.length
          ? [el("h2", {}, section.heading), el("div", { class: "grid" }, drawn)]
          : [];
      }),
    );
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 0.95,
    step: 0.05,
    "aria-label": "Smoothing",
    oninput: () => {
      state.smooth = Number(slider.value);
      draw();
    },
  });
  slider.value = state.smooth;
  const bucketed = data.runs.some((run) => Object.values(run.curves).some((c) => c.lo));
  panel.replaceChildren(
    el(
      "div",
      { class: "bar" },
      el("label", {}, "Smoothing", slider),
      together(() => curves(panel)),
    ),
    bucketed
      ? el(
          "p",
          { class: "note" },
          "Each point is the mean of several steps; the band runs from the lowest to the highest of them.",
        )
      : "",
    legend(draw) ?? "",
    body,
  );
  draw();
}

const BANDS = ["hard", "middle", "easy", "new"];

function difficulty(panel) {
  const redraw = () => difficulty(panel);
  const names = data.sections
    .flatMap((s) => s.names)
    .filter((n) => n.startsWith("train/difficulty/"));
  if (!names.length) {
    panel.replaceChildren(el("p", { class: "note" }, "These runs logged no difficulty bands."));
    return;
  }
  const measures = [
    ...new Set(
      names
        .map((n) => n.match(/^train\/difficulty\/(?:hard|middle|easy|new)\/(.+)$/))
        .filter(Boolean)
        .map((m) => m[1]),
    ),
  ].filter((m) => m !== "share");
  const rest = names.filter((n) => !/^train\/difficulty\/(hard|middle|easy|new)\//.test(n));
  const keys = el(
    "div",
    { class: "legend" },
    BANDS.map((b) => key(b, `var(--${b})`, { box: true })),
  );
  panel.replaceChildren(
    el(
      "p",
      { class: "note" },
      "A prompt's band is its historical pass rate before the step: hard below 1/3, middle up to 2/3, easy above; new on its first visit.",
    ),
    el("div", { class: "bar" }, together(redraw)),
    keys,
    ...shown().flatMap((line) => [
      lines().length > 1 ? el("h2", {}, line.label) : "",
      el(
        "div",
        { class: "grid" },
        shares(line),
        measures.map((m) =>
          chart(
            `${short(m)} by band`,
            explained(
              `train/difficulty/${BANDS.find((b) => data.glossary[`train/difficulty/${b}/${m}`])}/${m}`,
            ),
            BANDS.map((b) => {
              const c = line.curves[`train/difficulty/${b}/${m}`];
              return c && { ...c, lo: null, hi: null, label: b, word: b, colour: `var(--${b})` };
            }),
          ),
        ),
      ),
    ]),
    rest.length ? el("h2", {}, "Records") : "",
    rest.length ? (legend(redraw) ?? "") : "",
    el("div", { class: "grid" }, rest.map(metric)),
  );
}

function shares(line) {
  const found = BANDS.map((b) => line.curves[`train/difficulty/${b}/share`]);
  const x = (found.find(Boolean) || { x: [] }).x;
  const at = (curve, step) => {
    const i = curve ? curve.x.indexOf(step) : -1;
    return i < 0 ? 0 : (curve.y[i] ?? 0);
  };
  const s = { ...scales(range(x), [0, 1]), y0: 0, y1: 1 };
  s.py = (v) => H - BOTTOM - v * (H - TOP - BOTTOM);
  const below = x.map(() => 0);
  const parts = BANDS.map((b, k) => {
    const lo = [...below];
    x.forEach((step, i) => {
      below[i] += at(found[k], step);
    });
    const d = band(x, lo, below, s);
    return (
      d && svg("path", { d, style: { fill: `var(--${b})`, opacity: 0.8 } }, svg("title", {}, b))
    );
  });
  const last = BANDS.map((b, k) =>
    el(
      "span",
      { style: { "--colour": `var(--${b})` } },
      el("i"),
      `${number(at(found[k], x[0]))} → `,
      el("b", {}, number(at(found[k], x.at(-1)))),
      ` ${b}`,
    ),
  );
  return el(
    "figure",
    { class: "card chart" },
    el(
      "div",
      { class: "head" },
      el("h3", {}, "share of prompts by band"),
      tip(
        explained("train/difficulty/hard/share") || explained("train/difficulty/new/share"),
        "share",
      ),
    ),
    el("p", { class: "readout" }, last),
    svg(
      "svg",
      {
        viewBox: `0 0 ${W} ${H}`,
        role: "img",
        "aria-label": `share of prompts by band over steps ${x[0]} to ${x.at(-1)}`,
      },
      parts,
      axes(s),
    ),
  );
}
