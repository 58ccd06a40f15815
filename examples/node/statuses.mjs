// Takes delivery statuses into pages/KEY.json, for ever. Node 18 or newer, and nothing else:
//
//     PULLSTATUS_URL=http://127.0.0.1:8080 PULLSTATUS_SDKAPPID=1400006666 \
//         PULLSTATUS_APPKEY=... node statuses.mjs
//
// The file `key` names the page that is asked for. It is on disk before the page is asked for, and
// changes when the page is on disk. Wherever this ends in between, the next run asks for the same
// page and puts it into the same file.
import { createHash, randomBytes, randomInt } from "node:crypto";
import * as fs from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const { PULLSTATUS_URL, PULLSTATUS_SDKAPPID, PULLSTATUS_APPKEY } = process.env;
const PAUSE_MS = 1000;

/** Puts a text on disk: under its name it is whole, or what was there before. */
function save(path, text) {
  const file = fs.openSync(`${path}.new`, "w", 0o600);
  fs.writeFileSync(file, text);
  fs.fsyncSync(file);
  fs.closeSync(file);
  fs.renameSync(`${path}.new`, path);
  const folder = fs.openSync(dirname(path));
  fs.fsyncSync(folder);
  fs.closeSync(folder);
}

/** One page; its request is signed for this one attempt. */
async function pull(key) {
  const time = Math.floor(Date.now() / 1000);
  const random = randomInt(2 ** 32);
  const signed = `appkey=${PULLSTATUS_APPKEY}&random=${random}&time=${time}`;
  const sig = createHash("sha256").update(signed).digest("hex");
  const query = `sdkappid=${PULLSTATUS_SDKAPPID}&random=${random}`;
  const answer = await fetch(`${PULLSTATUS_URL}/v5/tlssmssvr/pullstatus?${query}`, {
    method: "POST",
    headers: { "Idempotency-Key": key },
    body: JSON.stringify({ sig, time, type: 0, max: 100 }),
    signal: AbortSignal.timeout(30_000),
  });
  const page = await answer.json();
  if (page.result !== 0) throw new Error(`${page.result} ${page.errmsg}`);
  return page;
}

const newKey = () => save("key", randomBytes(16).toString("hex"));

fs.mkdirSync("pages", { recursive: true, mode: 0o700 });
if (!fs.existsSync("key")) newKey();
for (;;) {
  const key = fs.readFileSync("key", "utf8");
  try {
    const page = await pull(key);
    if (page.count > 0) {
      save(`pages/${key}.json`, JSON.stringify(page.data));
      newKey();
    } else {
      await sleep(PAUSE_MS); // the key waits for its page
    }
  } catch (error) {
    console.error(`asking again: ${error.cause?.message ?? error.message}`);
    await sleep(PAUSE_MS);
  }
}
