// node send.cjs SDKAPPID APPKEY CLASS METHOD ARGUMENTS: ARGUMENTS is a JSON array; prints what the SDK
// hands its caller.
"use strict";

const sms = require("qcloudsms_js/lib/sms");

const [sdkappid, appkey, name, method, given] = process.argv.slice(2);
new sms[name](sdkappid, appkey)[method](...JSON.parse(given), (error, response, data) => {
  if (error) {
    throw error;
  }
  console.log(JSON.stringify({ http_status: response.statusCode, data }));
});
