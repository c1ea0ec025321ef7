-- The heartbeat of a worker: renews all its leases and reads all its cancel marks.
-- ARGV: prefix, lease in ms, then id, token, id, token ...  -> per job "held" | "cancel" | "expired" | "lost"
local ends = now() + tonumber(ARGV[2])
local replies = {}
for i = 3, #ARGV, 2 do
  local job = load(ARGV[i])
  if not holds(job, ARGV[i + 1]) then
    table.insert(replies, "lost")
  else
    if not overstays(job) then redis.call("ZADD", key("leases"), ends, job.id) end
    table.insert(replies, job.cancel and "cancel" or missed(job) and "expired" or "held")
  end
end
return replies
