-- wrk's side of a load: sends the requests of a file in the order the file says, and prints what
-- was measured as one line of JSON.
--
-- The file: a line with the number of requests; a line with the length of each; the requests
-- themselves, whole, one after the other; then a line with the number of picks and the picks:
-- which request is the next, counted from 1, over and over.

local requests, picks, turn = {}, {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local lengths = {}
  for i = 1, file:read("*n") do
    lengths[i] = file:read("*n")
  end
  file:read(1)
  for i, length in ipairs(lengths) do
    requests[i] = file:read(length)
  end
  for i = 1, file:read("*n") do
    picks[i] = file:read("*n")
  end
  file:close()
end

function request()
  turn = turn % #picks + 1
  return requests[picks[turn]]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"seconds":%.6f,"requests":%d,"answer_bytes":%.0f,"http_errors":%d,"socket_errors":%d,' ..
    '"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}\n',
    summary.duration / 1e6, summary.requests, summary.bytes, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
