// What all parts use. Text from runs enters the page through textContent and attributes alone.
const data = JSON.parse(document.getElementById("data").textContent);
const state = { together: data.groups.some((group) => group.curves), smooth: 0, hidden: new Set() };

function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "style") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      node.setAttribute(key, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 3).replace("-", "−");
}

const short = (name) => name.replace(/^train\//, "").replaceAll("_", " ");

// The lines that charts draw: a run each, or where runs differ only in their seed the group.
function lines() {
  const found = [];
  data.groups.forEach((group) => {
    if (state.together && group.curves) {
      const label = `${group.name} (mean of ${group.runs.length} seeds ± sd)`;
      found.push({ label, curves: group.curves, runs: group.runs });
    } else {
      group.runs.forEach((i) =>
        found.push({ label: data.runs[i].name, curves: data.runs[i].curves, runs: [i] }),
      );
    }
  });
  return found.map((line, i) => ({
    ...line,
    key: line.label,
    colour: `var(--c${i % 7})`,
    dash: i >= 7 ? "6 4" : null,
    number: i,
  }));
}

const shown = () => lines().filter((line) => !state.hidden.has(line.key));

function key(label, colour, more = {}) {
  return el(
    "span",
    { class: more.bare ? "key bare" : "key", style: { "--colour": colour } },
    el("i", more.box ? { class: "box" } : more.dash ? { class: "dash" } : {}),
    label,
  );
}

function legend(redraw) {
  const all = lines();
  if (all.length < 2) return null;
  return el(
    "div",
    { class: "legend", role: "group", "aria-label": "Runs shown" },
    all.map((line) => {
      const button = el(
        "button",
        {
          class: "key",
          type: "button",
          "aria-pressed": String(!state.hidden.has(line.key)),
          style: { "--colour": line.colour },
          onclick: () => {
            state.hidden.has(line.key) ? state.hidden.delete(line.key) : state.hidden.add(line.key);
            button.setAttribute("aria-pressed", String(!state.hidden.has(line.key)));
            redraw();
          },
        },
        el("i", line.dash ? { class: "dash" } : {}),
        line.label,
      );
      return button;
    }),
  );
}

function together(redraw) {
  if (!data.groups.some((group) => group.curves)) return null;
  const box = el("input", {
    type: "checkbox",
    onchange: () => {
      state.together = box.checked;
      state.hidden.clear();
      redraw();
    },
  });
  box.checked = state.together;
  return el("label", { class: "check" }, box, "Seeds together");
}

function table(head, rows) {
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      {},
      el(
        "thead",
        {},
        el(
          "tr",
          {},
          head.map((text) => el("th", { scope: "col" }, text)),
        ),
      ),
      el("tbody", {}, rows),
    ),
  );
}

function tip(text, about) {
  if (!text) return null;
  const id = `tip${(tip.count = (tip.count || 0) + 1)}`;
  const button = el(
    "button",
    {
      type: "button",
      "aria-label": `What is ${about}?`,
      "aria-describedby": id,
      "aria-expanded": "false",
      onclick: () =>
        button.setAttribute(
          "aria-expanded",
          String(button.getAttribute("aria-expanded") === "false"),
        ),
      onkeydown: (event) => {
        if (event.key === "Escape") {
          button.setAttribute("aria-expanded", "false");
          button.blur();
        }
      },
      onblur: () => button.setAttribute("aria-expanded", "false"),
    },
    "?",
  );
  return el("span", { class: "tip" }, button, el("span", { id, role: "tooltip" }, text));
}

function explained(name) {
  const [what, unit] = data.glossary[name] || ["", ""];
  return [what, unit].filter(Boolean).join(". Unit, what is good: ");
}
