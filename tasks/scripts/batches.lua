-- A page of batches, newest first. ARGV: prefix, tenant or "", most, id of the last page's last or ""
-- -> {id, {fields and values}, ...}; nil where the last page's last is gone
local _, tenant, most, before = unpack(ARGV)
local index = tenant == "" and key("batches") or key("batches", tenant)
local from = before == "" and "+inf" or try("HGET", key("batch", before), "created")
if not from then return nil end
local found, skipped = {}, 0
while #found < 2 * tonumber(most) do
  local page = try("ZREVRANGEBYSCORE", index, before == "" and from or "(" .. from, "-inf", "LIMIT", skipped, most) or {}
  if #page == 0 then break end
  for _, id in ipairs(page) do
    local fields = try("HGETALL", key("batch", id)) or {}
    if #fields > 0 and #found < 2 * tonumber(most) then
      table.insert(found, id)
      table.insert(found, fields)
    end
  end
  skipped = skipped + #page
end
return found
