// Sets a fresh box up as a person would, with the mouse and the keys, and counts what that takes.
//   node setup.mjs '{"base": "https://127.0.0.1:8443", "claim": "…", "password": "…", "address": "hub:4433", "code": "…", "pictures": "folder or empty"}'
// Prints {"clicks", "seconds", "complaints", "answers"}.
import { mkdirSync, writeFileSync } from "node:fs";
import { Chromium } from "./chromium.mjs";

const given = JSON.parse(process.argv[2]);
const browser = await new Chromium().open();
await browser.view({ width: 1280, height: 860 });
if (given.zone) await browser.ask("Emulation.setTimezoneOverride", { timezoneId: given.zone });
let clicks = 0, pictures = 0;
const click = async (selector) => { clicks++; await browser.click(selector); };
const next = (selector) => browser.leads(() => click(selector), 60);
const look = async (name) => {
  if (!given.pictures) return;
  mkdirSync(given.pictures, { recursive: true });
  writeFileSync(`${given.pictures}/setup-${++pictures}-${name}.png`, await browser.picture());
};
const fill = async (fields) => {
  for (const [id, text] of Object.entries(fields)) { await browser.tabTo(id); await browser.type(text); }
};
const said = (text) => browser.run(`document.body.textContent.includes(${JSON.stringify(text)})`);

const begun = performance.now();
// The label's address has the code behind its #; the name stands there already.
await browser.go(`${given.base}/#c=${given.claim}`);
await look("claim");
await fill({ password: given.password, again: given.password });
await next("button.main");
// The zone of whoever sits there: that of the browser.
if (given.zone && (await browser.run("document.querySelector('#time_zone').value")) !== given.zone) throw new Error("the time zone is not the browser's");
await look("place");
await next("button.main");
await look("disks");
if (!(await said("What backups lie on"))) throw new Error("nothing is said of disks");
await next("button.main");
await look("network");
await next("button.main");
await look("clients");
await next("button.main");
await look("dataset");
await next("button.main");
await fill({ head_office_address: given.address, head_office_code: given.code });
await look("head-office");
await next("button.main");
await look("line");
await next("button.main");
await look("notices");
await next("button.main");
await look("summary");
await next("button.main");
await look("wait");
// The box starts again, and the page goes on by itself: to the sign-in.
for (let turns = 0; turns < 120 && !(await browser.run("!!document.querySelector('#password')").catch(() => false)); turns++) {
  await new Promise((done) => setTimeout(done, 500));
}
await fill({ user: "admin", password: given.password });
await next("button.main");
for (let turns = 0; turns < 60 && !(await said("Have backups written to it")); turns++) await new Promise((done) => setTimeout(done, 500));
await look("done");
if (await said("Not done")) throw new Error("something was not done: " + await browser.run("document.querySelector('main').textContent"));
await next("a.button.main");
await look("mount");
if (!(await said("mount -t nfs"))) throw new Error("the page of the share does not say how to mount it");
const seconds = (performance.now() - begun) / 1000;
console.log(JSON.stringify({ clicks, seconds, complaints: [...new Set(browser.complaints)], answers: browser.answers }));
await browser.close();
