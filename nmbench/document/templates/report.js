"use strict";
// Tables are sorted by a button in each heading: by the value behind a cell where it has one, else by its text.
// Cells that hold nothing stay last either way; rows that are equal keep their order.
(() => {
  const known = (cell) => cell.dataset.value ?? cell.textContent.trim();
  const nothing = (text) => text === "" || text === "-" || text === "nan";
  const numeric = (text) => text !== "" && Number.isFinite(Number(text));

  function order(one, other) {
    if (numeric(one) && numeric(other)) return Number(one) - Number(other);
    return one.localeCompare(other, "en", { numeric: true });
  }

  function sort(table, heading) {
    const place = heading.cellIndex;
    const turn = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, text: known(row.cells[place]) }));
    rows.sort((a, b) => {
      if (nothing(a.text) || nothing(b.text)) return Number(nothing(a.text)) - Number(nothing(b.text));
      return turn * order(a.text, b.text);
    });
    body.append(...rows.map(({ row }) => row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const heading of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading));
    }
  }
})();
