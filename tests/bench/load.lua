-- What wrk sends: GET with the tokens of a file, one after the other, beginning after the first `after` of them.
-- Arguments: the file, the path, `after`.
local requests, at = {}, 0

function init(args)
  for token in io.lines(args[1]) do
    local headers = { ["Host"] = "orders.mesh", ["Authorization"] = "Bearer " .. token }
    requests[#requests + 1] = wrk.format("GET", args[2], headers)
  end
  at = tonumber(args[3])
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("bench %d %d %d %d %d %d\n", summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
