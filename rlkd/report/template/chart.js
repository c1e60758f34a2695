// A chart of lines over steps, drawn by hand: pointer and arrow keys read its values.
const W = 400,
  H = 200,
  LEFT = 44,
  RIGHT = 10,
  TOP = 8,
  BOTTOM = 24;

function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / size - 1e-9); i * size <= high + size * 1e-9; i++)
    found.push(i * size);
  return found;
}

function range(values) {
  let low = Infinity,
    high = -Infinity;
  for (const value of values)
    if (value !== null && value !== undefined) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  return [low, high];
}

function smoothed(values) {
  if (!state.smooth) return values;
  let last = null;
  return values.map((value) =>
    value === null
      ? null
      : (last = last === null ? value : state.smooth * last + (1 - state.smooth) * value),
  );
}

function scales(x, y) {
  let [x0, x1] = x,
    [y0, y1] = y;
  if (x0 === x1) {
    x0 -= 1;
    x1 += 1;
  }
  const room = y1 === y0 ? Math.abs(y0) * 0.1 || 1 : (y1 - y0) * 0.06;
  const floor = y0 >= 0 ? 0 : -Infinity,
    ceiling = y1 <= 1 && y0 >= 0 && y1 > 0.5 ? 1 : Infinity;
  y0 = Math.max(floor, y0 - room);
  y1 = Math.min(Math.max(ceiling, y1), y1 + room);
  if (y0 === y1) y1 = y0 + 1;
  const px = (v) => LEFT + ((v - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
  const py = (v) => H - BOTTOM - ((v - y0) / (y1 - y0)) * (H - TOP - BOTTOM);
  return { x0, x1, y0, y1, px, py };
}

function axes(s, whole = true) {
  const parts = [];
  const up = ticks(s.y0, s.y1, 5);
  const texts = tickTexts(up);
  up.forEach((v, i) => {
    parts.push(
      svg("line", { class: "gridline", x1: LEFT, x2: W - RIGHT, y1: s.py(v), y2: s.py(v) }),
    );
    parts.push(svg("text", { x: LEFT - 6, y: s.py(v) + 4, "text-anchor": "end" }, texts[i]));
  });
  parts.push(across(s, whole));
  parts.push(
    svg("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }),
  );
  return parts;
}

function across(s, whole) {
  const values = ticks(s.x0, s.x1, 5).filter((v) => !whole || Number.isInteger(v));
  return tickTexts(values).map((text, i) =>
    svg("text", { x: s.px(values[i]), y: H - 7, "text-anchor": "middle" }, text),
  );
}

// The digits that tell a tick from the next.
function tickTexts(values) {
  const size = values.length > 1 ? values[1] - values[0] : 1;
  return values.map((v) => {
    if (Math.abs(v) < size / 1e6) return "0";
    if (Math.abs(v) >= 1e5 || size < 1e-4) return v.toExponential(1).replace("e+", "e");
    const digits = Math.max(0, -Math.floor(Math.log10(size) + 1e-9));
    const tight = Number(size.toFixed(digits)) === Number(size.toPrecision(6));
    return v.toFixed(tight ? digits : digits + 1).replace("-", "−");
  });
}

function path(x, y, s) {
  let text = "",
    pen = false;
  y.forEach((value, i) => {
    if (value === null) {
      pen = false;
      return;
    }
    text += `${pen ? "L" : "M"}${s.px(x[i]).toFixed(1)} ${s.py(value).toFixed(1)}`;
    pen = true;
  });
  return text;
}

function band(x, lo, hi, s) {
  const kept = x.map((_, i) => i).filter((i) => lo[i] !== null && hi[i] !== null);
  if (kept.length < 2) return null;
  const up = kept.map((i) => `${s.px(x[i]).toFixed(1)} ${s.py(hi[i]).toFixed(1)}`);
  const down = kept.reverse().map((i) => `${s.px(x[i]).toFixed(1)} ${s.py(lo[i]).toFixed(1)}`);
  return `M${[...up, ...down].join("L")}Z`;
}

// lines: [{label, colour, dash, x, y, lo, hi}]
function chart(title, about, all) {
  const drawn = all.filter((line) => line && line.y.some((v) => v !== null));
  const readout = el("p", { class: "readout" });
  const figure = el(
    "figure",
    { class: "card chart" },
    el("div", { class: "head" }, el("h3", {}, title), tip(about, title)),
    readout,
  );
  if (!drawn.length) {
    readout.textContent = "Not logged by the runs shown.";
    return figure;
  }
  const s = scales(
    range(drawn.flatMap((l) => l.x)),
    range(drawn.flatMap((l) => [...l.y, ...(l.lo || []), ...(l.hi || [])])),
  );
  const cross = svg("line", { class: "cross", y1: TOP, y2: H - BOTTOM, visibility: "hidden" });
  const dots = drawn.map((l) =>
    svg("circle", { r: 3.5, style: { fill: l.colour }, visibility: "hidden" }),
  );
  const parts = drawn.map((l) => {
    const smooth = smoothed(l.y),
      few = l.y.filter((v) => v !== null).length <= 12;
    const area = l.lo && band(l.x, l.lo, l.hi, s);
    return [
      area ? svg("path", { d: area, style: { fill: l.colour, opacity: 0.16 } }) : null,
      state.smooth
        ? svg("path", { class: "line raw", d: path(l.x, l.y, s), style: { stroke: l.colour } })
        : null,
      svg("path", {
        class: "line",
        d: path(l.x, smooth, s),
        "stroke-dasharray": l.dash,
        style: { stroke: l.colour },
      }),
      few
        ? l.x.map((x, i) =>
            smooth[i] === null
              ? null
              : svg("circle", {
                  cx: s.px(x),
                  cy: s.py(smooth[i]),
                  r: 2.5,
                  style: { fill: l.colour },
                }),
          )
        : null,
    ];
  });
  const steps = [...new Set(drawn.flatMap((l) => l.x))].sort((a, b) => a - b);
  const last = drawn
    .map((l) => `${l.label}: ${number(l.y.findLast((v) => v !== null))}`)
    .join(", ");
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${W} ${H}`,
      role: "img",
      tabindex: "0",
      "aria-label": `${title} over steps ${steps[0]} to ${steps.at(-1)}. Last: ${last}. Arrow keys read values.`,
    },
    axes(s),
    parts,
    cross,
    dots,
  );
  let at = steps.length - 1;
  const show = (place) => {
    at = Math.max(0, Math.min(steps.length - 1, place));
    const step = steps[at];
    cross.setAttribute("x1", s.px(step));
    cross.setAttribute("x2", s.px(step));
    cross.setAttribute("visibility", "visible");
    readout.replaceChildren(
      el("span", {}, "step ", el("b", {}, String(step))),
      ...drawn.map((l, i) => {
        const place = l.x.indexOf(step),
          value = place < 0 ? null : l.y[place];
        dots[i].setAttribute("visibility", value === null ? "hidden" : "visible");
        if (value === null) return "";
        dots[i].setAttribute("cx", s.px(step));
        dots[i].setAttribute("cy", s.py(smoothed(l.y)[place]));
        return el(
          "span",
          { style: { "--colour": l.colour }, title: l.label },
          el("i"),
          el("b", {}, number(value)),
          drawn.length > 1 && l.word ? ` ${l.word}` : "",
        );
      }),
    );
  };
  const rest = () => {
    cross.setAttribute("visibility", "hidden");
    dots.forEach((dot) => dot.setAttribute("visibility", "hidden"));
    readout.replaceChildren(
      ...drawn.map((l) =>
        el(
          "span",
          { style: { "--colour": l.colour }, title: l.label },
          el("i"),
          `${number(l.y.find((v) => v !== null))} → `,
          el("b", {}, number(l.y.findLast((v) => v !== null))),
          drawn.length > 1 && l.word ? ` ${l.word}` : "",
        ),
      ),
    );
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const x =
      s.x0 +
      ((((event.clientX - box.left) / box.width) * W - LEFT) / (W - LEFT - RIGHT)) * (s.x1 - s.x0);
    let best = 0;
    steps.forEach((step, i) => {
      if (Math.abs(step - x) < Math.abs(steps[best] - x)) best = i;
    });
    show(best);
  });
  picture.addEventListener("pointerleave", rest);
  picture.addEventListener("blur", rest);
  picture.addEventListener("keydown", (event) => {
    const moves = {
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      Home: 0,
      End: steps.length - 1,
      PageUp: at - 10,
      PageDown: at + 10,
    };
    if (event.key in moves) {
      event.preventDefault();
      show(moves[event.key]);
    }
  });
  figure.append(picture);
  rest();
  return figure;
}

const of = (name, these = shown()) =>
  these.map((l) => l.curves[name] && { ...l, ...l.curves[name] });
const metric = (name) => chart(short(name), explained(name), of(name));
