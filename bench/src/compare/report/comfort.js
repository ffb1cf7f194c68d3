"use strict";
(() => {
  const table = document.getElementById("all-figures");
  if (!table) return;
  const body = table.tBodies[0], rows = [...body.rows];
  const figure = (text) => text === "inf" ? Infinity : Number(text);
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const sort = (column, turn) => {
    const isFigure = rows.some((row) => row.cells[column].dataset.value !== undefined);
    const order = (one, other) => {
      const [a, b] = [key(one, column), key(other, column)];
      if (!isFigure) return a.localeCompare(b, "en", { numeric: true });
      const [x, y] = [figure(a), figure(b)];
      return x === y ? 0 : x - y;
    };
    body.append(...rows.toSorted((one, other) => turn * order(one, other)));
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => {
      const turn = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = turn === 1 ? "ascending" : "descending";
      sort(column, turn);
    });
    head.replaceChildren(button);
  });
  const label = document.createElement("label"), input = document.createElement("input");
  label.className = "filter";
  input.type = "search";
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
  });
  label.append("Only rows with: ", input);
  table.closest(".scroll").before(label);
})();
