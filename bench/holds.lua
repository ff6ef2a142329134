-- Asks for holds and settles them: whatever hold was granted is settled by the next request.
-- Every call is matched by three budgets: the organisation's, its project's, its agent's.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  threads[#threads + 1] = thread
end

local headers = {
  ["Authorization"] = "Bearer @KEY@",
  ["Content-Type"] = "application/json",
}
local ask = '{"idempotency_key":"@PREFIX@-%d-%d","agent":"agent-%d","project":"project-%d","provider":"openai",'
  .. '"model":"gpt-4o","usage":{"input_tokens":%d,"max_output_tokens":800}}'
local spent = '{"usage":{"input_tokens":%d,"output_tokens":%d},"duration_ms":%d}'

local granted, first, last = {}, 1, 0
local asked = 0

function init(args)
  pairs_done, refused = 0, 0
end

function request()
  if first <= last then
    local id = granted[first]
    granted[first] = nil
    first = first + 1
    pairs_done = pairs_done + 1
    local body = spent:format(1000 + pairs_done % 500, 50 + pairs_done % 750, 300 + pairs_done % 900)
    return wrk.format("POST", "/v1/holds/" .. id .. "/settle", headers, body)
  end
  asked = asked + 1
  local agent = asked % @AGENTS@
  local body = ask:format(number, asked, agent, agent % @PROJECTS@, 1000 + asked % 500)
  return wrk.format("POST", "/v1/holds", headers, body)
end

function response(status, _, body)
  if status == 201 then
    last = last + 1
    granted[last] = body:match('"id":"(hold_[^"]+)"')
  elseif status ~= 200 then
    refused = refused + 1
    if refused == 1 then io.stderr:write(status .. " " .. body .. "\n") end
  end
end
