// Rows of an answer as cells of a table and as CSV.

const VALUED = ["ok", "out_of_domain"];
const norm = (vector) => Math.hypot(...vector.flat());
const digits = (x) => (x === null ? "" : Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(3) : x.toFixed(4));

// Targets with one number, vector or tensor a molecule; those per atom are colours.
export function columns(targets) {
  return targets.filter((target) => !["charges", "atom", "atom_vector", "forces"].includes(target.kind));
}

function element(kind, text, ...classes) {
  const made = document.createElement(kind);
  made.textContent = text;
  made.classList.add(...classes);
  return made;
}

export function headings(targets, rows) {
  const unit = (target) => rows.find((row) => row.values[target.name])?.values[target.name].unit ?? target.unit;
  const names = targets.map((target) => {
    const name = target.kind === "binary" ? `p(${target.name})` : ["vector", "tensor", "stress"].includes(target.kind) ? `|${target.name}|` : target.name;
    return unit(target) ? `${name} (${unit(target)})` : name;
  });
  return ["molecule", "formula", ...names, "status"];
}

function shown(target, number) {
  if (target.kind === "category") {
    const best = number.value.indexOf(Math.max(...number.value));
    return `${target.classes[best]} (${Math.round(100 * number.value[best])} %)`;
  }
  if (Array.isArray(number.value)) return digits(norm(number.value));
  return digits(number.value);
}

export function line(targets, row) {
  const tr = document.createElement("tr");
  tr.append(element("td", row.name, "name"), element("td", row.formula));
  for (const target of targets) {
    const number = row.values[target.name];
    const cell = element("td", number ? shown(target, number) : "", "number");
    if (number && typeof number.std === "number") cell.append(element("span", ` ± ${digits(number.std)}`, "doubt"));
    if (number?.interval && typeof number.interval[0] === "number") {
      cell.append(element("div", `${digits(number.interval[0])} … ${digits(number.interval[1])}`, "doubt"));
    }
    tr.append(cell);
  }
  const status = element("td", row.status, VALUED.includes(row.status) ? `status-${row.status}` : "status-bad");
  if (row.message) status.append(element("div", row.message, "reason"));
  tr.append(status);
  return tr;
}

// A text that a spreadsheet would take for a formula is marked as one that is none.
const inert = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
const quoted = (cell) => (/[",\n\r]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell);

export function csv(targets, rows) {
  const names = headings(targets, rows).slice(2, -1);
  const head = ["input", "formula", "status", "message"];
  for (const name of names) head.push(name, `${name} std`, `${name} low`, `${name} high`);
  const lines = rows.map((row) => {
    const cells = [row.name, row.formula, row.status, row.message].map(inert);
    for (const target of targets) {
      const number = row.values[target.name];
      const value = Array.isArray(number?.value) && target.kind !== "category" ? norm(number.value) : number?.value;
      cells.push(target.kind === "category" && number ? inert(shown(target, number)) : value, number?.std, ...(number?.interval ?? ["", ""]));
    }
    return cells.map((cell) => quoted(String(cell ?? ""))).join(",");
  });
  return `${[head.map(inert).map(quoted).join(","), ...lines].join("\n")}\n`;
}
