// The browser of sampled rollouts, with the teacher's opinion of each token.
const PAGE = 15;
const FULL = 3; // nats at which a colour is full

// The newest step first.
const rows = data.runs
  .flatMap((run, i) =>
    run.rollouts.map((row) => {
      const text = row.tokens ? row.tokens.join("") : row.text;
      return { ...row, run: i, all: text, search: `${row.prompt}\n${text}`.toLowerCase() };
    }),
  )
  .sort((a, b) => b.step - a.step);

function background(row, i, by) {
  if (by === "opinion" && row.opinion && row.opinion[i] !== null) {
    const v = row.opinion[i],
      a = Math.min(1, Math.abs(v) / FULL) * 0.62;
    return a < 0.03 ? null : `rgba(var(--${v > 0 ? "likes" : "dislikes"}), ${a.toFixed(2)})`;
  }
  if (by === "doubt" && row.doubt && row.doubt[i] !== null) {
    const a = Math.min(1, row.doubt[i] / FULL) * 0.62;
    return a < 0.03 ? null : `rgba(var(--doubts), ${a.toFixed(2)})`;
  }
  return null;
}

const far = (v) => (v >= 99 ? "+∞" : v <= -99 ? "−∞" : (v > 0 ? "+" : "") + number(v));

// What stands under an answer until a token is chosen: where the teacher disagrees most.
function worst(row) {
  const known = (row.opinion || []).map((v, i) => [v, i]).filter(([v]) => v !== null);
  if (!known.length) return [];
  const [v, i] = known.reduce((low, pair) => (pair[0] < low[0] ? pair : low));
  return v > -1
    ? ["the teacher disputes no token by 1 nat"]
    : [
        "disputed most: ",
        el("b", { class: "mono" }, JSON.stringify(row.tokens[i])),
        `, token ${i + 1}, ${far(v)} nats`,
      ];
}

function answer(row, by) {
  if (!row.tokens) return [el("div", { class: "answer mono" }, row.text, row.short ? " …" : "")];
  const readout = el("p", { class: "readout", "aria-live": "polite" }, ...worst(row));
  const spans = row.tokens.map((piece, i) => {
    const colour = background(row, i, by),
      shownPiece = piece.replaceAll("\n", "↵\n");
    return el(
      "span",
      { "data-i": i, style: colour ? { "background-color": colour } : {} },
      shownPiece,
    );
  });
  let now = -1;
  const show = (i) => {
    if (now >= 0) spans[now].classList.remove("now");
    now = Math.max(0, Math.min(spans.length - 1, i));
    spans[now].classList.add("now");
    const opinion = row.opinion ? row.opinion[now] : null,
      doubt = row.doubt ? row.doubt[now] : null;
    readout.replaceChildren(
      el(
        "span",
        {},
        `token ${now + 1} of ${spans.length} `,
        el("b", { class: "mono" }, JSON.stringify(row.tokens[now])),
      ),
      row.opinion
        ? el(
            "span",
            {},
            "log π_T − log π_S ",
            el("b", {}, opinion === null ? "does not count" : `${far(opinion)} nats`),
          )
        : "",
      doubt !== null ? el("span", {}, "entropy ", el("b", {}, `${number(doubt)} nats`)) : "",
    );
  };
  const box = el(
    "div",
    {
      class: "answer mono",
      tabindex: "0",
      role: "group",
      "aria-label": `Answer, ${spans.length} tokens; arrow keys read the teacher's opinion of each`,
      onpointerover: (event) => {
        if (event.target.dataset.i) show(Number(event.target.dataset.i));
      },
      onkeydown: (event) => {
        const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: spans.length - 1 }[
          event.key
        ];
        if (to === undefined) return;
        event.preventDefault();
        show(to);
        spans[now].scrollIntoView({ block: "nearest" });
      },
    },
    spans,
    row.short ? el("span", {}, " …") : null,
  );
  return [box, readout];
}

function card(row, by) {
  const rewards = Object.entries(row.rewards).map(
    ([k, v]) => `${k} ${v === null ? "none" : number(v)}`,
  );
  const facts = [
    `step ${row.step}`,
    data.runs.length > 1 ? data.runs[row.run].name : null,
    `${row.n ?? "?"} tokens`,
    row.band ? `band ${row.band}` : null,
    ...rewards,
    row.advantage !== undefined ? `advantage ${number(row.advantage)}` : null,
    row.teacher_gap !== undefined ? `gap ${far(row.teacher_gap)}` : null,
    row.entropy !== undefined ? `entropy ${number(row.entropy)}` : null,
  ];
  const badge = { correct: "✓ correct", wrong: "✗ wrong", ungraded: "? ungraded" }[row.mark];
  return el(
    "article",
    { class: "card rollout" },
    el(
      "div",
      { class: "head" },
      el("span", { class: `badge ${row.mark}` }, badge),
      row.cut ? el("span", { class: "badge cut" }, "✂ truncated") : null,
      Object.entries(row.faults).map(([k, v]) =>
        el("span", { class: "badge fault" }, `! ${k}: ${v}`),
      ),
      facts.filter(Boolean).map((f) => el("span", {}, f)),
    ),
    el("pre", { tabindex: row.prompt.length > 600 ? "0" : null }, row.prompt),
    answer(row, by),
  );
}

function choice(label, options, redraw) {
  const select = el(
    "select",
    { onchange: redraw },
    options.map(([value, text]) => el("option", { value }, text)),
  );
  return [select, el("label", {}, label, select)];
}

function rollouts(panel) {
  if (!rows.length) {
    panel.replaceChildren(
      el("p", { class: "note" }, "These runs stored no rollouts (tracking.rollouts_every)."),
    );
    return;
  }
  let limit = PAGE;
  const list = el("div", { class: "grid wide" }),
    count = el("p", { class: "count", role: "status" }),
    scale = el("div", { class: "scale" });
  const again = () => {
    limit = PAGE;
    draw();
  };
  const steps = [...new Set(rows.map((r) => r.step))];
  const bands = BANDS.filter((b) => rows.some((r) => r.band === b));
  const [run, runLabel] = choice(
    "Run",
    [["", "all"], ...data.runs.map((r, i) => [i, r.name])],
    again,
  );
  const [step, stepLabel] = choice("Step", [["", "all"], ...steps.map((s) => [s, s])], again);
  const [mark, markLabel] = choice(
    "Result",
    [
      ["", "all"],
      ["correct", "correct"],
      ["wrong", "wrong"],
      ["ungraded", "ungraded"],
      ["cut", "truncated"],
    ],
    again,
  );
  const [place, bandLabel] = choice("Band", [["", "all"], ...bands.map((b) => [b, b])], again);
  const [by, byLabel] = choice(
    "Colour",
    [
      ["opinion", "teacher's opinion"],
      ["doubt", "student's entropy"],
      ["", "none"],
    ],
    again,
  );
  if (!rows.some((r) => r.opinion)) by.value = rows.some((r) => r.doubt) ? "doubt" : "";
  const text = el("input", {
    type: "search",
    placeholder: "text in prompt or answer",
    oninput: again,
  });
  const draw = () => {
    const word = text.value.toLowerCase();
    const found = rows.filter(
      (r) =>
        (run.value === "" || r.run === Number(run.value)) &&
        (step.value === "" || r.step === Number(step.value)) &&
        (mark.value === "" || (mark.value === "cut" ? r.cut : r.mark === mark.value)) &&
        (place.value === "" || r.band === place.value) &&
        (!word || r.search.includes(word)),
    );
    const stored = data.runs.reduce((sum, r) => sum + r.stored, 0);
    count.textContent = `${found.length} of the ${rows.length} rollouts in this report (${stored} are stored; rlkd rollouts reads them all)`;
    scale.replaceChildren(...key_of(by.value));
    const more =
      found.length > limit
        ? el(
            "button",
            {
              class: "plain",
              type: "button",
              onclick: () => {
                limit += PAGE;
                draw();
                list.children[limit - PAGE]?.querySelector(".answer")?.focus();
              },
            },
            `Show ${Math.min(PAGE, found.length - limit)} more`,
          )
        : "";
    list.replaceChildren(...found.slice(0, limit).map((r) => card(r, by.value)), more);
  };
  panel.replaceChildren(
    el(
      "div",
      { class: "bar" },
      data.runs.length > 1 ? runLabel : "",
      stepLabel,
      markLabel,
      bands.length ? bandLabel : "",
      el("label", {}, "Search", text),
      byLabel,
    ),
    scale,
    count,
    list,
  );
  draw();
}

function key_of(by) {
  const gradient = (...stops) =>
    el("i", { style: { background: `linear-gradient(90deg, ${stops.join(", ")})` } });
  if (by === "opinion")
    return [
      "the teacher finds the token less likely than the student",
      el("b", {}, `−${FULL}`),
      gradient("rgba(var(--dislikes), .62)", "transparent", "rgba(var(--likes), .62)"),
      el("b", {}, `+${FULL}`),
      "nats: likelier. Hover over a token, or focus an answer and use the arrow keys.",
    ];
  if (by === "doubt")
    return [
      "the student was sure",
      el("b", {}, "0"),
      gradient("transparent", "rgba(var(--doubts), .62)"),
      el("b", {}, String(FULL)),
      "nats: in doubt",
    ];
  return [];
}
