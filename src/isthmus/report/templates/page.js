function drawCharts(within) {
  for (const source of within.querySelectorAll("script[data-chart]")) {
    const { data, layout } = JSON.parse(source.textContent);
    Plotly.newPlot(source.previousElementSibling, data, layout, {
      responsive: true,
      displayModeBar: false,
      scrollZoom: false,
    });
  }
}
drawCharts(document);
