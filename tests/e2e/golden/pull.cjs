// node pull.cjs SDKAPPID APPKEY pullCallback|pullReply MAX: prints what the SDK hands its caller.
"use strict";

const { SmsStatusPuller } = require("qcloudsms_js/lib/sms");

const [sdkappid, appkey, call, max] = process.argv.slice(2);
new SmsStatusPuller(sdkappid, appkey)[call](Number(max), (error, response, data) => {
  if (error) {
    throw error;
  }
  console.log(JSON.stringify({ http_status: response.statusCode, data }));
});
