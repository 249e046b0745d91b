// Pictures of every page, wide and narrow, light and dark, and what the browser complained about meanwhile.
//   PAGE_SECONDS=300 cargo test -p narrowboat --test page look -- --ignored --nocapture    (says its port)
//   node appliance/tests/page/look.mjs PORT FOLDER [PATH...]
// Needs Chromium, and nothing else.
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";

const [port, folder, ...only] = process.argv.slice(2);
const PAGES = ["/", "/datasets", "/datasets/new", "/datasets/office", "/datasets/exchange", "/datasets/office/delete", "/datasets/office/files", "/datasets/office/files?path=many", "/datasets/exchange/files", "/datasets/office/timeline", "/datasets/office/timeline?span=year", "/datasets/office/clone?at=2026-11-22T07:30:00Z", "/datasets/office/rewind?at=2026-11-19T13-00-00.000Z",
  "/datasets/office/retention", "/datasets/pictures/retention", "/datasets/office/snapshots/2026-11-19T13-00-00.000Z/lock", "/datasets/exchange/larger", "/datasets/office/window/off", "/locks",
  "/datasets/office/changes?from=2026-11-19T13-00-00.000Z&to=2026-11-23T13-00-00.000Z", "/deleted", "/storage", "/storage?span=year", "/peers", "/peers/head-office", "/peers/head-office/limits", "/limits", "/peers/invite", "/peers/join",
  "/jobs", "/security", "/users", "/audit", "/settings", "/settings?dataset=office", "/system", "/system/restart", "/system/stop", "/setup/place", "/setup/clients", "/setup/dataset", "/setup/head-office", "/setup/line", "/setup/summary", "/setup/done", "/setup/file", "/nowhere", "/sign-in"];
const VIEWS = [["wide", 1400, 900, "light"], ["narrow", 390, 844, "light"], ["wide-dark", 1400, 900, "dark"], ["narrow-dark", 390, 844, "dark"]];

mkdirSync(folder, { recursive: true });
const chromium = spawn("chromium", ["--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors", "--remote-debugging-pipe", "--hide-scrollbars"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
const waiting = new Map();
let number = 0, rest = "", session, loaded = () => {};
const complaints = [];

chromium.stdio[4].on("data", (data) => {
  rest += data;
  const messages = rest.split("\0");
  rest = messages.pop();
  for (const text of messages) {
    const message = JSON.parse(text);
    if (message.id) waiting.get(message.id)?.(message);
    if (message.method === "Page.loadEventFired") loaded();
    if (message.method === "Log.entryAdded" && message.params.entry.level !== "verbose") complaints.push(message.params.entry.text + " " + (message.params.entry.url || ""));
    if (message.method === "Runtime.exceptionThrown") complaints.push(message.params.exceptionDetails.text + " " + (message.params.exceptionDetails.exception?.description || ""));
  }
});
const ask = (method, params = {}) => new Promise((done, fail) => {
  const id = ++number;
  waiting.set(id, (message) => message.error ? fail(new Error(method + ": " + message.error.message)) : done(message.result));
  chromium.stdio[3].write(JSON.stringify({ id, method, params, ...(session && { sessionId: session }) }) + "\0");
});

const base = `https://localhost:${port}`;
const { targetId } = await ask("Target.createTarget", { url: "about:blank" });
session = (await ask("Target.attachToTarget", { targetId, flatten: true })).sessionId;
for (const domain of ["Page", "Log", "Runtime", "Network"]) await ask(domain + ".enable");
for (const [view, width, height, scheme] of VIEWS) {
  await ask("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  await ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  for (const path of only.length ? only : PAGES) {
    const open = path.startsWith("/sign-in") || path.startsWith("/claim") || path.startsWith("/#");
    await ask("Network.clearBrowserCookies");
    if (!open) await ask("Network.setCookie", { name: "__Host-narrowboat", value: "session-of-the-administrator", url: base, path: "/", secure: true, httpOnly: true, sameSite: "Strict" });
    const there = new Promise((done) => { loaded = done; });
    const begun = performance.now();
    await ask("Page.navigate", { url: base + path });
    await there;
    const took = performance.now() - begun;
    const { result } = await ask("Runtime.evaluate", { returnByValue: true, expression: "({ wide: document.documentElement.scrollWidth, tall: document.documentElement.scrollHeight, paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null })" });
    const too = result.value.wide > width ? `  TOO WIDE: ${result.value.wide}` : "";
    console.log(`${view} ${path}  loaded ${took.toFixed(0)} ms, first paint ${result.value.paint?.toFixed(0)} ms${too}`);
    const { data } = await ask("Page.captureScreenshot", { format: "png", captureBeyondViewport: true, clip: { x: 0, y: 0, width, height: Math.max(height, result.value.tall), scale: 1 } });
    writeFileSync(`${folder}/${view}${path.replace(/[^a-z0-9]+/gi, "-").slice(0, 40)}.png`, Buffer.from(data, "base64"));
  }
}
console.log([...new Set(complaints)].map((text) => "complaint: " + text).join("\n") || "no complaints");
chromium.kill();
