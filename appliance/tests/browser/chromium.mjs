// A browser, headless, spoken to by its own protocol over a pipe: real keys, real clicks, real pictures. Needs Chromium, and nothing else.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export class Chromium {
  #waiting = new Map();
  #number = 0;
  #rest = "";
  #session;
  #loaded = [];
  #profile = mkdtempSync(join(tmpdir(), "narrowboat-browser-"));
  // What the browser complained about, and what came back: its status by address.
  complaints = [];
  answers = [];

  constructor() {
    this.process = spawn(process.env.CHROMIUM || "chromium", ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--ignore-certificate-errors", "--remote-debugging-pipe",
      "--hide-scrollbars", "--no-first-run", "--disable-background-networking", "--disable-component-update", `--user-data-dir=${this.#profile}`],
      { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.process.on("error", (error) => { throw error; });
    this.process.stdio[4].on("data", (data) => this.#hear(data));
  }

  #hear(data) {
    this.#rest += data;
    const messages = this.#rest.split("\0");
    this.#rest = messages.pop();
    for (const text of messages) {
      const { id, method, params, result, error } = JSON.parse(text);
      if (id) this.#waiting.get(id)?.(error, result);
      if (method === "Page.loadEventFired") this.#loaded.splice(0).forEach((done) => done());
      if (method === "Log.entryAdded" && !["verbose", "info"].includes(params.entry.level)) this.complaints.push(`${params.entry.text} ${params.entry.url || ""}`);
      if (method === "Runtime.exceptionThrown") this.complaints.push(`${params.exceptionDetails.text} ${params.exceptionDetails.exception?.description || ""}`);
      if (method === "Network.responseReceived" && params.type === "Document") this.answers.push({ url: params.response.url, status: params.response.status });
    }
  }

  ask(method, params = {}) {
    const id = ++this.#number;
    return new Promise((done, fail) => {
      this.#waiting.set(id, (error, result) => { this.#waiting.delete(id); error ? fail(new Error(`${method}: ${error.message}`)) : done(result); });
      this.process.stdio[3].write(JSON.stringify({ id, method, params, ...(this.#session && { sessionId: this.#session }) }) + "\0");
    });
  }

  async open() {
    const { targetId } = await this.ask("Target.createTarget", { url: "about:blank" });
    this.#session = (await this.ask("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    for (const domain of ["Page", "Log", "Runtime", "Network"]) await this.ask(`${domain}.enable`);
    return this;
  }

  // How wide and tall the window is, and whether people have it dark.
  async view({ width, height, dark = false }) {
    this.size = { width, height };
    await this.ask("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
    await this.ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
  }

  // Does something that leads to another page, and waits for that.
  async leads(act, seconds = 30) {
    const loaded = new Promise((done) => this.#loaded.push(done));
    await act();
    const late = new Promise((_, fail) => setTimeout(() => fail(new Error("no page came")), seconds * 1000).unref());
    await Promise.race([loaded, late]);
  }

  go(url) { return this.leads(() => this.ask("Page.navigate", { url })); }

  async run(expression) {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description || exceptionDetails.text);
    return result.value;
  }

  // Clicks where a person would: in the middle of what this selects, once it is in sight.
  async click(selector) {
    const place = await this.run(`(() => { const found = document.querySelector(${JSON.stringify(selector)}); if (!found) return null;
      found.scrollIntoView({ block: "center" }); const box = found.getBoundingClientRect(); return { x: box.x + box.width / 2, y: box.y + box.height / 2 }; })()`);
    if (!place) throw new Error(`there is no ${selector} on ${await this.run("location.href")}`);
    for (const type of ["mousePressed", "mouseReleased"]) await this.ask("Input.dispatchMouseEvent", { type, ...place, button: "left", clickCount: 1 });
  }

  // Types into the field that the keyboard is in.
  type(text) { return this.ask("Input.insertText", { text }); }

  async key(key, code = key) {
    for (const type of ["keyDown", "keyUp"]) await this.ask("Input.dispatchKeyEvent", { type, key, code, windowsVirtualKeyCode: key === "Tab" ? 9 : 13, ...(key === "Enter" && type === "keyDown" && { text: "\r" }) });
  }

  // Goes on with the Tab key until the field has the keyboard.
  async tabTo(id) {
    for (let tabs = 0; tabs < 60; tabs++) {
      if (await this.run(`document.activeElement?.id === ${JSON.stringify(id)}`)) return;
      await this.key("Tab");
    }
    throw new Error(`the Tab key does not lead to ${id} on ${await this.run("location.href")}`);
  }

  async picture() {
    const tall = await this.run("document.documentElement.scrollHeight");
    const { data } = await this.ask("Page.captureScreenshot", { format: "png", captureBeyondViewport: true,
      clip: { x: 0, y: 0, width: this.size.width, height: Math.max(this.size.height, Math.min(tall, 4000)), scale: 1 } });
    return Buffer.from(data, "base64");
  }

  async close() {
    const ended = new Promise((done) => this.process.on("exit", done));
    this.#session = undefined;
    await this.ask("Browser.close").catch(() => {});
    await ended;
    // Its helpers may write for a moment longer; the folder is one for scratch.
    try { rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 }); } catch { /* left to the system */ }
  }
}
