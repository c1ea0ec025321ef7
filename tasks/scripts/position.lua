-- How many jobs go before this one. ARGV: prefix, id  -> {state or "", number or -1}
local id = ARGV[2]
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job then return {"", -1} end
local rank = try("ZRANK", key("queued", job.lane), id)
if not rank then return {job.state, -1} end
local model, lane = string.match(job.lane, "^(.*):(%a+)$")
if lane == "bulk" then rank = rank + (try("ZCARD", key("queued", model, "interactive")) or 0) end
return {job.state, rank}
