
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  if (body.rows.length < 2) continue;
  const key = (row, at) => {
    const cell = row.cells[at], text = cell.textContent;
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    const number = text.replaceAll(",", "");
    return number !== "" && !isNaN(number) ? Number(number) : text;
  };
  const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map(row => [key(row, at), row]);
      rows.sort((a, b) => down ? order(b[0], a[0]) : order(a[0], b[0]));
      body.append(...rows.map(row => row[1]));
    });
  });
}
