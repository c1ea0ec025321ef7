-- The holder has met a wish. ARGV: prefix, id, token, what was wished, the wish's number
-- -> "held" | "wish" | "cancel" | "lost"
local _, id, token, what, number = unpack(ARGV)
local job = load(id)
if not holds(job, token) then return "lost" end
meet(job, what, number)
return word_for(job)
