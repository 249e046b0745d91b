// Goes to every page that can be reached by links, wide and narrow, light and dark; has axe look at each; sends hostile texts into each form.
//   node pages.mjs '{"base": "https://127.0.0.1:8443", "user": "admin", "password": "…", "axe": "axe.min.js", "pictures": "folder or empty"}'
// Prints {"pages", "violations", "wide", "complaints", "bad", "lost"}.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Chromium } from "./chromium.mjs";

const given = JSON.parse(process.argv[2]);
const axe = readFileSync(given.axe, "utf8");
const browser = await new Chromium().open();
const VIEWS = [["desktop", { width: 1280, height: 860 }], ["telephone", { width: 390, height: 844 }], ["desktop-dark", { width: 1280, height: 860, dark: true }], ["telephone-dark", { width: 390, height: 844, dark: true }]];
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const violations = [], wide = [], lost = [], bad = [];
const pages = new Map();
if (given.pictures) mkdirSync(given.pictures, { recursive: true });
const name = (path) => path.replace(/[^a-z0-9]+/gi, "-").replace(/^-|-$/g, "").slice(0, 48) || "overview";

await browser.view(VIEWS[0][1]);
await browser.go(`${given.base}/sign-in`);
await check("/sign-in", VIEWS[0][0]);
await browser.tabTo("user"); await browser.type(given.user);
await browser.tabTo("password"); await browser.type(given.password);
await browser.leads(() => browser.key("Enter"));

async function check(path, view) {
  await browser.run(axe);
  const { violations: found } = await browser.run(`axe.run(document, { runOnly: ${JSON.stringify(RULES)}, resultTypes: ["violations"] }).then(({ violations }) => ({ violations }))`);
  for (const { id, help, nodes } of found) violations.push(`${view} ${path}: ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.html).join(" | ")}`);
  const over = await browser.run("document.documentElement.scrollWidth - innerWidth");
  if (over > 0) wide.push(`${view} ${path}: ${over} px`);
  if (given.pictures) writeFileSync(`${given.pictures}/${name(path)}-${view}.png`, await browser.picture());
}

// A page for each shape of address is enough: the tenth snapshot looks like the first.
const shape = (path) => path.split("?")[0].replace(/\/[^/]*\d{4}-\d{2}-\d{2}T[^/]*/g, "/T").replace(/\/\d+(?=\/|$)/g, "/N") + "?" + [...new URLSearchParams(path.split("?")[1] || "").keys()].sort().join("&");
const ahead = ["/", "/setup/place", "/setup/done", "/no/such/page"];
while (ahead.length) {
  const path = ahead.shift();
  if (pages.has(shape(path))) continue;
  pages.set(shape(path), path);
  await browser.go(given.base + path);
  const { status } = browser.answers.at(-1);
  if (status >= 400 && path !== "/no/such/page") bad.push(`${path}: ${status}`);
  await check(path, VIEWS[0][0]);
  const links = await browser.run(`[...document.querySelectorAll("a[href]:not([download])")].map((link) => new URL(link.getAttribute("href"), location.href)).filter((url) => url.origin === location.origin && !url.pathname.startsWith("/assets/")).map((url) => url.pathname + url.search)`);
  ahead.push(...links.filter((link) => !/\/(save|download|raw|image|bundle)(\?|$)|\.json$/.test(link)));
}
for (const [view, size] of VIEWS.slice(1)) {
  await browser.view(size);
  for (const path of pages.values()) { await browser.go(given.base + path); await check(path, view); }
}

// Each form gets texts that are absurd, hostile, empty, or in another script: it answers with a page, keeps what was typed, and says what is wrong.
await browser.view(VIEWS[0][1]);
const TEXTS = ["\"><script>document.title='taken'</script>", "Ünïcode 老师 \u{1F6A4} العربية", "-1e999", "../../etc/passwd", "x".repeat(3000), "' OR 1=1 --\r\nSet-Cookie: a=b", ""];
let sent = 0;
for (const path of pages.values()) {
  await browser.go(given.base + path);
  const forms = await browser.run(`[...document.querySelectorAll("main form")].map((form) => form.method === "post" && [...form.elements].some((field) => field.matches("input:not([type=hidden]):not([type=radio]):not([type=checkbox]):not([type=password]):not([readonly]), textarea")) ? form.getAttribute("action") || location.pathname : null)`);
  for (const [number, action] of forms.entries()) {
    if (!action || /sign-out|stop|shut|restart|apply/.test(action)) continue;
    for (const text of TEXTS) {
      const answer = await browser.run(`(async () => {
        const form = document.querySelectorAll("main form")[${number}], body = new URLSearchParams();
        for (const field of form.elements) {
          if (!field.name || field.type === "checkbox" && !field.checked || field.type === "radio" && !field.checked || field.tagName === "BUTTON") continue;
          const typed = field.matches("textarea, input") && !field.readOnly && !["hidden", "radio", "checkbox", "password"].includes(field.type);
          body.append(field.name, typed ? ${JSON.stringify(text)} : field.value);
        }
        const answer = await fetch(form.getAttribute("action") || location.href, { method: "POST", body, redirect: "manual" });
        const page = answer.type === "opaqueredirect" ? "" : await answer.text();
        const shown = new DOMParser().parseFromString(page, "text/html");
        const holds = [...shown.querySelectorAll("input, textarea")].some((field) => field.value.replace(/[\\r\\n]+/g, "").trim() === ${JSON.stringify(text)}.replace(/[\\r\\n]+/g, "").trim());
        return { status: answer.status, holds, scripts: shown.querySelectorAll("main script").length, says: !!shown.querySelector(".wrong, [role=alert], .notice, h1") };
      })()`);
      sent++;
      const what = `${path} ${action} ${JSON.stringify(text.slice(0, 30))}: ${answer.status}`;
      if (answer.status >= 500 || answer.scripts || answer.status && !answer.says) bad.push(what);
      if (answer.status === 422 && text && text.length < 3000 && !answer.holds) lost.push(what);
    }
  }
}
if ((await browser.run("document.title")) === "taken") bad.push("a script of a form ran");
const complaints = [...new Set(browser.complaints)].filter((text) => !/status of 4\d\d/.test(text));
console.log(JSON.stringify({ pages: [...pages.values()], sent, violations: [...new Set(violations)], wide, complaints, bad, lost }));
await browser.close();
