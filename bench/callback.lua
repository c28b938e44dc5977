-- Jumio callbacks for wrk: every request is a POST of the guide's example
-- ("Callback Parameters") with a fresh random workflow execution id.
--
--   wrk -t2 -c64 -d10s -s callback.lua http://127.0.0.1:8080/jumio/callback -- SEED [STATUS]
--
-- The same seed (a whole number) sends the same ids again. STATUS is PROCESSED
-- when left out, which makes a body of 482 bytes. At the end, one line of JSON
-- behind the word "result" says how it went.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local random = math.random
local hex = {}
for i = 0, 0xffff do
  hex[i] = string.format("%04x", i)
end

-- uuid is a random one, version 4 (RFC 9562 section 5.4).
local function uuid()
  return hex[random(0, 0xffff)] .. hex[random(0, 0xffff)] .. "-" .. hex[random(0, 0xffff)] .. "-"
    .. hex[random(0x4000, 0x4fff)] .. "-" .. hex[random(0x8000, 0xbfff)] .. "-"
    .. hex[random(0, 0xffff)] .. hex[random(0, 0xffff)] .. hex[random(0, 0xffff)]
end

local before, between, after

function init(args)
  math.randomseed(tonumber(args[1] or 1) * 1000 + number)
  local status = args[2] or "PROCESSED"
  local here = string.rep("?", 36) -- where the fresh id goes
  local account = "11111111-1111-4111-8111-111111111111"
  local accountHref = "https://retrieval.apac-1.jumio.ai/api/v1/accounts/" .. account
  local body = '{"callbackSentAt":"2021-01-21T14:55:01.917Z","userReference":"user-1","workflowExecution":{"id":"' .. here
    .. '","href":"' .. accountHref .. "/workflow-executions/" .. here
    .. '","definitionKey":"3","status":"' .. status .. '"},"account":{"id":"' .. account
    .. '","href":"' .. accountHref .. '"}}'
  -- Built once: all that changes from request to request is the id.
  local request = wrk.format("POST", nil, { ["Host"] = wrk.headers["Host"], ["Content-Type"] = "application/json" }, body)
  local first = request:find(here, 1, true)
  local second = request:find(here, first + #here, true)
  before = request:sub(1, first - 1)
  between = request:sub(first + #here, second - 1)
  after = request:sub(second + #here)
end

function request()
  local id = uuid()
  return before .. id .. between .. id .. after
end

-- wrk counts answers of 400 and more as errors of status; durations are in
-- microseconds.
function done(summary, latency)
  local e = summary.errors
  print(string.format(
    'result {"requests":%d,"duration":%d,"p50":%d,"p99":%d,'
      .. '"errors":{"status":%d,"connect":%d,"read":%d,"write":%d,"timeout":%d}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end
