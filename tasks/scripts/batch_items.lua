-- A page of the jobs of a batch, in the order in which they came. ARGV: prefix, id, custom_id of the last page's last or "",
-- most  -> {custom_id, job id, state or "", ...}; nil where there is no such batch, or custom_id
local _, id, after, most = unpack(ARGV)
if not load_batch(id) then return nil end
local from = after == "" and "-inf" or try("ZSCORE", key("batch_order", id), after)
if not from then return nil end
local found = {}
for _, custom_id in ipairs(try("ZRANGEBYSCORE", key("batch_order", id), "(" .. from, "+inf", "LIMIT", 0, most) or {}) do
  local job = try("HGET", key("batch_jobs", id), custom_id) or ""
  for _, value in ipairs({custom_id, job, try("HGET", job_key(job), "state") or ""}) do table.insert(found, value) end
end
return found
