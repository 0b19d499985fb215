// Fetches the page again now and then and puts its live part in place, unless somebody is in it.
const every = Number(document.getElementById("live").dataset.every) * 1000;

async function renew() {
  const old = document.getElementById("live");
  if (document.hidden || old.contains(document.activeElement)) return;
  let answer;
  try {
    answer = await fetch("/", { redirect: "error" });
  } catch {
    return; // The service is being started anew, or the session is over; the next look may do.
  }
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("live");
  if (!fresh) return;
  for (const chart of old.querySelectorAll(".js-plotly-plot")) Plotly.purge(chart);
  old.replaceWith(document.adoptNode(fresh));
  drawCharts(fresh);
}

setInterval(renew, every);
