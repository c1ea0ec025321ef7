-- A page of jobs, newest first. ARGV: prefix, tenant or "", most, id of the last page's last job or "", state, state ...
-- -> the records, each a flat list of fields and values; nil where the last page's job is gone
local _, tenant, most, before = unpack(ARGV)
local newest, last = "+inf", nil
if before ~= "" then
  last = load(before)
  if not last then return nil end
  newest = last.created
end

local found = {}
for i = 5, #ARGV do
  local index = tenant == "" and key("index", ARGV[i]) or key("index", ARGV[i], tenant)
  -- more than a page: jobs submitted in the very millisecond of the last page's last job are there again
  local page = redis.call("ZREVRANGEBYSCORE", index, newest, "-inf", "WITHSCORES", "LIMIT", 0, most + 256)
  for j = 1, #page, 2 do
    local score = tonumber(page[j + 1])
    if not last or score < tonumber(last.created) or page[j] < before then
      table.insert(found, {page[j], score})
    end
  end
end
table.sort(found, function(a, b) return a[2] > b[2] or (a[2] == b[2] and a[1] > b[1]) end)

local records = {}
for _, item in ipairs(found) do
  if #records == tonumber(most) then break end
  local record = redis.call("HGETALL", job_key(item[1]))
  if #record > 0 then table.insert(records, record) end  -- else it expired; a full page says that there may be more
end
return records
