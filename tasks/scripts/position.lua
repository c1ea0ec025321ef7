-- How many jobs go before this one. ARGV: prefix, id  -> {state or "", number or -1}
local id = ARGV[2]
local job, unreadable = load(id)
if unreadable then return UNREADABLE end
if not job then return {"", -1} end
local rank = try("ZRANK", key("queued", job.lane), id)
if not rank then return {job.state, -1} end
local class, before = class_of(job.lane), rank
-- Lanes of a class take turns, and interactive ones go before all bulk.
for _, other in ipairs(try("SMEMBERS", key("lanes")) or {}) do
  local theirs = other ~= job.lane and is_lane(other) and model_of(other) == model_of(job.lane) and class_of(other)
  local waiting = theirs and try("ZCARD", key("queued", other)) or 0
  if theirs == class then
    before = before + math.min(rank, waiting)
  elseif theirs == "interactive" then
    before = before + waiting
  end
end
return {job.state, before}
