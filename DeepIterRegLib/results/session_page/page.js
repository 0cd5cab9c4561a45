// The state comes as a script, read anew every half second: a page from a file may read nothing else.
const EVERY_MS = 500;
const at = (id) => document.getElementById(id);
let state = { status: "", ended: false, runs: [] };
let chosen = null; // by a person; null: the newest run is shown
let drawn = "";
let anyway = new Set(); // rejected runs whose overlay somebody asked for

function session(values) { state = values; show(); }

function read() {
  const script = document.createElement("script");
  script.src = `${STATE}?${Date.now()}`;
  script.onload = script.onerror = () => { script.remove(); setTimeout(read, EVERY_MS); };
  document.head.append(script);
}

function shownRun() {
  const pictured = state.runs.filter((run) => run.picture);
  return pictured.find((run) => run.name === chosen) || pictured[pictured.length - 1];
}

function show() {
  at("status").textContent = state.status;
  const run = shownRun();
  list(run);
  tell(run);
  at("empty").hidden = Boolean(run);
  at("follow").hidden = chosen === null;
  if (!run) return;
  const hidden = run.state === "rejected" && !anyway.has(run.name);
  at("cover").hidden = !hidden;
  document.querySelector(".stage").classList.toggle("plain", hidden || !at("show").checked);
  const now = `${run.name} ${run.picture}`;
  if (now === drawn) return;
  drawn = now;
  for (const edge of ["left", "right", "top", "bottom"]) at(edge).textContent = run.letters ? run.letters[edge] : "";
  // Both pictures are loaded before either is shown, so that nothing flickers and no overlay lies on another run.
  const wanted = [["plain", ""], ["overlay", "_overlay"]].map(([id, ending]) => {
    const picture = new Image();
    picture.src = `${PICTURES}/${run.name}${ending}.jpg?${run.picture}`;
    return picture.decode().then(() => [id, picture.src]);
  });
  Promise.all(wanted).then(
    (ready) => { if (drawn === now) for (const [id, source] of ready) at(id).src = source; },
    () => { if (drawn === now) drawn = ""; }, // half a picture: it is asked for again
  );
}

function text(tag, words, kind) {
  const made = document.createElement(tag);
  made.textContent = words;
  if (kind) made.className = kind;
  return made;
}

function tell(run) {
  const box = at("result");
  box.className = `result ${run ? run.state.replace(" ", "-") : ""}`;
  box.replaceChildren();
  if (!run) return;
  box.append(text("h2", `Run ${run.name}: ${run.title}`), text("p", run.state, "badge"));
  for (const words of run.words) box.append(text("p", words));
  if (run.state === "rejected") {
    const button = text("button", "Show its overlay anyway");
    button.type = "button";
    button.onclick = () => { anyway.add(run.name); show(); };
    box.append(button);
  }
}

function list(shown) {
  const rows = state.runs.map((run) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = run.state.replace(" ", "-") + (shown && run.name === shown.name ? " shown" : "");
    button.disabled = !run.picture;
    button.append(text("b", run.name), text("span", run.title), text("span", run.state, "state"));
    const minutes = run.since_first_s === null ? "" : `${Math.round(run.since_first_s / 60)} min after the first. `;
    button.append(text("span", minutes + (run.picture ? "" : run.words.join(" ")), "when"));
    button.onclick = () => { chosen = run.name; show(); };
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  // Only what changed: a list that is made anew would lose the keyboard's place.
  const before = at("runs").dataset.state, now = JSON.stringify([state.runs, shown && shown.name]);
  if (before !== now) { at("runs").replaceChildren(...rows.reverse()); at("runs").dataset.state = now; }
}

at("follow").onclick = () => { chosen = null; show(); };
at("show").onchange = show;
read();
