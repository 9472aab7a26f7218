// The page: asks the server about molecules, lists the answers and shows the chosen molecule.

import { columns, csv, headings, line } from "./table.js";
import { Viewer } from "./viewer.js";

const at = (id) => document.getElementById(id);
const viewer = new Viewer(at("view"), name);
let targets = [];
let rows = [];
let colours = {};
let asked = 0; // only the answer to the last question is shown
let chosen = 0;

function say(text, bad = false) {
  at("message").textContent = text;
  at("message").classList.toggle("bad", bad);
}

async function post(path, body) {
  const json = typeof body === "string";
  const answer = await fetch(path, { method: "POST", body, headers: json ? { "content-type": "application/json" } : {} });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail ?? answer.statusText);
  return content;
}

// One molecule of several lines, or one SMILES a line.
function molecules(text) {
  const lines = text.split(/\r?\n/);
  if (text.includes("M  END") || /^\s*\d+\s*$/.test(lines[0])) return [text];
  return lines.map((one) => one.trim()).filter(Boolean);
}

async function predict(file = null) {
  const number = ++asked;
  const conformers = Number(at("conformers").value) || null;
  const unit = at("unit").value.trim();
  const list = molecules(at("molecules").value);
  if (!file && !list.length) return say("Write a SMILES or drop a file.");
  say("Working …");
  at("predict").disabled = true;
  try {
    let answer;
    if (file) {
      const form = new FormData();
      form.append("file", file);
      if (conformers) form.append("conformers", conformers);
      form.append("unit", unit);
      form.append("geometry", "true");
      answer = await post("/predict/file", form);
    } else {
      answer = await post("/predict", JSON.stringify({ molecules: list, conformers, unit: unit || null, geometry: true }));
    }
    if (number === asked) show(answer.rows);
  } catch (error) {
    say(error.message, true);
  } finally {
    at("predict").disabled = false;
  }
}

function show(answer) {
  rows = answer;
  say("");
  at("answers").hidden = false;
  const good = rows.filter((row) => row.status === "ok").length;
  at("summary").textContent = `${rows.length} molecule${rows.length === 1 ? "" : "s"}, ${good} ok`;
  const head = document.createElement("tr");
  for (const text of headings(targets, rows)) {
    const cell = document.createElement("th");
    cell.textContent = text;
    head.append(cell);
  }
  at("head").replaceChildren(head);
  at("rows").replaceChildren(...rows.map((row, index) => {
    const tr = line(targets, row);
    tr.tabIndex = 0;
    tr.addEventListener("click", () => choose(index));
    tr.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(index); });
    return tr;
  }));
  choose(Math.max(0, rows.findIndex((row) => row.geometry)));
}

async function choose(index) {
  chosen = index;
  [...at("rows").children].forEach((tr, place) => tr.classList.toggle("chosen", place === index));
  const geometry = rows[index]?.geometry;
  viewer.show(geometry);
  offer({});
  if (!geometry) return;
  const mine = rows;
  try {
    const found = await post("/explain", JSON.stringify({ molecule: xyz(geometry) }));
    if (mine !== rows || chosen !== index) return;
    offer({ attention: [found.attention, "weight"], ...Object.fromEntries(
      Object.entries(found.contributions).map(([target, parts]) => [target, [parts, found.units[target]]])) });
  } catch (error) {
    say(error.message, true);
  }
}

function xyz({ symbols, positions, charge }) {
  const atoms = symbols.map((symbol, index) => `${symbol} ${positions[index].join(" ")}`);
  return `${symbols.length}\ncharge=${charge}\n${atoms.join("\n")}\n`;
}

// What the atoms can be coloured by.
function offer(found) {
  colours = found;
  const before = at("colours").value;
  at("colours").replaceChildren(...["element", ...Object.keys(found)].map((text) => new Option(text)));
  at("colours").value = before in found ? before : "element";
  paint();
}

// Blue is below the middle and red above: zero, or the mean of weights, which are all positive.
function paint() {
  const [values, unit] = colours[at("colours").value] ?? [null, ""];
  if (!values) {
    at("legend").textContent = "";
    return viewer.colour(null);
  }
  const middle = unit === "weight" ? values.reduce((sum, x) => sum + x, 0) / values.length : 0;
  const most = Math.max(...values.map((x) => Math.abs(x - middle))) || 1;
  at("legend").textContent = `${(middle - most).toPrecision(3)} (blue) … ${(middle + most).toPrecision(3)} (red) ${unit}`;
  viewer.colour(values.map((x) => (x - middle) / most));
}

function name(index) {
  const geometry = rows[chosen]?.geometry;
  if (index < 0 || !geometry) return;
  const [values, unit] = colours[at("colours").value] ?? [null, ""];
  const value = values ? `: ${values[index].toPrecision(4)} ${unit}` : "";
  at("atom").textContent = `${geometry.symbols[index]}${index + 1}${value}`;
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(targets, rows)], { type: "text/csv" }));
  link.download = "molformer.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

at("ask").addEventListener("submit", (event) => { event.preventDefault(); predict(); });
at("file").addEventListener("change", () => { if (at("file").files.length) predict(at("file").files[0]); });
at("colours").addEventListener("change", paint);
at("download").addEventListener("click", download);
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("ask").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) predict(event.dataTransfer.files[0]);
  });
}

const models = await (await fetch("/models")).json();
targets = columns(models[0].targets);
at("model").textContent = `${models[0].name}: ${models[0].targets.map((t) => (t.unit ? `${t.name} (${t.unit})` : t.name)).join(", ")}`;
viewer.show(null);
