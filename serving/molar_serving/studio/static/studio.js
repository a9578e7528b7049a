// What every page of the studio does: times in the reader's own way, the token of forms, charts.
"use strict";
(() => {
  const language = document.body.dataset.language;
  const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const day = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeZone: "UTC" });

  function prepare(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const when = new Date(time.dateTime);
      time.title = time.dateTime;
      time.textContent = ("day" in time.dataset ? day : moment).format(when);
    }
    for (const plot of root.querySelectorAll("[data-chart]")) draw(plot);
  }

  function draw(plot) {
    if (typeof uPlot === "undefined" || plot.firstChild) return;
    const { times, series } = JSON.parse(plot.dataset.chart);
    const style = getComputedStyle(document.documentElement);
    const colours = [1, 2, 3, 4].map((n) => style.getPropertyValue(`--series-${n}`).trim());
    const axis = { stroke: style.getPropertyValue("--quiet"), grid: { stroke: style.getPropertyValue("--hair") }, ticks: { show: false }, font: "12px system-ui" };
    const lines = series.map((one, n) => ({
      label: one.label, stroke: colours[n % 4], width: 2, spanGaps: false, points: { show: times.length < 40, size: 5 },
      ...(one.kind === "bar" ? { paths: uPlot.paths.bars({ size: [0.7, 40] }), fill: colours[n % 4], points: { show: false } } : {}),
    }));
    const size = () => ({ width: plot.clientWidth || 320, height: 200 });
    const chart = new uPlot({
      ...size(), series: [{ value: (u, v) => (v == null ? "" : day.format(v * 1000)) }, ...lines], axes: [axis, { ...axis, size: 56 }],
      scales: { y: { range: (u, low, high) => [Math.min(0, low), high > 0 ? high * 1.05 : 1] } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"), fmtDate: () => (date) => day.format(new Date(date.getTime() - date.getTimezoneOffset() * 60000)).replace(/,? ?\d{4}$/, ""),
    }, [times, ...series.map((one) => one.values)], plot);
    new ResizeObserver(() => chart.setSize(size())).observe(plot);
  }

  document.addEventListener("htmx:configRequest", (event) => { event.detail.headers["X-Studio-Token"] = document.body.dataset.token; });
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));
  document.addEventListener("htmx:sendError", () => { document.getElementById("said").textContent = "…"; });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/^(input|textarea|select)$/i.test(event.target.tagName)) {
      const field = document.querySelector("input[type=search]");
      if (field) { event.preventDefault(); field.focus(); }
    }
  });
  prepare(document);
})();
