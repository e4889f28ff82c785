"use strict";
// Draws over the pictures of a report; they stay for print, and for whoever runs no scripts.
(() => {
  const told = JSON.parse(document.getElementById("data").textContent);
  for (const [id, spec] of Object.entries(told.maps)) charts.map(document.getElementById(id), spec);
  for (const [id, spec] of Object.entries(told.charts)) charts.curves(document.getElementById(id), spec);
  document.documentElement.dataset.drawn = "yes";
})();
