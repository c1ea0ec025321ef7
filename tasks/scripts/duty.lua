-- Takes the janitor's duty for a while, or keeps it. ARGV: prefix, worker, milliseconds  -> 1, or 0 where another has it
local _, worker, ms = unpack(ARGV)
local holder = redis.call("GET", key("janitor"))
if holder and holder ~= worker then return 0 end
redis.call("SET", key("janitor"), worker, "PX", ms)
return 1
