// Loaded by a program under test: what it has synced stands in the file SYNCED.
const fs = require("node:fs");
const { syncBuiltinESMExports } = require("node:module");

const { openSync, fsyncSync } = fs;
const opened = new Map();

fs.openSync = (path, ...rest) => {
  const file = openSync(path, ...rest);
  opened.set(file, path);
  return file;
};
fs.fsyncSync = (file) => {
  fsyncSync(file);
  fs.appendFileSync(process.env.SYNCED, `${opened.get(file)}\n`);
};
syncBuiltinESMExports();
