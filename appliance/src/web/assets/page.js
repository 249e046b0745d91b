// What saves typing, selecting and reloading. Every page works without it.
"use strict";

// The claim code stands behind the # of the address on the label, where no log sees it.
for (const field of document.querySelectorAll("[data-from-address]")) {
  const take = () => {
    const hash = location.hash.slice(1);
    const code = new URLSearchParams(hash).get("c") || new URLSearchParams(hash).get("code") || (/^[\w-]{4,64}$/.test(hash) && hash !== "main" ? hash : "");
    if (!code) return;
    if (!field.value) field.value = code;
    history.replaceState(null, "", location.pathname + location.search);
  };
  take();
  addEventListener("hashchange", take);
}

// Who sets the box up sits where it is, most likely: its time zone is the browser's, and so is the time.
for (const field of document.querySelectorAll("[data-zone]")) {
  // Browsers call some places as they were called before.
  const old = { "Asia/Calcutta": "Asia/Kolkata", "Asia/Katmandu": "Asia/Kathmandu", "Asia/Rangoon": "Asia/Yangon", "Asia/Saigon": "Asia/Ho_Chi_Minh",
    "Europe/Kiev": "Europe/Kyiv", "America/Buenos_Aires": "America/Argentina/Buenos_Aires", "America/Godthab": "America/Nuuk", "Atlantic/Faeroe": "Atlantic/Faroe" };
  const said = Intl.DateTimeFormat().resolvedOptions().timeZone, zone = old[said] || said;
  if ([...field.options].some((option) => option.value === zone)) field.value = zone;
}
for (const line of document.querySelectorAll("[data-clock]")) {
  const off = Math.round((Date.parse(line.dataset.clock) - Date.now()) / 1000);
  if (Math.abs(off) > 120) line.textContent += ` This computer’s clock says something else: one of the two is wrong by ${Math.round(Math.abs(off) / 60)} min.`;
}

// Lines to copy get a button for it.
for (const text of document.querySelectorAll("[data-copy]")) {
  const box = document.createElement("div");
  const button = document.createElement("button");
  box.className = "copies";
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  text.replaceWith(box);
  box.append(text, button);
  button.addEventListener("click", async () => {
    const lines = text.textContent.trim();
    try {
      await navigator.clipboard.writeText(lines);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// Says how good a password is while it is typed.
for (const field of document.querySelectorAll("[data-strength]")) {
  const form = field.form;
  const line = document.createElement("p");
  line.className = "strength";
  line.setAttribute("role", "status");
  field.after(line);
  let waits, asked = 0;
  field.addEventListener("input", () => {
    clearTimeout(waits);
    const turn = ++asked;
    if (!field.value) { line.textContent = ""; return; }
    waits = setTimeout(async () => {
      const user = form.elements[field.dataset.strength];
      const body = new URLSearchParams({ form: form.elements.form.value, password: field.value, user: user ? user.value : "" });
      try {
        const answer = await fetch("/strength", { method: "POST", body });
        const found = answer.ok ? await answer.json() : null;
        if (turn !== asked || !found) return;
        const words = ["very weak", "weak", "weak", "good", "strong"];
        const word = found.enough && found.score < 3 ? "enough" : words[found.score] || "";
        line.textContent = "This password is " + word + "." + (found.advice ? " " + found.advice : "");
      } catch { /* the box says so itself when the form is sent */ }
    }, 400);
  });
}

// Goes on by itself once a box that starts again is back.
for (const place of document.querySelectorAll("[data-back]")) {
  const look = async () => {
    try {
      const answer = await fetch(place.dataset.back, { redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") { location.assign("/"); return; }
    } catch { /* it is not back yet */ }
    setTimeout(look, 2000);
  };
  setTimeout(look, 2000);
}

// Counts the seconds that something has left, and looks then what became of it.
for (const place of document.querySelectorAll("[data-countdown]")) {
  const until = Date.now() + 1000 * place.textContent;
  const count = () => {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    place.textContent = left;
    if (left) { setTimeout(count, 250); return; }
    const look = () => fetch(place.dataset.countdown, { method: "HEAD", redirect: "manual", cache: "no-store" }).then(() => location.assign(place.dataset.countdown), () => setTimeout(look, 2000));
    setTimeout(look, 2000);
  };
  count();
}

// What goes on is shown as it goes on, while somebody looks.
for (const part of document.querySelectorAll("[data-live]")) {
  const EVERY = 5000;
  const stale = document.createElement("p");
  stale.className = "stale";
  stale.setAttribute("role", "status");
  part.before(stale);
  let shown = null;
  const look = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(part.dataset.live, { redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect" || answer.status === 401) { location.reload(); return; }
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      stale.textContent = "";
      if (text === shown) return;
      shown = text;
      const focused = part.contains(document.activeElement) ? document.activeElement : null;
      const place = focused && (focused.id ? "#" + CSS.escape(focused.id) : focused.getAttribute("href") ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]` : null);
      part.innerHTML = text;
      if (place) part.querySelector(place)?.focus({ preventScroll: true });
    } catch {
      stale.textContent = "The box does not answer now: what stands here may be out of date.";
    }
  };
  setInterval(look, EVERY);
  document.addEventListener("visibilitychange", look);
}
