// Where the seconds of a step go, and memory: one chart of each for every run.
const PHASES = /^train\/time\/(?!step$|evaluation$|save$)(.+)$/;
const MEMORY = /^train\/memory\/(.+)$/;

function inOne(line, pattern, title) {
  const mean = (name) => line.curves[name].y.reduce((sum, v) => sum + (v ?? 0), 0);
  const names = Object.keys(line.curves)
    .filter((name) => pattern.test(name))
    .sort((a, b) => mean(b) - mean(a));
  if (!names.length) return null;
  const word = (name) => name.match(pattern)[1];
  return chart(
    lines().length > 1 ? `${title}: ${line.label}` : title,
    names.map((name) => `${word(name)}: ${explained(name)}`).join(" · "),
    names.map((name, i) => ({
      ...line.curves[name],
      lo: null,
      hi: null,
      label: word(name),
      word: word(name),
      colour: `var(--c${i % 7})`,
      dash: i < 7 ? null : "4 3",
    })),
  );
}

const resources = () =>
  shown()
    .flatMap((line) => [
      inOne(line, PHASES, "seconds per step by phase"),
      inOne(line, MEMORY, "memory (GiB)"),
    ])
    .filter(Boolean);

// Single phases are drawn where there are runs to be compared.
const alone = (name) => lines().length > 1 || !(PHASES.test(name) || MEMORY.test(name));
