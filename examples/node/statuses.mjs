// Takes delivery statuses into pages/, for ever. Node 18 or newer, and nothing else:
//
//     PULLSTATUS_URL=http://127.0.0.1:8080 PULLSTATUS_SDKAPPID=1400006666 \
//         PULLSTATUS_APPKEY=... node statuses.mjs
//
// It pulls under a reader's name: the server keeps each page in this reader's hand until the next pull
// tells that it is on disk here. Wherever this ends in between, the next run is handed the same page,
// and puts it into the same file, which has the page's name.
import { createHash, randomInt } from "node:crypto";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const { PULLSTATUS_SDKAPPID, PULLSTATUS_APPKEY } = process.env;
const SERVICE = process.env.PULLSTATUS_URL.replace(/\/$/, "");
const READER = "node";
const PAUSE_MS = 1000;
const MALFORMED = 1004;

/** Whoever answers hands out each page once, whether it arrives or not: do not go on. */
class NoReader extends Error {}

/** Makes the names in a folder durable. */
function sync(path) {
  const folder = fs.openSync(path);
  try {
    fs.fsyncSync(folder);
  } finally {
    fs.closeSync(folder);
  }
}

/** Puts a text on disk: under its name it is whole, or what was there before. */
function save(path, text) {
  const file = fs.openSync(`${path}.new`, "w", 0o600);
  try {
    fs.writeFileSync(file, text);
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
  fs.renameSync(`${path}.new`, path);
  sync(dirname(path));
}

/** Makes sure that the service knows readers; it takes no page. */
async function checkReaders() {
  const answer = await fetch(`${SERVICE}/`, {
    headers: { Connection: "close" },
    redirect: "manual",
    signal: AbortSignal.timeout(3_000),
  });
  const about = await answer.text();
  if (answer.status >= 500 || [408, 429].includes(answer.status))
    throw new Error(`GET / was answered with HTTP status ${answer.status}`); // nobody who knows
  if (!/^\{"name":"pullstatus",.*"reader"/.test(about))
    throw new NoReader("the service does not say that it knows readers: nothing was pulled");
}

/** One page as it came, since numbers may be larger than ours, and its name, null if it is empty; `ack`
 * names the page that was done with, if any. */
async function pull(ack) {
  const time = Math.floor(Date.now() / 1000);
  const random = randomInt(2 ** 32);
  const signed = `appkey=${PULLSTATUS_APPKEY}&random=${random}&time=${time}`;
  const sig = createHash("sha256").update(signed).digest("hex");
  const query = `sdkappid=${PULLSTATUS_SDKAPPID}&random=${random}`;
  const answer = await fetch(`${SERVICE}/v5/tlssmssvr/pullstatus?${query}`, {
    method: "POST",
    headers: { "Pullstatus-Reader": READER, ...(ack && { "Pullstatus-Ack": ack }) },
    body: JSON.stringify({ sig, time, type: 0, max: 100 }),
    redirect: "manual", // what is signed is for this address alone
    signal: AbortSignal.timeout(30_000),
  });
  if (answer.status >= 300 && answer.status < 400)
    throw new Error(`the service has moved to ${answer.headers.get("Location")}`);
  const text = await answer.text();
  const page = JSON.parse(text);
  if (page.result === MALFORMED && ack) return pull(null); // it is not to be told of that page
  if (page.result !== 0) throw new Error(`${page.result} ${page.errmsg}`);
  const name = answer.headers.get("Pullstatus-Pull-Id");
  const reader = answer.headers.get("Pullstatus-Reader");
  if (reader !== READER || (name === null && page.data.length > 0)) {
    const lone = `lone-${time}.json`;
    if (page.data.length > 0) save(lone, text);
    throw new NoReader(`an answer was given to no reader; if it had records, they are in ${lone}`);
  }
  return [text, name];
}

fs.mkdirSync("pages", { recursive: true, mode: 0o700 });
sync(".");
let ack = null;
let checked = false;
for (;;) {
  try {
    if (!checked) await checkReaders();
    checked = true;
    const [text, name] = await pull(ack);
    if (name !== null) {
      save(`pages/${name}.json`, text);
      ack = name;
    } else {
      await sleep(PAUSE_MS);
    }
  } catch (error) {
    if (error instanceof NoReader) throw error;
    console.error(`asking again: ${error.cause?.message ?? error.message}`);
    await sleep(PAUSE_MS);
  }
}
