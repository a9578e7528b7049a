(() => {
  const table = document.getElementById("findings");
  if (!table) return;
  const body = table.tBodies[0];
  const key = (row, place) => {
    const cell = row.cells[place];
    return cell.dataset.key ?? cell.textContent.trim();
  };
  const compare = (left, right) => {
    const a = Number(left), b = Number(right);
    if (left !== "" && right !== "" && !Number.isNaN(a) && !Number.isNaN(b)) return a - b;
    return left.localeCompare(right, undefined, { numeric: true });
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].sort((l, r) => (up ? 1 : -1) * compare(key(l, place), key(r, place)));
    body.append(...rows);
  }));
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
})();
