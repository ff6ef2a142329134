-- Asks for holds and settles none: every call is matched by one budget of its agent.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  threads[#threads + 1] = thread
end

local headers = {
  ["Authorization"] = "Bearer @KEY@",
  ["Content-Type"] = "application/json",
}
local ask = '{"idempotency_key":"@PREFIX@-%d-%d","agent":"hot-%d","provider":"openai",'
  .. '"model":"gpt-4o","usage":{"input_tokens":1000,"max_output_tokens":800}}'
local asked = 0

function init(args)
end

function request()
  asked = asked + 1
  return wrk.format("POST", "/v1/holds", headers, ask:format(number, asked, asked % @BUDGETS@))
end
