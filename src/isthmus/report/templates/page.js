for (const source of document.querySelectorAll("script[data-chart]")) {
  const { data, layout } = JSON.parse(source.textContent);
  Plotly.newPlot(source.previousElementSibling, data, layout, {
    responsive: true,
    displayModeBar: false,
    scrollZoom: false,
  });
}
