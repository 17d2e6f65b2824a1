
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
    // No `button`: with one in it, Chromium does not repeat the heads on each page of paper.
    const button = document.createElement("span");
    button.setAttribute("role", "button");
    button.tabIndex = 0;
    button.textContent = head.textContent;
    head.replaceChildren(button);
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].map(row => [key(row, at), row]);
      rows.sort((a, b) => down ? order(b[0], a[0]) : order(a[0], b[0]));
      body.append(...rows.map(row => row[1]));
    };
    button.addEventListener("click", sort);
    button.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort();
    });
  });
}
