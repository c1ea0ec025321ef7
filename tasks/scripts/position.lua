-- How many jobs go before this one. ARGV: prefix, id  -> {state or "", number or -1}
local id = ARGV[2]
local job = load(id)
if not job then return {"", -1} end
local rank = redis.call("ZRANK", key("queued", job.lane), id)
if not rank then return {job.state, -1} end
local model, lane = string.match(job.lane, "^(.*):(%a+)$")
if lane == "bulk" then rank = rank + redis.call("ZCARD", key("queued", model, "interactive")) end
return {job.state, rank}
