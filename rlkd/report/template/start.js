// The page's frame: title and tabs. A tab is drawn when it is first opened.
const TABS = [
  ["overview", "Overview", overview],
  ["curves", "Curves", curves],
  ["length", "Length & accuracy", lengths],
  ["difficulty", "Difficulty", difficulty],
  ["rollouts", "Rollouts", rollouts],
  ["config", "Config", config],
];

document.getElementById("title").textContent = data.groups
  .map((g) => (g.curves ? `${g.name} ×${g.runs.length}` : g.name))
  .join(" · ");
document.getElementById("subtitle").textContent =
  `${data.runs.length === 1 ? "1 run" : `${data.runs.length} runs`} · report of ${data.made} · rlkd ${data.rlkd}`;

const main = document.getElementById("main"),
  tabs = document.getElementById("tabs");
const parts = TABS.map(([id, label, draw]) => {
  const tab = el(
    "button",
    {
      role: "tab",
      id: `tab-${id}`,
      type: "button",
      "aria-controls": `part-${id}`,
      "aria-selected": "false",
      tabindex: "-1",
      onclick: () => open(id),
    },
    label,
  );
  const panel = el("section", {
    role: "tabpanel",
    id: `part-${id}`,
    "aria-labelledby": `tab-${id}`,
    tabindex: "0",
    hidden: "",
  });
  tabs.append(tab);
  main.append(panel);
  return { id, tab, panel, draw };
});

function open(id, focus = false) {
  for (const part of parts) {
    const chosen = part.id === id;
    part.tab.setAttribute("aria-selected", String(chosen));
    part.tab.tabIndex = chosen ? 0 : -1;
    part.panel.hidden = !chosen;
    // Drawn again each time: what was chosen in another tab (seeds, smoothing, runs) holds here too.
    if (chosen && (!part.drawn || part.id !== "rollouts")) {
      part.draw(part.panel);
      part.drawn = true;
    }
    if (chosen && focus) part.tab.focus();
    // Not scrollIntoView: in Chromium the next Tab would start from there.
    if (chosen)
      tabs.scrollLeft =
        part.tab.offsetLeft - tabs.offsetLeft - (tabs.clientWidth - part.tab.offsetWidth) / 2;
  }
  history.replaceState(null, "", `#${id}`);
}

tabs.addEventListener("keydown", (event) => {
  const at = parts.findIndex((part) => part.tab.getAttribute("aria-selected") === "true");
  const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: parts.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  open(parts[(to + parts.length) % parts.length].id, true);
});

open(
  parts.some((part) => part.id === location.hash.slice(1)) ? location.hash.slice(1) : "overview",
);
