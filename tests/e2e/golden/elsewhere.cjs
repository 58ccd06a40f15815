// Loaded before the SDK: its calls to https://yun.tim.qq.com go to our server, over plain HTTP.
"use strict";

const http = require("http");
const https = require("https");

https.request = (options, callback) => {
  if (options.host !== "yun.tim.qq.com") {
    throw new Error("not a call of the SDK: " + options.host);
  }
  const { HOST: host, PORT: port } = process.env;
  return http.request({ ...options, host, port }, callback);
};
