-- Drives the service with prepared requests and prints what wrk measured as one line of JSON.
--
--   wrk … -s load.lua URL -- FILE THREADS RUN
--
-- FILE holds whole HTTP requests, made by the bench binary. Each is a list of fragments, joined by an
-- id that is new for every request sent (its width is constant, so Content-Length stays true); a
-- request of one fragment is sent as it is. All cases run this same script, so that the load
-- generator costs the same in each and the ratios compare the service alone.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  run = args[3]
  sent = 0
  entries = {}
  for i = 1, file:read("*n", "*l") do
    local fragments = {}
    for j = 1, file:read("*n", "*l") do
      local length = file:read("*n", "*l")
      fragments[j] = file:read(length)
    end
    entries[i] = #fragments == 1 and fragments[1] or fragments
  end
  file:close()
  -- Threads start apart from each other, so that they do not walk the users in step.
  at = math.floor(#entries * number / tonumber(args[2]))
end

function request()
  at = at % #entries + 1
  local entry = entries[at]
  if type(entry) == "string" then
    return entry
  end
  sent = sent + 1
  return table.concat(entry, string.format("%s%02d%08d", run, number, sent))
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%.0f,"duration_us":%.0f,"p50_us":%.0f,"p99_us":%.0f,"max_us":%.0f,' ..
    '"status":%.0f,"connect":%.0f,"read":%.0f,"write":%.0f,"timeout":%.0f}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
