-- The heartbeat of a worker: renews all its leases and reads all cancel marks and wishes.
-- ARGV: prefix, lease in ms, then id, token, id, token ...  -> per job "held" | "wish" | "cancel" |
-- "expired" | "lost"
local ends = now() + tonumber(ARGV[2])
local replies = {}
for i = 3, #ARGV, 2 do
  local job = load(ARGV[i])
  if not holds(job, ARGV[i + 1]) then
    table.insert(replies, "lost")
  else
    if not overstays(job) then redis.call("ZADD", key("leases"), ends, job.id) end
    table.insert(replies, not job.cancel and missed(job) and "expired" or word_for(job))
  end
end
return replies
