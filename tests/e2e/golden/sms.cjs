// node sms.cjs < JSON: has the SDK of API 3.0 make calls, one after the other, and prints what it
// hands its caller for each, a list for each client.
//
//   [{ secretId, secretKey, version, endpoint, port, reqMethod, signMethod, region,
//      calls: [[action, request, headers]...] }...]
//
// Whatever name an endpoint has leads to this machine.
"use strict";

const fs = require("fs");
const http = require("http");
const { sms } = require("tencentcloud-sdk-nodejs-sms");

const here = (_name, options, done) =>
  options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);
const agent = new http.Agent({ lookup: here });

async function ask({ version, secretId, secretKey, region, signMethod, calls, ...profile }) {
  const client = new sms[version].Client({
    credential: { secretId, secretKey },
    region,
    profile: { signMethod, httpProfile: { protocol: "http://", agent, ...profile } },
  });
  const answers = [];
  for (const [action, request, headers] of calls) {
    try {
      answers.push({ response: await client[action](request, { headers }) });
    } catch (error) {
      const { code, message, requestId, traceId } = error;
      const name = error.constructor.name;
      answers.push({ error: { name, code, message, requestId, traceId } });
    }
  }
  return answers;
}

(async () => {
  const answers = [];
  for (const client of JSON.parse(fs.readFileSync(0, "utf8"))) {
    answers.push(await ask(client));
  }
  console.log(JSON.stringify(answers));
})();
